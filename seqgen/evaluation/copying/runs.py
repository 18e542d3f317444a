"""The runs that pieces share with the training set, found exactly by one suffix array of all.

Legend: n symbols of all pieces, m symbols of a piece, R runs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydivsufsort import divsufsort, kasai

from seqgen.evaluation.copying.material import GRAM, Material

MOST_SYMBOLS = 10_000_000  # of training pieces that are compared at a time


@dataclass(frozen=True, eq=False)
class SharedRuns:
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

    def coverage(self, block: int) -> float:
        """The share of the piece's new units that lie in runs of at least `block` fresh ones."""
        covers = np.zeros(len(self.is_new) + 1, dtype=np.int64)
        counted = self.fresh >= block
        np.add.at(covers, self.starts[counted], 1)
        np.add.at(covers, self.starts[counted] + self.lengths[counted], -1)
        is_covered = np.cumsum(covers[:-1]) > 0
        return float(is_covered[self.is_new].mean()) if self.n_new else 0.0


def shared_runs(training: Iterable[Material], pieces: Sequence[Material]) -> list[SharedRuns]:
    """Find the runs that each of `pieces` shares with any training piece, exactly.

    Training pieces are read once, and as many at a time are compared as fit into memory: 10M
    symbols take some ten seconds and 1 GB. Names may repeat, as for transposed variants.
    """
    queries = [piece.symbols for piece in pieces]
    # Of the longest match of each place: its length, the training piece and the place in it.
    longest = np.zeros((3, sum(map(len, queries)) + len(queries)), dtype=np.int64)
    n_read = 0
    for chunk in _chunks(training):
        text, starts = _lay_out([*chunk, *queries])
        lengths, places = longest_matches(text, len(text) - longest.shape[1])
        numbers = np.searchsorted(starts[: len(chunk)], places, side="right") - 1
        found = np.stack([lengths, n_read + numbers, places - starts[numbers]])
        longest = np.where(found[0] > longest[0], found, longest)
        n_read += len(chunk)
    ends = np.cumsum([len(symbols) + 1 for symbols in queries], dtype=np.int64)
    of_pieces = np.split(longest, ends, axis=1)  # and what comes after the last: nothing
    return [_runs(piece, *of[:, :-1]) for piece, of in zip(pieces, of_pieces, strict=False)]


def _chunks(training: Iterable[Material]) -> Iterator[list[np.ndarray]]:
    """Yield the symbols of training pieces, as many at a time as fit into memory."""
    chunk: list[np.ndarray] = []
    room = MOST_SYMBOLS
    for piece in training:
        if chunk and len(piece.symbols) > room:
            yield chunk
            chunk, room = [], MOST_SYMBOLS
        chunk.append(piece.symbols)
        room -= len(piece.symbols)
    if chunk:
        yield chunk


def _lay_out(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lay pieces [m, F] end to end, equal symbols as equal numbers; return also where each begins.

    Numbers begin with 1; a 0 ends each piece, so that no run reaches over its end.
    """
    codes = np.zeros(sum(map(len, pieces)), dtype=np.int64)
    for column in np.concatenate(pieces).T:  # one field at a time: all might not fit an int64
        _, ranks = np.unique(column, return_inverse=True)
        _, codes = np.unique(codes * (ranks.max(initial=0) + 1) + ranks, return_inverse=True)
    ends = np.cumsum([len(piece) for piece in pieces])
    text = np.insert(codes.astype(np.int32) + 1, ends, 0)
    return text, np.append(0, ends[:-1]) + np.arange(len(ends))


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


def _runs(
    piece: Material, lengths: np.ndarray, numbers: np.ndarray, places: np.ndarray
) -> SharedRuns:
    """The runs of one piece from the longest match of each of its places; all arrays are [m]."""
    m = len(piece.symbols)
    lengths = np.minimum(lengths, m - np.arange(m))  # a match may go on over the 0 at both ends
    # What begins one symbol later and ends at the same place is within the run before.
    is_own = lengths > np.append(0, lengths[:-1] - 1)[:m]
    starts = np.flatnonzero(is_own & (lengths > 0))
    lengths, more = lengths[starts], piece.span - 1
    return SharedRuns(
        is_new=piece.is_new,
        starts=starts,
        lengths=lengths + more,
        fresh=_fresh(piece.grams, starts, lengths) + more,
        pieces=numbers[starts],
        training_starts=places[starts],
    )


def _fresh(grams: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Length of each run less its n-grams that occurred in it before; short ones are all fresh."""
    fresh = lengths.copy()
    for i in np.flatnonzero(lengths > GRAM):
        n_grams = lengths[i] - GRAM + 1
        fresh[i] = len(np.unique(grams[starts[i] : starts[i] + n_grams])) + GRAM - 1
    return fresh
