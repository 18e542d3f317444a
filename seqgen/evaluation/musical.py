"""The music part of an evaluation: measures of the generated pieces beside those of real ones."""

from collections.abc import Sequence

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.music import Measures, compare, measure
from seqgen.evaluation.scales import decoded
from seqgen.midi import MidiFile
from seqgen.tokenizers import Tokenizer


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


def measure_generated(pieces: Sequence[Generated], *, progress: Progress) -> list[Measures]:
    """Measure what can be read of a generated set."""
    readable = [piece for piece in pieces if piece.midi is not None]
    measured = []
    for done, piece in enumerate(readable, start=1):
        measured.append(measure(piece.midi, ended_by_itself=piece.ended_by_itself))
        progress("measuring generated pieces", done, len(readable))
    return measured


def measure_real(pieces: Sequence[MidiFile], *, progress: Progress) -> list[Measures]:
    """Measure real pieces."""
    measured = []
    for done, midi in enumerate(pieces, start=1):
        measured.append(measure(midi))
        progress("measuring real pieces", done, len(pieces))
    return measured


def compare_music(
    generated: Sequence[Measures],
    real: Sequence[Measures],
    *,
    seed: int,
    of: str,
) -> dict:
    """The record of all measures; `of` says which pieces are the real ones."""
    comparisons = compare(generated, real, seed=seed)
    judged = [c for c in comparisons if c.verdict is not None]
    ended = [m.ended_by_itself for m in generated if m.ended_by_itself is not None]
    return {
        "generated_pieces": len(generated),
        "real_pieces": len(real),
        "real": of,
        "judged": len(judged),
        "beyond": [c.definition.title for c in judged if c.verdict == "beyond"],
        "ended_by_themselves": sum(ended) / len(ended) if ended else None,
        "comparisons": [
            {"title": c.definition.title, **c.to_json()}
            for c in comparisons
            if c.name != "ended_by_itself"
        ],
    }
