"""Measures how well a run does what it is asked: controls, infill and accompaniment.

    python scripts/tasks.py RUN [--n 50] [--seed 0] [--guidance 2] [--tries 4] [--alternatives 4]
        [--only key,chords,infill]

Requests are made at random from the seed; files are written and measured from themselves. Held-out
pieces are those of the run's validation split, as they are in their files.
"""

import math
import random
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from seqgen.api.model import Model, load  # noqa: E402
from seqgen.checkpoint import RunFolder, read_run  # noqa: E402
from seqgen.data.shards import PreparedData  # noqa: E402
from seqgen.data.splits import VALIDATION  # noqa: E402
from seqgen.errors import FileRejected, UserError  # noqa: E402
from seqgen.evaluation.asked import read_bars  # noqa: E402
from seqgen.evaluation.likelihood import nats_of  # noqa: E402
from seqgen.midi import open_midi  # noqa: E402
from seqgen.tasks import Teller, known_tasks  # noqa: E402
from seqgen.tasks.bars import Bar, Passage  # noqa: E402
from seqgen.tasks.controls import BLOCK, LEVELS, MEASURED_BARS, MEASURES  # noqa: E402
from seqgen.tasks.harmony import KEYS, QUALITIES, key_of  # noqa: E402
from seqgen.tasks.infill import request as infill_request  # noqa: E402

PROGRESSIONS = ("C Am F G", "Am F C G", "Dm G C C", "G C G D", "F Bb C F", "Em Am B7 Em")
LONGEST_HOLE = 8  # bars
TOGETHER = 10  # pieces that are asked for the same thing


def controls(
    model: Model,
    names: list[str],
    n: int,
    *,
    seed: int,
    guidance: float,
    tries: int,
    alternatives: int,
) -> None:
    """Ask for one thing at a time, in pieces of eight bars, and count what is met.

    A bar of which something is asked is drawn `tries` times at most. Of each piece, `alternatives`
    are drawn, and the one that meets most is counted.
    """
    rng, met = random.Random(seed), defaultdict(list)
    asked = Teller(model.tokenizer).controls
    words = {
        "key": lambda: rng.choice(KEYS),
        "chords": lambda: rng.choice(PROGRESSIONS),
        "instruments": lambda: ",".join(
            sorted(rng.sample(asked.values("instruments"), rng.randint(1, 3)))
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for i in range(0, n, TOGETHER):
                wish = words.get(name, lambda: rng.choice(LEVELS))()
                options: dict = {"bars": 8, "max_tokens": 8192}
                asking = options | {"asked": {name: wish}, "guidance": guidance}
                if name in MEASURED_BARS:
                    asking["tries"] = tries
                together = {"samples": TOGETHER, "alternatives": TOGETHER, "seed": seed + i}
                if alternatives == 1:
                    wanted = model.generate(**asking, **together)
                else:
                    asking["alternatives"] = alternatives
                    seeds = (1000 * (seed + i) + k for k in range(TOGETHER))
                    wanted = [model.generate(**asking, seed=one)[0] for one in seeds]
                free = model.generate(metre="4/4", **options, **together)
                for kind, pieces in ((name, wanted), (f"{name}, not asked", free)):
                    for k, piece in enumerate(pieces):
                        path = piece.save(Path(folder) / f"{kind}-{i}-{k}.mid")
                        try:
                            found = {one.name: one.met for one in wanted[k].findings(path)}
                        except FileRejected:  # it holds no note, and so nothing of what was asked
                            found = {name: 0.0, "bars": 0.0}
                        met[kind].append(found[name])
                        if kind == name:
                            met["bars"].append(found["bars"])
            for kind in (name, f"{name}, not asked"):
                click.echo(f"{kind}: met {np.mean(met[kind]):.1%} of {len(met[kind])} pieces")
    if names:
        click.echo(f"bars: as many as asked in {np.mean(met['bars']):.1%} of {len(met['bars'])}")


def continuations(model: Model, files: list[Path], n: int, seed: int) -> None:
    """Continue the first eight bars of files, and count what the next eight have in common."""
    shares: dict[str, list[list[bool]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for i, file in enumerate(files[:n]):
            bars = [bar for _, bar in read_bars(open_midi(file))]
            if len(bars) < 2 * BLOCK:
                continue
            given = _traits(model, bars[:BLOCK])
            kinds = {"next in the file": None, "written": {}, "asked to stay": {"asked": given}}
            for kind, options in kinds.items():
                new = bars[BLOCK : 2 * BLOCK]
                if options is not None:
                    draws = {"prompt_bars": BLOCK, "bars": BLOCK, "max_tokens": 8192}
                    [piece] = model.generate(file, seed=seed + i, **draws, **options)
                    path = piece.save(Path(folder) / f"{kind}-{i}.mid")
                    new = [bar for _, bar in read_bars(open_midi(path))][BLOCK:]
                came = _traits(model, new) if new else {}
                shares[kind].append([came.get(name) == value for name, value in given.items()])
    for kind, found in shares.items():
        kept = ", ".join(
            f"{name} {share:.0%}" for name, share in zip(given, np.mean(found, axis=0), strict=True)
        )
        click.echo(f"continue: of {len(found)} prompts, {kind}, stays the same: {kept}")


def _traits(model: Model, bars: list[Bar]) -> dict[str, str]:
    """What some bars are as a whole, in words."""
    levels = model.tokenizer.config.levels
    found = {
        name: LEVELS[int(np.searchsorted(levels[name], MEASURES[name](bars)))]
        for name in ("density", "register")
    }
    return {"key": str(key_of(note for bar in bars for note in bar.notes)), **found}


def infill_likelihood(model: Model, pieces: list[Passage], seed: int) -> None:
    """Compare bits per note of true bars with both sides given, and with the left one alone."""
    rng, teller = random.Random(seed), Teller(model.tokenizer)
    totals: Counter = Counter()
    differences = []
    for piece in pieces:
        n_bars = rng.randint(1, min(LONGEST_HOLE, len(piece.bars) - 2))
        first = rng.randint(1, len(piece.bars) - n_bars - 1)
        hole = piece.bars[first : first + n_bars]
        written = [teller.parts] * n_bars
        asked = infill_request(
            teller, piece, first, first + n_bars, written, lambda k: {}, room=model.context_length
        )
        both = _nats(model, asked.prompt[:, 0].tolist(), hole, teller)
        left = [teller.bos, *(i for bar in piece.bars[:first] for i in teller.plain(bar))]
        alone = _nats(model, [*left, teller.bar, *hole[0].head], hole, teller)
        n_notes = sum(len(bar.notes) for bar in hole)
        totals.update(both=both, alone=alone, notes=n_notes)
        differences.append((both - alone) / math.log(2))
    bits = {name: totals[name] / math.log(2) / totals["notes"] for name in ("both", "alone")}
    better = np.mean(np.array(differences) < 0)
    click.echo(
        f"infill: {bits['both']:.3f} bits/note with both sides given, {bits['alone']:.3f} with the "
        f"left one alone; fewer in {better:.0%} of {len(pieces)} holes",
    )


def _nats(model: Model, prompt: list[int], hole: list[Bar], teller: Teller) -> float:
    """Nats of the music of some bars, the first of which the prompt has begun."""
    ids, is_music = list(prompt), [False] * len(prompt)
    for k, bar in enumerate(hole):
        opening = [teller.bar, *bar.head] if k else []
        music = teller.music(bar)
        ids += opening + music
        is_music += [False] * len(opening) + [True] * len(music)
    nats = nats_of(model.model, np.array(ids)[:, None])
    return float(nats[np.array(is_music[1:])].sum())


def edits(model: Model, files: list[Path], n: int, seed: int) -> None:
    """Rewrite bars at random and compare the files note by note outside of them."""
    rng, bars = random.Random(seed), 0
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            file = rng.choice(files)
            n_bars = len(read_bars(open_midi(file)))
            first = rng.randint(1, n_bars)
            last = min(first + rng.randint(0, 3), n_bars)
            try:
                [piece] = model.edit(file, rewrite=f"{first}-{last}", seed=seed + i)
            except UserError as error:
                faults[f"refused: {error}"] += 1
                continue
            path = piece.save(Path(folder) / f"{i}.mid")
            begin, end = piece.prompt.original.places[0][1], piece.prompt.original.places[-1][2]
            before, after = _notes(file), _notes(path)
            outside = [{n for n in x if not begin <= n[1] < end} for x in (before, after)]
            faults["a note outside changed"] += outside[0] != outside[1]
            faults["notes of one key overlap"] += _overlap(after) > _overlap(before)
            faults["bars not finished"] += not piece.ended
            bars += last - first + 1
    click.echo(f"edits: {n} of {bars} bars in all; faults: {dict(+faults) or 'none'}")


def _notes(path: Path) -> set[tuple[int, float, float, int, int]]:
    """The notes of a file: track, start and end in quarter notes, pitch, velocity."""
    midi = open_midi(path)
    ticks = midi.ticks_per_beat
    return {
        (k, note.start / ticks, note.end / ticks, note.pitch, note.velocity)
        for k, track in enumerate(midi.instruments)
        for note in track.notes
    }


def _overlap(notes: set[tuple[int, float, float, int, int]]) -> int:
    """How often a note begins on a key of its track that still sounds."""
    ends: dict[tuple[int, int], float] = {}
    n = 0
    for track, start, end, pitch, _ in sorted(notes, key=lambda note: note[1]):
        n += ends.get((track, pitch), 0.0) > start
        ends[track, pitch] = end
    return n


def accompaniments(model: Model, files: list[Path], n: int, seed: int) -> None:
    """Leave one part of each file, add the others, and count beats whose notes make a chord."""
    rng, shares = random.Random(seed), defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            file = rng.choice(files)
            midi = open_midi(file)
            if len(midi.instruments) < 2:
                continue
            names = [track.name.lower() for track in midi.instruments]
            shares["real"].append(chords_on_beats(file))
            midi.instruments = midi.instruments[:1]
            alone = Path(folder) / f"{i}-alone.mid"
            midi.dump(str(alone))
            [piece] = model.edit(alone, add=",".join(names[1:]), seed=seed + i)
            shares["added"].append(chords_on_beats(piece.save(Path(folder) / f"{i}.mid")))
    for kind, found in shares.items():
        click.echo(f"accompany: {np.mean(found):.1%} of beats make a chord, {kind} ({len(found)})")


def chords_on_beats(path: Path) -> float:
    """The share of beats on which three or more notes sound that are tones of one chord."""
    midi = open_midi(path)
    notes = [note for track in midi.instruments if not track.is_drum for note in track.notes]
    end = max(note.end for note in notes)
    found = []
    for tick in range(0, end, midi.ticks_per_beat):
        tones = {note.pitch % 12 for note in notes if note.start <= tick < note.end}
        chords = ({(k + x) % 12 for x in q} for q in QUALITIES.values() for k in range(12))
        found.append(len(tones) > 1 and any(tones <= chord for chord in chords))
    return float(np.mean(found))


@click.command()
@click.argument("run")
@click.option("--n", default=50, show_default=True, help="Requests of each kind.")
@click.option("--seed", default=0, show_default=True, help="Of the requests and draws.")
@click.option("--guidance", default=1.0, show_default=True, help="Of the controls.")
@click.option("--tries", default=1, show_default=True, help="Of each bar.")
@click.option("--alternatives", default=1, show_default=True, help="Of each piece.")
@click.option("--only", help="Tasks and controls to measure, as in infill,key. By default all.")
@click.option(
    "--files",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of MIDI files to edit. By default the source of the held-out pieces.",
)
def main(
    run: str,
    n: int,
    seed: int,
    guidance: float,
    tries: int,
    alternatives: int,
    only: str | None,
    files: Path | None,
) -> None:
    """Measure RUN."""
    model = load(run)
    data = PreparedData(Path(read_run(RunFolder(Path(run)))["data"]))
    held_out = data.of_split(VALIDATION)
    reader = Teller(model.tokenizer).reader
    pieces = [
        piece for piece in (reader.read(data.read(one)) for one in held_out) if len(piece.bars) > 2
    ]
    folder = files or Path(next(iter(data.index["sources"].values())))
    paths = [path for one in held_out for path in folder.rglob(one.file)]
    known = known_tasks(model.tokenizer.config)
    all_controls = Teller(model.tokenizer).controls.names
    names = [name for name in all_controls if name != "bars"]
    if only is not None:
        known, names = ([x for x in all_ if x in only.split(",")] for all_ in (known, names))
    click.echo(f"{run}: {', '.join(known)}; {len(pieces)} held-out pieces, {len(paths)} files")
    if "continue" in known and {"key", "density", "register"} <= set(all_controls):
        continuations(model, paths, n, seed)
    if "infill" in known:
        infill_likelihood(model, pieces, seed)
        edits(model, paths, n, seed)
    if "accompany" in known:
        accompaniments(model, paths, min(n, 20), seed)
    draws = {"guidance": guidance, "tries": tries, "alternatives": alternatives}
    controls(model, names, n, seed=seed, **draws)


if __name__ == "__main__":
    main()
