"""The pictures of a page, each for light and for dark, its sounds, and the page around them."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seqgen.data.corpora import Progress, tracked
from seqgen.errors import UserError
from seqgen.evaluation.evaluate import PageMaterial
from seqgen.evaluation.generated import GeneratedFile
from seqgen.evaluation.music.definitions import MEASURES
from seqgen.evaluation.page.render import PagePicture, render
from seqgen.evaluation.verdict import own_part
from seqgen.files import counted
from seqgen.midi import MidiFile, summarize
from seqgen.midi.timing import TempoMap, bars_and_beats, last_note_end
from seqgen.rendering.curves import Curve, draw_by_position, draw_loss_curves
from seqgen.rendering.distributions import Panel, draw_distributions, draw_runs
from seqgen.rendering.figures import svg_text
from seqgen.rendering.piano_roll import draw_piano_roll
from seqgen.rendering.previews import draw_picture, tiled
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.rendering.sound.synthesis import synthesise
from seqgen.rendering.sound.synthesizer import Synthesizer
from seqgen.rendering.theme import DARK, LIGHT

N_SAMPLES = 4  # pieces of each set that can be heard
OPENING_SECONDS = 30.0  # of a piece that is heard and pictured: some 200 kB
COMPRESSION = 1.0  # the smallest Ogg file, of some 50 kbit/s
MAX_PICTURED_NOTES = 4000  # of a piece: a picture of more weighs a megabyte
# Measures whose spread is pictured, beside the histograms.
SCALARS = (
    *("notes_per_bar", "polyphony", "scale_consistency", "pitch_range", "groove_consistency"),
    *("bar_similarity_1", "bar_similarity_4", "repeated_notes", "repeated_cycles"),
)
# Histograms, what their bins are, and which bins are named: there is no room for all names.
HISTOGRAMS = {
    "pitch_histogram": ("pitch; C4 is middle C", ("C1", "C2", "C3", "C4", "C5", "C6", "C7")),
    "pitch_class_histogram": ("note name", None),
    "duration_histogram": ("quarter notes", ("0.125", "0.25", "0.5", "1", "2", "4", "8")),
    "onset_histogram": ("quarter notes after the bar line", ("0", "1", "2", "3")),
    "repeat_distances": ("bars back", ("1", "2", "4", "8", "16", "32")),
}
MAX_PICTURES = 100  # images of each set that are shown
FEWEST_RANGES = 3  # of positions: short pieces have no curve
Heard = tuple[str, Any, float | None, str]  # name, piece, end of its prompt (s), caption


def build_page(record: Mapping, material: PageMaterial, *, progress: Progress) -> str:
    """Return the page of a record as HTML."""
    ours = choose_pieces([_heard(piece) for piece in material.pieces])
    theirs = choose_pieces([(name, seen, None, name) for name, seen in material.held_out])
    seen = (one.preview for one in material.pieces), (preview for _, preview in material.held_out)
    made, given = ([x for x in of if isinstance(x, np.ndarray)][:MAX_PICTURES] for of in seen)
    sounds, about_sound = play_openings([x[1] for x in (*ours, *theirs)], progress=progress)
    oggs = iter(sounds)
    kinds: dict[str, Callable[[], Sequence[PagePicture | None]]] = {
        "samples": lambda: [_roll(heard, next(oggs)) for heard in ours],
        "grid": lambda: [*_tiled(made, "generated"), *_tiled(given[: len(made)], "real")],
        "held_out": lambda: [_roll(heard, next(oggs)) for heard in theirs],
        "distributions": lambda: _distributions(material, record["music"] or {}),
        "runs": lambda: _runs(record),
        "curves": lambda: _learning(record),
        "position": lambda: [_positions(record, part) for part in record["likelihood"]["sets"]],
    }
    drawn = tracked(list(kinds.items()), "drawing the page", progress)
    return render(record, {name: draw() for name, draw in drawn}, about_sound=about_sound)


def choose_pieces(pieces: Sequence[Heard]) -> list[Heard]:
    """Choose pieces of about the median length of their set, in the order of the set.

    Those that are no music, and those too long to be pictured, are not among them.
    """
    seconds = {}  # by place in the set
    for i, (_, midi, *_) in enumerate(pieces):
        summary = summarize(midi) if isinstance(midi, MidiFile) else None
        if summary is not None and 0 < summary.n_notes <= MAX_PICTURED_NOTES:
            seconds[i] = summary.seconds
    median = np.median([*seconds.values()]) if seconds else 0.0
    by_distance = sorted(seconds, key=lambda i: abs(seconds[i] - median))
    return [pieces[i] for i in sorted(by_distance[:N_SAMPLES])]


def play_openings(pieces: Sequence[MidiFile], *, progress: Progress) -> tuple[list[bytes], str]:
    """Return an Ogg file for each piece, and what to say of them.

    It is empty where a piece cannot be played; where nothing can, the words say why.
    """
    sounds = [b""] * len(pieces)
    if not pieces:
        return sounds, ""
    try:
        soundfont = find_soundfont()
        synthesizer = Synthesizer(soundfont)
    except UserError as error:
        return sounds, f"This page has no sound: {error}"
    for i, midi in enumerate(pieces):
        with contextlib.suppress(UserError):
            sound = synthesise(midi, synthesizer, opening_seconds=OPENING_SECONDS)
            sounds[i] = sound.encode(".ogg", compression_level=COMPRESSION)
        progress("playing pieces", i + 1, len(pieces))
    if not any(sounds):
        return sounds, "This page has no sound: none of these pieces could be played."
    return sounds, (
        f"The first {OPENING_SECONDS:.0f} s of each, all played the same way, by FluidSynth with "
        f"the soundfont {soundfont.name}."
    )


def _heard(piece: GeneratedFile) -> Heard:
    begins = piece.record.get("prompt_seconds") if piece.prompted else None
    ended = {True: ", ends by itself", False: ", cut", None: ""}[piece.ended_by_itself]
    return piece.name, piece.midi, begins, f"{piece.name}{ended}"


def _roll(heard: Heard, ogg: bytes) -> PagePicture:
    """The bars of a piece that are heard, and their sound."""
    name, midi, begins, caption = heard
    bars, _ = bars_and_beats(midi, last_note_end(midi))
    n_bars = int(np.searchsorted(bars, TempoMap(midi).to_ticks(OPENING_SECONDS)))
    shown = (0, max(1, n_bars))
    draw = partial(draw_piano_roll, midi, continuation_from_seconds=begins, bars=shown)
    return _both(draw, f"Piano roll of {name}", caption, ogg)


def _tiled(pictures: Sequence[np.ndarray], what: str) -> list[PagePicture]:
    """All pictures side by side; none where there are none."""
    if not pictures:
        return []
    title = counted(len(pictures), f"{what} image")
    return [_both(partial(draw_picture, tiled(pictures), title=title), title)]


def _both(
    draw: Callable[..., Figure], alt: str, caption: str = "", ogg: bytes = b""
) -> PagePicture:
    """Draw a picture with each theme."""
    light, dark = svg_text(draw(theme=LIGHT)), svg_text(draw(theme=DARK))
    return PagePicture(light, dark, alt, caption, ogg)


def _learning(record: Mapping) -> list[PagePicture]:
    curve, likelihood = record["learning_curve"], record["likelihood"]
    if not curve["training"] and not curve["validation"]:
        return []
    curves = [
        Curve(name, [x for x, _ in curve[name]], [y for _, y in curve[name]], role=role)
        for name, role in (("training", "training"), ("validation", "model"))
        if curve[name]
    ]
    own, best_step = own_part(likelihood["sets"]), likelihood["step"]
    references = _levels(own, ("unigram", "bigram", "5-gram")) if own else {}
    references["untrained"] = likelihood["chance_nats_per_token"]
    draw = partial(draw_loss_curves, curves, references=references, best_step=best_step)
    caption = (
        "Loss over training steps, nats per token. Training losses are measured with dropout and "
        "transpositions, where the run has them, so they may lie above validation."
    )
    if own:
        caption += f" Levels of n-gram models are those of the {own['name']} pieces."
    return [_both(draw, "Training and validation loss over steps", caption)]


def _positions(record: Mapping, part: Mapping) -> PagePicture | None:
    forms, length = part["forms"], record["likelihood"]["context_length"]
    if len(forms["parallel"]) < FEWEST_RANGES:
        return None
    curves = [
        Curve("parallel form", *_middles(forms["parallel"])),
        Curve("recurrent form", *_middles(forms["recurrent"]), role="recurrent"),
    ]
    for rival in part["beside"]:
        role = "softmax" if rival["attention"].startswith("softmax") else "other"
        curves.append(Curve(rival["name"], *_middles(rival["by_position"]), role=role))
    references = _levels(part, ("5-gram",))
    draw = partial(draw_by_position, curves, references=references, training_length=length)
    return _both(
        draw,
        f"Nats per token over the position in {part['name']} pieces",
        f"{part['name'].capitalize()}: nats per token over the position in whole pieces. "
        f"Positions to the right of the line lie beyond the {length:,} tokens of a training "
        f"window. Only longer pieces reach there, which may change the curve too.",
    )


def _distributions(material: PageMaterial, music: Mapping) -> list[PagePicture]:
    opening_bars = music.get("opening_bars")
    grown = f" What grows with length is of the first {opening_bars} bars."
    groups = (
        (HISTOGRAMS, "Shares of notes, averaged over pieces", ""),
        (SCALARS, "One value for each piece", grown if opening_bars is not None else ""),
    )
    pictures = []
    for names, caption, more in groups:
        panels = [panel for name in names if (panel := _panel(name, material))]
        if panels:
            draw = partial(draw_distributions, panels, labels=("real", "generated"))
            pictures.append(_both(draw, caption, f"{caption}: real and generated pieces.{more}"))
    return pictures


def _panel(name: str, material: PageMaterial) -> Panel | None:
    """One measure of both sets; None where one of them has no value for it, or all are the same."""
    real, generated = (
        [piece[name] for piece in pieces if piece[name] is not None]
        for pieces in (material.real, material.generated)
    )
    if not (real and generated):
        return None
    measure = MEASURES[name]
    if measure.kind == "scalar":
        is_flat = len({*real, *generated}) == 1
        return None if is_flat else Panel(measure.title, real, generated, unit=measure.unit)
    unit, named = HISTOGRAMS[name]
    bins = [label if named is None or label in named else "" for label in measure.bins]
    means = [np.mean(values, axis=0) for values in (real, generated)]
    occupied = np.flatnonzero(sum(means))
    shown = slice(occupied[0], occupied[-1] + 1)
    data, generated = (mean[shown].tolist() for mean in means)
    return Panel(measure.title, data, generated, unit=unit, categories=bins[shown])


def _runs(record: Mapping) -> list[PagePicture]:
    pictures = []
    for kind in ("notes", "tokens"):
        part = record["copying"].get(kind)
        if part is None or not part["generated"]["pieces"]:
            continue
        ours, theirs = (part[x]["pieces"] for x in ("generated", "held_out"))
        draw = partial(
            draw_runs,
            *([max(p["fresh"], 1) for p in pieces] for pieces in (ours, theirs)),
            unit=f"fresh {kind}",
            limit=part["limits"]["run"],
            names=[p["name"] for p in ours],
        )
        what = f"Longest run of {kind} that each piece shares with "
        caption = (
            f"{what}a training piece, counted in fresh {kind}: without what the run repeats of "
            "itself. A piece beyond the line is flagged; the table names the other reasons for a "
            "flag."
        )
        pictures.append(_both(draw, f"{what}the training set", caption))
    return pictures


def _levels(part: Mapping, names: Sequence[str]) -> dict[str, float]:
    """Nats per token of some n-gram models."""
    return {
        e["name"]: e["nats_per_token"]["value"]
        for e in part["models"]
        if e["kind"] == "n-gram" and e["name"] in names
    }


def _middles(ranges: Sequence[Mapping]) -> tuple[list, list]:
    """Ranges of positions as points at their geometric middle."""
    x = [((r["start"] + 1) * r["stop"]) ** 0.5 for r in ranges]
    return x, [r["nats_per_token"] for r in ranges]
