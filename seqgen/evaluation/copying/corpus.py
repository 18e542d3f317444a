"""The training set as one text, and the runs that a piece shares with it.

Legend: m symbols of a piece, R runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.evaluation.copying.material import Alphabet, Material
from seqgen.evaluation.suffixes import SuffixArray

WINDOW = 4  # symbols; a run is as fresh as it has different windows of so many


@dataclass(frozen=True, eq=False)
class Runs:
    """The longest shared runs of one piece: none lies within another. Arrays are [R].

    A run is `lengths` units (tokens, notes) from unit `starts` of the piece on, and the same from
    unit `corpus_starts` of training piece `pieces` on, as one of perhaps several places. `fresh`
    is its length without what it repeats of itself: 40 equal notes are 5 fresh ones.
    """

    n_units: int
    starts: np.ndarray
    lengths: np.ndarray
    fresh: np.ndarray
    pieces: np.ndarray
    corpus_starts: np.ndarray

    @property
    def longest(self) -> int:
        """Units of the longest run; 0 where nothing is shared."""
        return int(self.lengths.max(initial=0))

    @property
    def freshest(self) -> int | None:
        """Which run is the most fresh; the longest of those that are equally fresh."""
        return int(np.lexsort((self.lengths, self.fresh))[-1]) if len(self.fresh) else None

    def coverage(self, block: int) -> float:
        """The share of the piece's units that lie in runs of at least `block` fresh ones."""
        covers = np.zeros(self.n_units + 1, dtype=np.int64)
        counted = self.fresh >= block
        np.add.at(covers, self.starts[counted], 1)
        np.add.at(covers, self.starts[counted] + self.lengths[counted], -1)
        return float(np.mean(np.cumsum(covers[:-1]) > 0)) if self.n_units else 0.0


class Corpus:
    """Training pieces, indexed so that the runs a piece shares with them are found at once.

    10M symbols take seconds and 1.2 GB, some 100 bytes for each. Names may repeat, as for
    transposed variants.
    """

    def __init__(self, training: Sequence[Material]):
        """Index pieces of one kind; those without a symbol are left out."""
        self._training = [piece for piece in training if len(piece.symbols)]
        if not self._training:
            raise ValueError("no training piece has a symbol")
        self.span = self._training[0].span
        self._alphabet = Alphabet(piece.symbols for piece in self._training)
        sizes = np.array([len(piece.symbols) for piece in self._training])
        text = np.insert(self._alphabet.learned.astype(np.int32), np.cumsum(sizes), 0)
        del self._alphabet.learned
        self._starts = np.cumsum(sizes + 1) - (sizes + 1)
        self._suffixes = SuffixArray(text)

    def shared_runs(self, piece: Material) -> Runs:
        """Find the runs that a piece shares with any training piece, exactly."""
        symbols = self._alphabet.number(piece.symbols)
        lengths, places = self._suffixes.longest_matches(symbols)
        # What begins one symbol later and ends at the same place is within the run before.
        is_own = lengths > np.append(0, lengths[:-1] - 1)[: len(lengths)]
        starts = np.flatnonzero(is_own & (lengths > 0))
        lengths, places = lengths[starts], places[starts]
        pieces = np.searchsorted(self._starts, places, side="right") - 1
        more = self.span - 1
        return Runs(
            n_units=piece.n_units,
            starts=starts,
            lengths=lengths + more,
            fresh=_fresh(symbols, starts, lengths) + more,
            pieces=pieces,
            corpus_starts=places - self._starts[pieces],
        )

    def piece(self, number: int) -> Material:
        """The training piece that `Runs.pieces` numbers."""
        return self._training[number]


def _fresh(symbols: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Length of each run less its windows that occurred in it before; short ones are all fresh."""
    if len(symbols) < WINDOW:
        return lengths.copy()
    names = symbols
    for further in range(1, WINDOW):  # a window is one symbol less and the symbol after it
        keys = names[:-1] * (symbols.max() + 1) + symbols[further:]
        names = np.unique(keys, return_inverse=True)[1]
    fresh, names = lengths.copy(), names.tolist()
    for i in np.flatnonzero(lengths > WINDOW):
        n_windows = lengths[i] - WINDOW + 1
        fresh[i] = len(set(names[starts[i] : starts[i] + n_windows])) + WINDOW - 1
    return fresh
