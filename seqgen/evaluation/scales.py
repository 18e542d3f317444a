"""Units of likelihood, and confidence intervals of means over pieces.

Nats per token depend on the tokenizer and are not comparable between tokenizers. Bits per unit
(`Tokenizer.unit`: a note, a byte) and per second are: they divide the bits of a piece, without its
special tokens, by what it holds. Notes and seconds are those that miditoolkit counts.

Legend: P pieces, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from seqgen.errors import FileRejected
from seqgen.midi import MidiFile, summarize
from seqgen.tokenizers import Preview, Tokenizer

RESAMPLES, SEED = 1000, 0
QUANTILES = (0.025, 0.975)  # an interval holds 95% of the resampled means
Value = dict[str, Any]  # of a record: `value`, and `low` and `high` of its interval, or None


@dataclass(frozen=True)
class Amount:
    """What a piece holds: of music the notes that miditoolkit reads, and the time to their end."""

    units: int = 0  # of its tokenizer
    seconds: float = 0.0  # text has none


def count_midi(midi: MidiFile) -> Amount:
    """Count what a piece of music holds."""
    summary = summarize(midi)
    return Amount(summary.n_notes, summary.seconds)


def decoded(ids: np.ndarray, tokenizer: Tokenizer) -> Preview | None:
    """Write tokens [T, F] as a file and read it; None where they hold nothing, as no whole note."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"piece{tokenizer.suffix}"
        try:
            tokenizer.decode(ids, path)
            return tokenizer.preview(path)
        except FileRejected:
            return None


def decoded_midi(ids: np.ndarray, tokenizer: Tokenizer) -> MidiFile | None:
    """Tokens [T, F] as music; None where they are none."""
    seen = decoded(ids, tokenizer)
    return seen if isinstance(seen, MidiFile) else None


def mean_of(
    sums: Sequence[float], counts: Sequence[float], *, minus: tuple | None = None
) -> Value | None:
    """Divide the sum of `sums` [P] by that of `counts` [P], with a percentile interval over pieces.

    With other sums and counts in `minus`, their mean is subtracted. Pieces are drawn with
    replacement, each set by itself; sums and counts of a piece stay together (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapters 6 and 13). None where all counts of a set are
    0; no interval where a set has one piece only.
    """
    value, drawn, fewest = 0.0, np.zeros(RESAMPLES), len(sums)
    for i, of_set in enumerate([(sums, counts)] if minus is None else [(sums, counts), minus]):
        found = np.array(of_set, dtype=float)  # [2, P]
        n, sign = found.shape[1], (-1) ** i
        if found[1].sum() <= 0:
            return None
        value += sign * float(found[0].sum() / found[1].sum())
        chosen = np.random.default_rng(SEED + i).integers(n, size=(RESAMPLES, n))
        totals, counted = found[:, chosen].sum(axis=2)  # [R]
        # No number where nothing was counted in a set that was drawn.
        drawn += sign * totals / np.where(counted > 0, counted, np.nan)
        fewest = min(fewest, n)
    low, high = np.nanquantile(drawn, QUANTILES).tolist() if fewest > 1 else (None, None)
    return {"value": value, "low": low, "high": high}


def scaled(value: Value | None, factor: float) -> Value | None:
    """The same on another scale."""
    return value and {key: x if x is None else x * factor for key, x in value.items()}
