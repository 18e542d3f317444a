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

import numpy as np

from seqgen.errors import FileRejected
from seqgen.midi import ANY_SIZE, MidiFile, open_midi, summarize
from seqgen.tokenizers import Tokenizer

RESAMPLES, SEED = 1000, 0
QUANTILES = (0.025, 0.975)  # an interval holds 95% of the resampled means


@dataclass(frozen=True)
class Amount:
    """What a piece holds: of music the notes that miditoolkit reads, and the time to their end."""

    units: int = 0  # of its tokenizer
    seconds: float = 0.0  # text has none


@dataclass(frozen=True)
class Value:
    """A mean over pieces and its bootstrap interval; no interval where there is one piece only."""

    value: float
    low: float | None = None
    high: float | None = None

    def scaled(self, factor: float) -> "Value":
        """The same on another scale."""
        ends = [end if end is None else end * factor for end in (self.low, self.high)]
        return Value(self.value * factor, *ends)


def count_midi(midi: MidiFile) -> Amount:
    """Count what a piece of music holds."""
    summary = summarize(midi)
    return Amount(summary.n_notes, summary.seconds)


def decoded(ids: np.ndarray, tokenizer: Tokenizer) -> MidiFile | None:
    """Write tokens [T, F] as MIDI and read them back; None where no whole note is among them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mid"
        try:
            tokenizer.decode(ids, path)
            return open_midi(path, ANY_SIZE)
        except FileRejected:
            return None


def mean_of(sums: Sequence[float], counts: Sequence[float]) -> Value | None:
    """Divide the sum of `sums` [P] by that of `counts` [P], with a percentile interval over pieces.

    Pieces are drawn with replacement, and sums and counts of a piece stay together (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13). None where all counts
    are 0.
    """
    if sum(counts) <= 0:
        return None
    value = float(np.sum(sums) / np.sum(counts))
    if len(sums) < 2:
        return Value(value)
    return _with_interval(value, _resampled(sums, counts, np.random.default_rng(SEED)))


def gap_between(sums: Sequence[Sequence[float]], counts: Sequence[Sequence[float]]) -> Value | None:
    """Mean of the first set of pieces minus that of the second, each resampled by itself."""
    if min(sum(of_set) for of_set in counts) <= 0:
        return None
    first, second = (np.sum(s) / np.sum(c) for s, c in zip(sums, counts, strict=True))
    if min(len(of_set) for of_set in sums) < 2:
        return Value(float(first - second))
    drawn = [
        _resampled(s, c, np.random.default_rng([SEED, i]))
        for i, (s, c) in enumerate(zip(sums, counts, strict=True))
    ]
    return _with_interval(float(first - second), drawn[0] - drawn[1])


def _resampled(
    sums: Sequence[float], counts: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Means of sets drawn with replacement [R]; no number where nothing was counted in a set."""
    chosen = rng.integers(len(sums), size=(RESAMPLES, len(sums)))  # [R, P]
    totals, counted = (np.asarray(x, dtype=float)[chosen].sum(axis=1) for x in (sums, counts))
    return np.divide(totals, counted, out=np.full(RESAMPLES, np.nan), where=counted > 0)


def _with_interval(value: float, drawn: np.ndarray) -> Value:
    low, high = np.nanquantile(drawn, QUANTILES)
    return Value(value, float(low), float(high))
