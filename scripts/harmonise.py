"""Measures harmonisers: runs that write the lower voices of chorales for their sopranos.

    python scripts/harmonise.py RUN [RUN ...] [--n 20] [--seed 0] [--temperature 0.9]

All are measured on the same held-out chorales (of the first run's data), beside these themselves:

- nats per note and per token of the lower voices, given the soprano, on the whole test split;
- notes in range: how many of a voice's notes lie where 99% of those of the training pieces do;
- parallel fifths and octaves per bar: two voices that both move, from one to the next;
- crossings: the share of moments at which a voice is above the one that should be over it;
- chords: the share of beats on which what sounds is part of one chord.
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from tasks import chords_on_beats  # noqa: E402

from seqgen.api.model import Model, load  # noqa: E402
from seqgen.api.prompts import draw, read_sources  # noqa: E402
from seqgen.checkpoint import RunFolder, read_run  # noqa: E402
from seqgen.data.corpora import locate  # noqa: E402
from seqgen.data.shards import PreparedData  # noqa: E402
from seqgen.data.splits import TEST, TRAIN, VALIDATION  # noqa: E402
from seqgen.decoding import continuations  # noqa: E402
from seqgen.evaluation.asked import read_bars  # noqa: E402
from seqgen.evaluation.likelihood import PairScore, score_pairs  # noqa: E402
from seqgen.midi import MidiFile, open_midi  # noqa: E402
from seqgen.sampling import Sampling  # noqa: E402
from seqgen.tasks import open_pairs  # noqa: E402

VOICES = ("soprano", "alto", "tenor", "bass")
FIFTH, OCTAVE = 7, 0  # semitones, octaves apart left out
IN_RANGE = (0.5, 99.5)  # percentiles
Moment = dict[str, int]  # the pitch of each voice that sounds
Ranges = dict[str, tuple[float, float]]


def likelihood(model: Model, data: PreparedData) -> PairScore:
    """Score the held-out targets of a split that no training has looked at."""
    pairs = open_pairs(model.pairs or "", model.tokenizer)
    sizes = {"context_length": model.context_length, "max_targets": 10**7}
    return score_pairs(model.model, data, pairs, TEST, **sizes)


def harmonise(model: Model, files: Sequence[Path], folder: Path, **settings: float) -> list[Path]:
    """Write the lower voices for the soprano of each file."""
    prompts = read_sources([str(file) for file in files], model.tokenizer, model.pairs)
    sampling = Sampling(temperature=settings["temperature"])
    options = {"max_tokens": 4096, "seed": int(settings["seed"])}
    steps = draw(model.decoder, model.tokenizer, prompts, sampling=sampling, **options)
    written = []
    for found in continuations(steps):
        prompt, path = prompts[found.row], folder / f"{files[found.row].stem}.mid"
        model.tokenizer.decode(prompt.whole(found.tokens), path, tempo=prompt.tempo)
        written.append(path)
    return written


def voices_of(midi: MidiFile) -> dict[str, list]:
    """Return the notes of each voice, by the names of the tracks."""
    named = ((track.name.lower(), track.notes) for track in midi.instruments)
    return {name: notes for name, notes in named if name in VOICES}


def moments(midi: MidiFile) -> Iterator[Moment]:
    """Yield what sounds whenever a note begins."""
    voices = voices_of(midi)
    for tick in sorted({note.start for notes in voices.values() for note in notes}):
        yield {
            name: note.pitch
            for name, notes in voices.items()
            for note in notes
            if note.start <= tick < note.end
        }


def parallels(sounding: Sequence[Moment], interval: int) -> int:
    """Count how often two voices both move from this interval to the same one."""
    n = 0
    for a, b in pairwise(sounding):
        for high, low in combinations([v for v in VOICES if v in a and v in b], 2):
            both_move = a[high] != b[high] and a[low] != b[low]
            n += both_move and all((x[high] - x[low]) % 12 == interval for x in (a, b))
    return n


def measure(paths: Sequence[Path], ranges: Ranges) -> dict[str, float]:
    """Measure files as the module says."""
    counts: dict[str, float] = defaultdict(float)
    for path in paths:
        midi = open_midi(path)
        sounding = list(moments(midi))
        counts["bars"] += len(read_bars(midi))
        for name, interval in (("fifths", FIFTH), ("octaves", OCTAVE)):
            counts[name] += parallels(sounding, interval)
        for moment in sounding:
            order = [moment[voice] for voice in VOICES if voice in moment]
            counts["pairs"] += len(order) - 1
            counts["crossings"] += sum(low > high for high, low in pairwise(order))
        for voice, notes in voices_of(midi).items():
            low, high = ranges[voice]
            counts["notes"] += len(notes) * (voice != "soprano")
            counts["in range"] += sum(low <= n.pitch <= high for n in notes) * (voice != "soprano")
        counts["chords"] += chords_on_beats(path)
    return {
        "in range": counts["in range"] / counts["notes"],
        "fifths": counts["fifths"] / counts["bars"],
        "octaves": counts["octaves"] / counts["bars"],
        "crossings": counts["crossings"] / max(counts["pairs"], 1),
        "chords": counts["chords"] / len(paths),
    }


def ranges_of(paths: Sequence[Path]) -> Ranges:
    """Return where most pitches of each voice lie."""
    pitches = defaultdict(list)
    for path in paths:
        for voice, notes in voices_of(open_midi(path)).items():
            pitches[voice] += [note.pitch for note in notes]
    return {voice: tuple(np.percentile(found, IN_RANGE)) for voice, found in pitches.items()}


def tell(name: str, found: dict[str, float], likely: PairScore | None) -> None:
    """Print a row."""
    nats = ""
    if likely is not None:
        nats = f"{likely.nats_per_unit:.3f} nats/note, {likely.nats_per_token:.4f} nats/token, "
    click.echo(
        f"{name}: {nats}{found['in range']:.1%} of notes in range, "
        f"{found['fifths']:.3f} parallel fifths and {found['octaves']:.3f} octaves per bar, "
        f"{found['crossings']:.1%} crossings, {found['chords']:.1%} of beats a chord"
    )


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--n", default=20, show_default=True, help="Held-out chorales to harmonise.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--temperature", default=0.9, show_default=True, help="Of the draws.")
def main(runs: Sequence[str], n: int, seed: int, temperature: float) -> None:
    """Measure RUNS beside the chorales themselves."""
    data = PreparedData(Path(read_run(RunFolder(Path(runs[0])))["data"]))
    files = {
        split: [path for x in data.of_split(split) if (path := _path(data, x.file))]
        for split in (TRAIN, VALIDATION, TEST)
    }
    held_out = [*files[TEST], *files[VALIDATION]][:n]
    ranges = ranges_of(files[TRAIN])
    tell(f"real ({len(held_out)} held-out chorales)", measure(held_out, ranges), None)
    for run in runs:
        model = load(run)
        with tempfile.TemporaryDirectory() as folder:
            settings = {"seed": seed, "temperature": temperature}
            written = harmonise(model, held_out, Path(folder), **settings)
            tell(run, measure(written, ranges), likelihood(model, data))


def _path(data: PreparedData, label: str) -> Path | None:
    return locate(data.index["sources"], label)


if __name__ == "__main__":
    main()
