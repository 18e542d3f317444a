"""The music part of an evaluation: measures of the generated pieces beside those of real ones."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.evaluation.music import Measures, compare, measure, opening
from seqgen.evaluation.reread import Reread
from seqgen.evaluation.scales import decoded
from seqgen.midi import MidiFile
from seqgen.tokenizers import Tokenizer

# Measures that grow with the length of a piece: of pieces that were cut they tell the limit.
GROWING = (
    *("n_notes", "n_bars", "seconds", "pitch_entropy", "pitch_class_entropy", "pitch_range"),
    *("n_pitches_used", "n_pitch_classes_used", "recurring_bars", "repeated_cycles"),
)
USUAL = 0.25  # the quantile of what cut pieces last that openings do: most cut ones reach it


def real_music(
    pieces: Sequence[np.ndarray], tokenizer: Tokenizer, *, progress: Progress
) -> list[MidiFile]:
    """Turn tokens [T, F] of real pieces into music again, as a model that writes them would.

    So both sets have passed the same grid, tempo and tracks; pieces without a note are left out.
    """
    music = []
    for done, ids in enumerate(pieces, start=1):
        music.append(decoded(ids, tokenizer))
        progress("decoding real pieces", done, len(pieces))
    return [midi for midi in music if midi is not None]


def measure_sets(
    generated: Sequence[Reread], real: Sequence[MidiFile], *, progress: Progress
) -> tuple[list[Measures], list[Measures], int | None]:
    """Measure what can be read of a generated set, and real pieces.

    Where generated pieces were cut, what grows with length is measured in openings of all pieces,
    of the number of bars that is returned; cut pieces that are shorter have no value for it.
    """
    readable = [piece for piece in generated if piece.midi is not None]
    ours = []
    for done, piece in enumerate(readable, start=1):
        ours.append(measure(piece.midi, ended_by_itself=piece.ended_by_itself))
        progress("measuring generated pieces", done, len(readable))
    theirs = []
    for done, midi in enumerate(real, start=1):
        theirs.append(measure(midi))
        progress("measuring real pieces", done, len(real))
    n_bars = openings_of(ours)
    if n_bars is not None:
        midis = [piece.midi for piece in readable]
        ours = [_opened(m, midi, n_bars) for m, midi in zip(ours, midis, strict=True)]
        theirs = [_opened(m, midi, n_bars) for m, midi in zip(theirs, real, strict=True)]
    return ours, theirs, n_bars


def openings_of(generated: Sequence[Measures]) -> int | None:
    """How many bars to compare: whole ones that most of the cut pieces have; None without any."""
    whole = [max(m.n_bars - 1, 1) for m in generated if m.ended_by_itself is False and m.n_notes]
    return int(np.quantile(whole, USUAL)) if whole else None


def _opened(measures: Measures, midi: MidiFile, n_bars: int) -> Measures:
    """The measures of a piece with those of its opening where they grow with length."""
    if measures.n_bars <= n_bars:
        is_short = measures.ended_by_itself is False and measures.n_bars < n_bars
        return replace(measures, **dict.fromkeys(GROWING)) if is_short else measures
    of_opening = measure(opening(midi, n_bars=n_bars))
    return replace(measures, **{name: getattr(of_opening, name) for name in GROWING})


def compare_music(
    generated: Sequence[Measures],
    real: Sequence[Measures],
    *,
    seed: int,
    of: str,
    openings: int | None,
) -> dict:
    """The record of all measures; `of` says which pieces are the real ones.

    `openings` is in how many first bars those were measured that grow with length.
    """
    comparisons = compare(generated, real, seed=seed)
    judged = [c for c in comparisons if c.verdict is not None]
    ended = [m.ended_by_itself for m in generated if m.ended_by_itself is not None]
    return {
        "generated_pieces": len(generated),
        "real_pieces": len(real),
        "real": of,
        "opening_bars": openings,
        "judged": len(judged),
        "beyond": [c.definition.title for c in judged if c.verdict == "beyond"],
        "ended_by_themselves": sum(ended) / len(ended) if ended else None,
        "comparisons": [
            {
                "title": c.definition.title,
                "in_openings": openings is not None and c.name in GROWING,
                **c.to_json(),
            }
            for c in comparisons
            if c.name != "ended_by_itself"
        ],
    }
