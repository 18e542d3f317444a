"""The runs that pieces share with the training set, found exactly by one suffix array of all.

Legend: n symbols of all pieces, m symbols of a piece, R runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydivsufsort import divsufsort, kasai

from seqgen.evaluation.copying.material import GRAM, Material


@dataclass(frozen=True, eq=False)
class Runs:
    """The longest shared runs of one piece: none lies within another. Arrays are [R].

    A run is `lengths` units (tokens, notes) from unit `starts` of the piece on, and the same from
    unit `training_starts` of training piece `pieces` on, as one of perhaps several places. `fresh`
    is its length without what it repeats of itself: 40 equal notes are 5 fresh ones. `is_new` tells
    of each unit of the piece whether it repeats nothing that came before in it.
    """

    is_new: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    fresh: np.ndarray
    pieces: np.ndarray
    training_starts: np.ndarray

    @property
    def n_new(self) -> int:
        """How many units of the piece are new."""
        return int(self.is_new.sum())

    @property
    def longest(self) -> int:
        """Units of the longest run; 0 where nothing is shared."""
        return int(self.lengths.max(initial=0))

    @property
    def most_fresh(self) -> int:
        """Units of the freshest run, without what that repeats of itself."""
        return int(self.fresh.max(initial=0))

    @property
    def freshest(self) -> int | None:
        """Which run is the most fresh; the longest of those that are equally fresh."""
        return int(np.lexsort((self.lengths, self.fresh))[-1]) if len(self.fresh) else None

    def coverage(self, block: int) -> float:
        """The share of the piece's new units that lie in runs of at least `block` fresh ones."""
        covers = np.zeros(len(self.is_new) + 1, dtype=np.int64)
        counted = self.fresh >= block
        np.add.at(covers, self.starts[counted], 1)
        np.add.at(covers, self.starts[counted] + self.lengths[counted], -1)
        is_covered = np.cumsum(covers[:-1]) > 0
        return float(is_covered[self.is_new].mean()) if self.n_new else 0.0


def shared_runs(training: Sequence[Material], pieces: Sequence[Material]) -> list[Runs]:
    """Find the runs that each of `pieces` shares with any training piece, exactly.

    10M training symbols take some ten seconds and 1 GB. Names may repeat, as for transposed
    variants. ValueError where no training piece has a symbol.
    """
    if not any(len(piece.symbols) for piece in training):
        raise ValueError("no training piece has a symbol")
    everything = [*training, *pieces]
    numbers = _number([piece.symbols for piece in everything])
    ends = np.cumsum([len(piece.symbols) for piece in everything])
    text = np.insert(numbers, ends, 0)  # 0 ends each piece, so that no run reaches over its end
    starts = np.append(0, ends[:-1]) + np.arange(len(ends))
    n_training = int(starts[len(training)]) if pieces else len(text)
    lengths, places = longest_matches(text, n_training)
    found = []
    for piece, start in zip(pieces, starts[len(training) :], strict=True):
        m, at = len(piece.symbols), start - n_training
        # A match with a training piece may go on over the 0 at both ends.
        shared = np.minimum(lengths[at : at + m], m - np.arange(m))
        found.append(_runs(piece, shared, places[at : at + m], starts))
    return found


def longest_matches(text: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """For each place of text[n:] the longest part from there on that begins within text[:n] too.

    Returns lengths, and where in text[:n] one such part begins. In a suffix array it is before or
    after the place, as the nearest one of text[:n]; they share as much as the least of all
    neighbours between them.
    """
    order = divsufsort(text)
    shared = kasai(text, order)  # with the next suffix in order; 0 for the last one
    before = _nearest(order, np.append(0, shared[:-1]), n)
    after = _nearest(order[::-1], shared[::-1], n)
    is_before = before[0] >= after[0]
    return np.where(is_before, before[0], after[0]), np.where(is_before, before[1], after[1])


def _nearest(order: np.ndarray, shared: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """What places from n on share with the nearest place below n that stands before them in order.

    `shared` is what each suffix shares with the one before it. Returns lengths and places below n.
    """
    is_below = order < n
    group = np.cumsum(is_below)  # of suffixes after the same one below n; 0 has none
    # The least so far within each group: a later group lies below all earlier ones.
    offset = group * np.int64(len(order) + 1)
    least = np.minimum.accumulate(np.where(is_below, len(order), shared) - offset) + offset
    below = np.append(0, order[is_below])[group]
    lengths, places = np.zeros((2, len(order) - n), dtype=np.int64)
    asked = ~is_below
    lengths[order[asked] - n] = np.where(group[asked] > 0, least[asked], 0)
    places[order[asked] - n] = below[asked]
    return lengths, places


def _runs(piece: Material, lengths: np.ndarray, places: np.ndarray, ends: np.ndarray) -> Runs:
    """The runs of one piece from the longest matches of its places [m]."""
    # What begins one symbol later and ends at the same place is within the run before.
    is_own = lengths > np.append(0, lengths[:-1] - 1)[: len(lengths)]
    starts = np.flatnonzero(is_own & (lengths > 0))
    lengths, places = lengths[starts], places[starts]
    pieces = np.searchsorted(ends, places, side="right") - 1
    more = piece.span - 1
    return Runs(
        is_new=piece.is_new,
        starts=starts,
        lengths=lengths + more,
        fresh=_fresh(piece.grams, starts, lengths) + more,
        pieces=pieces,
        training_starts=places - ends[pieces],
    )


def _number(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Number all different rows of pieces [m, F] of integers >= 0 from 1 on, end to end [n]."""
    n_fields = {piece.shape[1] for piece in pieces}
    if len(n_fields) != 1:
        raise ValueError(f"pieces have {sorted(n_fields)} fields; they must have as many")
    codes = np.zeros(sum(len(piece) for piece in pieces), dtype=np.int64)
    for field in range(n_fields.pop()):  # one at a time: together they might not fit an int64
        column = np.concatenate([piece[:, field] for piece in pieces]).astype(np.int64)
        if column.min(initial=0) < 0:
            raise ValueError(f"a piece has {column.min()}; symbols must be 0 or more")
        _, column = np.unique(column, return_inverse=True)
        _, codes = np.unique(codes * (column.max(initial=0) + 1) + column, return_inverse=True)
    return codes.astype(np.int32) + 1


def _fresh(grams: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Length of each run less its n-grams that occurred in it before; short ones are all fresh."""
    fresh = lengths.copy()
    for i in np.flatnonzero(lengths > GRAM):
        n_grams = lengths[i] - GRAM + 1
        fresh[i] = len(np.unique(grams[starts[i] : starts[i] + n_grams])) + GRAM - 1
    return fresh
