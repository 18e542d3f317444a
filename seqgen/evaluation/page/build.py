"""The pictures of a page, each for light and for dark, and its sounds, and the page around them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from seqgen.data.corpora import Progress
from seqgen.evaluation.evaluate import PageMaterial
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.music import DEFINITIONS, Measures
from seqgen.evaluation.page.render import Picture, own_part, render
from seqgen.evaluation.page.sounds import play_openings
from seqgen.rendering.curves import Curve, draw_by_position, draw_loss_curves
from seqgen.rendering.distributions import Comparison, draw_distributions, draw_runs
from seqgen.rendering.figures import svg_text
from seqgen.rendering.piano_roll import draw_piano_roll
from seqgen.rendering.theme import DARK, LIGHT, Theme

N_SAMPLES = 4  # generated pieces that are pictured
MAX_PICTURED_NOTES = 4000  # of one of them: a picture of more weighs a megabyte
SCALARS = (
    *("pitch_class_entropy", "scale_consistency", "polyphony", "notes_per_bar"),
    *("pitch_range", "groove_consistency", "bar_similarity_1", "bar_similarity_4"),
    *("recurring_bars", "repeated_cycles", "empty_bar_rate", "seconds"),
)
# Histograms, what their bins are, and which bins are named: there is no room for all names.
HISTOGRAMS = {
    "pitch_class_histogram": ("pitch class", None),
    "duration_histogram": ("quarter notes", ("0.125", "0.25", "0.5", "1", "2", "4", "8")),
    "onset_histogram": ("quarter notes after the bar line", ("0", "1", "2", "3")),
}


def build_page(record: Mapping, material: PageMaterial, *, progress: Progress) -> str:
    """Return the page of a record as HTML."""
    samples = choose_samples(material.pieces)
    sounds, about_sound = play_openings(samples, progress=progress)
    kinds = {
        "curves": lambda: _learning(record),
        "position": lambda: [_positions(record, part) for part in record["likelihood"]["sets"]],
        "distributions": lambda: _distributions(material, record["music"].get("opening_bars")),
        "runs": lambda: _runs(record),
        "samples": lambda: [_roll(piece, sounds.get(piece.name, b"")) for piece in samples],
    }
    pictures = {}
    for done, (name, draw) in enumerate(kinds.items()):
        progress("drawing the page", done, len(kinds))
        pictures[name] = draw()
    progress("drawing the page", len(kinds), len(kinds))
    return render(record, pictures, about_sound=about_sound)


def choose_samples(pieces: Sequence[Generated]) -> list[Generated]:
    """The first pieces that can be read and are not too long to be pictured: nobody has picked."""
    readable = [
        piece
        for piece in pieces
        if piece.midi is not None
        and sum(len(track.notes) for track in piece.midi.instruments) <= MAX_PICTURED_NOTES
    ]
    return readable[:N_SAMPLES]


def _both(draw: Callable[[Theme], Figure], alt: str, caption: str = "") -> Picture:
    return Picture(svg_text(draw(LIGHT)), svg_text(draw(DARK)), alt, caption)


def _learning(record: Mapping) -> list[Picture]:
    curve, likelihood = record["learning_curve"], record["likelihood"]
    if not curve["training"] and not curve["validation"]:
        return []
    curves = [
        Curve("training", *_columns(curve["training"]), role="training"),
        Curve("validation", *_columns(curve["validation"]), role="model"),
    ]
    own = own_part(likelihood["sets"])
    references = _levels(own, ("unigram", "bigram", "5-gram")) if own else {}
    references["untrained"] = likelihood["chance_nats_per_token"]
    return [
        _both(
            lambda theme: draw_loss_curves(
                [c for c in curves if len(c.x)],
                references=references,
                best_step=likelihood["step"],
                theme=theme,
            ),
            "Training and validation loss over steps",
            "Loss over training steps, nats per token. Training losses are measured with dropout "
            "and transpositions, where the run has them, so they may lie above validation."
            + (f" Levels of count models are those of the {own['label']} pieces." if own else ""),
        )
    ]


def _positions(record: Mapping, part: Mapping) -> Picture:
    forms, length = part["forms"], record["likelihood"]["context_length"]
    curves = [
        Curve("parallel form", *_middles(forms["parallel"])),
        Curve("recurrent form", *_middles(forms["recurrent"]), role="recurrent"),
    ]
    for rival in part["beside"]:
        role = "softmax" if rival["attention"].startswith("softmax") else "other"
        curves.append(Curve(rival["name"], *_middles(rival["by_position"]), role=role))
    return _both(
        lambda theme: draw_by_position(
            curves,
            references=_levels(part, ("5-gram",)),
            training_length=length,
            theme=theme,
        ),
        f"Nats per token over the position in {part['label']} pieces",
        f"{part['label'].capitalize()}: nats per token over the position in whole pieces. To the "
        f"right of the line lie positions beyond the {length:,} tokens of a training window; only "
        f"longer pieces reach there, so the curve may also turn with the pieces.",
    )


def _distributions(material: PageMaterial, opening_bars: int | None) -> list[Picture]:
    if not material.generated or not material.real:
        return []
    of_openings = ""
    if opening_bars is not None:
        of_openings = f" What grows with length is of the first {opening_bars} bars."
    histograms = [_histogram(name, material) for name in HISTOGRAMS]
    scalars = [_scalar(name, material) for name in SCALARS]
    groups = [
        ([c for c in histograms if c], 3, "Shares of notes, averaged over pieces", ""),
        ([c for c in scalars if c], 3, "One value for each piece", of_openings),
    ]
    return [
        _both(
            lambda theme, shown=shown, n=n: draw_distributions(
                shown, labels=("real", "generated"), n_columns=n, theme=theme
            ),
            caption,
            f"{caption}: real and generated pieces.{more}",
        )
        for shown, n, caption, more in groups
        if shown
    ]


def _histogram(name: str, material: PageMaterial) -> Comparison | None:
    real, ours = (_values(name, pieces) for pieces in (material.real, material.generated))
    if not real or not ours:
        return None
    definition = DEFINITIONS[name]
    unit, named = HISTOGRAMS[name]
    bins = [label if named is None or label in named else "" for label in definition.bins]
    means = [[sum(column) / len(column) for column in zip(*x, strict=True)] for x in (real, ours)]
    return Comparison(definition.title, *means, unit=unit, categories=bins)


def _scalar(name: str, material: PageMaterial) -> Comparison | None:
    real, ours = (_values(name, pieces) for pieces in (material.real, material.generated))
    if not real or not ours:
        return None
    definition = DEFINITIONS[name]
    return Comparison(definition.title, real, ours, unit=definition.unit)


def _values(name: str, pieces: Sequence[Measures]) -> list:
    values = (getattr(piece, name) for piece in pieces)
    return [value for value in values if value is not None]


def _runs(record: Mapping) -> list[Picture]:
    pictures = []
    for kind in ("notes", "tokens"):
        part = record["copying"].get(kind)
        if part is None or not part["generated"]["pieces"]:
            continue
        ours, theirs = (part[x]["pieces"] for x in ("generated", "held_out"))
        pictures.append(
            _both(
                lambda theme, ours=ours, theirs=theirs, kind=kind, part=part: draw_runs(
                    [max(p["fresh"], 1) for p in ours],
                    [max(p["fresh"], 1) for p in theirs],
                    unit=f"fresh {kind}",
                    limit=part["limits"]["run"],
                    names=[p["name"] for p in ours],
                    theme=theme,
                ),
                f"Longest run of {kind} that each piece shares with the training set",
                f"Longest run of {kind} that each piece shares with a training piece, counted in "
                f"fresh {kind}: without what the run repeats of itself. Beyond the line a piece is "
                f"flagged; it may also be for other reasons, which the table tells.",
            )
        )
    return pictures


def _roll(piece: Generated, ogg: bytes) -> Picture:
    begins = piece.record.get("prompt_seconds") if piece.prompted else None
    ended = {True: ", ended by itself", False: ", cut", None: ""}[piece.ended_by_itself]
    picture = _both(
        lambda theme: draw_piano_roll(
            piece.midi,
            title=piece.name,
            continuation_from_seconds=begins if isinstance(begins, int | float) else None,
            theme=theme,
        ),
        f"Piano roll of {piece.name}",
        f"{piece.name}{ended}",
    )
    return replace(picture, ogg=ogg)


def _levels(part: Mapping, names: Sequence[str]) -> dict[str, float]:
    """Nats per token of some count models."""
    return {
        e["name"]: e["nats_per_token"]["value"]
        for e in part["models"]
        if e["kind"] == "counts" and e["name"] in names
    }


def _columns(points: Sequence[Sequence[float]]) -> tuple[list, list]:
    return [x for x, _ in points], [y for _, y in points]


def _middles(ranges: Sequence[Mapping]) -> tuple[list, list]:
    """Ranges of positions as points at their geometric middle."""
    x = [((r["start"] + 1) * r["stop"]) ** 0.5 for r in ranges]
    return x, [r["nats_per_token"] for r in ranges]
