"""The scales of a likelihood, each with a name of its own, and how sure a mean over pieces is.

Nats per token are a tokenizer's own and are never set beside those of another one. Bits per note,
per second and per byte divide the bits of what a piece holds (its special tokens left out of both
sums) by what another reader than the tokenizer counts in it.

Legend: P pieces, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seqgen.errors import FileRejected
from seqgen.midi import ANY_SIZE, MidiFile, open_midi, summarize
from seqgen.tokenizers import Tokenizer

RESAMPLES = 1000
SHARE = 0.95  # of the resampled means that an interval holds


@dataclass(frozen=True)
class Amount:
    """What a piece holds: notes and seconds of music as miditoolkit reads them, or bytes of text.

    Seconds reach from the beginning to the end of the last note.
    """

    notes: int = 0
    seconds: float = 0.0
    bytes: int = 0


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


def count_file(path: Path) -> Amount:
    """Count what a MIDI file holds, with miditoolkit through the gate."""
    return count_midi(open_midi(path, ANY_SIZE))


def count_midi(midi: MidiFile) -> Amount:
    """Count what a piece in memory holds."""
    summary = summarize(midi)
    return Amount(notes=summary.n_notes, seconds=summary.seconds)


def decoded(ids: np.ndarray, tokenizer: Tokenizer) -> MidiFile | None:
    """Write tokens [T, F] as MIDI and read them back; None where no whole note is among them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mid"
        try:
            tokenizer.decode(ids, path)
            return open_midi(path, ANY_SIZE)
        except FileRejected:
            return None


def count_tokens(ids: np.ndarray, tokenizer: Tokenizer) -> Amount:
    """Count what tokens [T, F] stand for: decoded and read by miditoolkit, or the bytes of text."""
    if tokenizer.suffix != ".mid":
        return Amount(bytes=tokenizer.units(ids))
    midi = decoded(ids, tokenizer)
    return Amount() if midi is None else count_midi(midi)


def mean_of(
    sums: Sequence[float], counts: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Value | None:
    """Divide the sum of `sums` [P] by that of `counts` [P], with a percentile interval over pieces.

    Pieces are drawn with replacement and sums and counts of a piece stay together (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13). None where all counts
    are 0.
    """
    sums, counts = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    if counts.sum() <= 0:
        return None
    value = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Value(value)
    chosen = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))  # [R, P]
    totals = counts[chosen].sum(axis=1)
    means = sums[chosen].sum(axis=1)[totals > 0] / totals[totals > 0]
    return Value(value, *_ends(means))


def gap_between(
    sums: Sequence[Sequence[float]], counts: Sequence[Sequence[float]], *, seed: int = 0
) -> Value | None:
    """Mean of the first set of pieces minus that of the second, each resampled by itself."""
    means = []
    for i, (of_set, n_of_set) in enumerate(zip(sums, counts, strict=True)):
        of_set, n_of_set = np.asarray(of_set, dtype=float), np.asarray(n_of_set, dtype=float)
        if n_of_set.sum() <= 0:
            return None
        rng = np.random.default_rng([seed, i])
        chosen = rng.integers(len(of_set), size=(RESAMPLES, len(of_set)))
        drawn = of_set[chosen].sum(axis=1) / np.maximum(n_of_set[chosen].sum(axis=1), 1e-9)
        means.append((float(of_set.sum() / n_of_set.sum()), drawn))
    (first, first_drawn), (second, second_drawn) = means
    if min(len(sums[0]), len(sums[1])) < 2:
        return Value(first - second)
    return Value(first - second, *_ends(first_drawn - second_drawn))


def to_bits(nats: float) -> float:
    """Nats as bits."""
    return nats / log(2)


def _ends(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)
