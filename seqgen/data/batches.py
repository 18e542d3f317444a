"""Batches of training windows: batch k is a pure function of (seed, k), so any step can be redone.

Legend: B rows, T targets of a row, F fields, W windows.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from seqgen.data.shards import Pieces, PreparedData, StoredPiece
from seqgen.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Rows of one window or of several, one after another.

    Attributes:
        tokens: ids [B, T + 1, F], padded at the end; row b holds lengths[b] + 1 true ones.
        lengths: positions of each row that are followed by a true token [B].
        boundaries: where a segment begins, which is the first token of a window in its row
            [B, T + 1]; never at padding.
        sources: the file each row comes from, or its files joined by commas.
        continues: whether each row continues the same row of the previous batch of the same turn,
            from its last token on.
        turn: number of the turn, where batches take turns; see `StreamBatches`.
        given: which tokens are given and not to be predicted [B, T + 1]; None: none.
        source, source_lengths: of pairs, the source of each row [B, U, F], padded at the end, and
            how many true tokens it has [B].
    """

    tokens: np.ndarray
    lengths: np.ndarray
    boundaries: np.ndarray
    sources: tuple[str, ...]
    continues: bool = False
    turn: int = 0
    given: np.ndarray | None = None
    source: np.ndarray | None = None
    source_lengths: np.ndarray | None = None

    @property
    def targets(self) -> np.ndarray:
        """Which positions are followed by a token of their own window that is predicted [B, T]."""
        followed = np.arange(self.boundaries.shape[1] - 1) < self.lengths[:, None]
        targets = followed & ~self.boundaries[:, 1:]
        return targets if self.given is None else targets & ~self.given[:, 1:]


@dataclass(frozen=True)
class Window:
    """A part of one variant of a piece.

    Attributes:
        file: of the piece.
        offset, length: where the whole variant lies in the token array.
        share: where the window lies in it, from 0 at the beginning to 1 at the end.
    """

    file: str
    offset: int
    length: int
    share: float


class TrainingBatches:
    """An endless series of batches, epoch after epoch, with new cuts of each piece in each epoch.

    A row is one window of up to context_length + 1 tokens. If `packed`, windows of short pieces
    share rows; which ones is decided once, so that every epoch has the same number of rows.
    """

    def __init__(
        self,
        data: PreparedData,
        *,
        split: str,
        seed: int,
        batch_size: int,
        context_length: int,
        packed: bool = False,
    ):
        self._data = data
        self._pieces = usable_pieces(data, split)
        self._seed = seed
        self._batch_size = batch_size
        self._context = context_length
        # A piece has as many windows as its longest variant needs, so every epoch is as long.
        longest = self._pieces.longest
        n_windows = np.maximum(1, -(-(longest - 1) // context_length))
        self._piece_of = np.repeat(np.arange(len(self._pieces)), n_windows)
        firsts = np.cumsum(n_windows) - n_windows
        self._place_of = np.arange(len(self._piece_of)) - np.repeat(firsts, n_windows)
        self._n_windows_of = np.repeat(n_windows, n_windows)
        row_of = np.arange(len(self._piece_of))
        if packed:
            sizes = np.minimum(longest, context_length + 1)[self._piece_of]
            row_of = pack(sizes, context_length + 1)
        # Row r holds windows _windows[_bounds[r] : _bounds[r + 1]].
        self._windows = np.argsort(row_of, kind="stable")
        self._bounds = np.concatenate([[0], np.cumsum(np.bincount(row_of))])
        # The first window of a row leads it; -1 for windows that lead none.
        self._row_led_by = np.full(len(row_of), -1)
        self._row_led_by[self._windows[self._bounds[:-1]]] = np.arange(self.rows_per_epoch)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    @property
    def windows_per_epoch(self) -> int:
        """Windows that see every piece about once."""
        return len(self._windows)

    @property
    def rows_per_epoch(self) -> int:
        """Rows that hold the windows of an epoch."""
        return len(self._bounds) - 1

    def window(self, number: int) -> Window:
        """Return the first window of a row, counted from 0."""
        epoch, place = divmod(number, self.rows_per_epoch)
        rows, variants, shares = self._epoch(epoch)
        window = self._windows[self._bounds[rows[place]]]
        piece = self._piece_of[window]
        offsets, lengths = self._pieces.choose(piece[None], variants[window, None])
        file = self._pieces.file(piece)
        return Window(file, int(offsets[0]), int(lengths[0]), float(shares[window]))

    def batch(self, k: int) -> Batch:
        """Return batch k, counted from 0."""
        numbers = range(k * self._batch_size, (k + 1) * self._batch_size)
        windows, offsets, sizes = zip(*map(self._row, numbers), strict=True)
        tokens, lengths, boundaries = lay_out(
            self._data,
            np.concatenate(offsets),
            np.concatenate(sizes),
            rows=np.repeat(np.arange(self._batch_size), [len(row) for row in windows]),
        )
        sources = tuple(join_files(self._pieces, self._piece_of[row]) for row in windows)
        return Batch(tokens, lengths, boundaries, sources)

    def _row(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the windows of a row, where each is in the token array and how long; all [·]."""
        epoch, place = divmod(number, self.rows_per_epoch)
        rows, variants, shares = self._epoch(epoch)
        row = rows[place]
        windows = self._windows[self._bounds[row] : self._bounds[row + 1]]
        offsets, lengths = self._pieces.choose(self._piece_of[windows], variants[windows])
        room = np.maximum(lengths - 1 - self._context, 0)
        cuts = np.rint(shares[windows] * room).astype(np.int64)
        return windows, offsets + cuts, np.minimum(lengths - cuts, self._context + 1)

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the order of the rows, and for windows their variants and cuts, as shares [W].

        The first window of a piece is its beginning and the last one its end; between them lie the
        others, one in each equal part of the room. Packed or not, the draws are the same.
        """
        rng = np.random.default_rng([self._seed, epoch])
        n = self.windows_per_epoch
        order, variants, jitter = rng.permutation(n), rng.random(n), rng.random(n)
        inner = self._n_windows_of - 2
        shares = (self._place_of - 1 + jitter) / np.maximum(inner, 1)
        shares = np.where(self._place_of == 0, 0.0, shares)
        last = (self._place_of == self._n_windows_of - 1) & (self._n_windows_of > 1)
        rows = self._row_led_by[order]
        return rows[rows >= 0], variants, np.where(last, 1.0, shares)


def held_out_batches(
    data: PreparedData,
    pieces: Sequence[StoredPiece],
    *,
    batch_size: int,
    context_length: int,
) -> Iterator[Batch]:
    """Yield windows that hold every token of `pieces` but their first as a target exactly once."""
    cuts = [
        (piece, start)
        for piece in sorted(pieces, key=lambda piece: piece.variants[0][1])
        for start in range(0, piece.variants[0][1] - 1, context_length)
    ]
    for i in range(0, len(cuts), batch_size):
        rows, offsets = zip(*cuts[i : i + batch_size], strict=True)
        yield one_window_each(data, rows, np.array(offsets), context_length=context_length)


def one_window_each(
    data: PreparedData,
    pieces: Sequence[StoredPiece],
    cuts: np.ndarray | int,
    *,
    context_length: int,
) -> Batch:
    """Return one window of each piece, a row each, from place `cuts` of it on [B]."""
    offsets, lengths = np.array([piece.variants[0] for piece in pieces]).T
    sizes = np.minimum(lengths - cuts, context_length + 1)
    laid_out = lay_out(data, offsets + cuts, sizes, rows=np.arange(len(pieces)))
    return Batch(*laid_out, sources=tuple(piece.file for piece in pieces))


def held_out_pieces(data: PreparedData, split: str, *, max_targets: int) -> list[StoredPiece]:
    """Choose pieces of a split, in the order of their hash; the last is cut at `max_targets`."""
    chosen, room = [], max_targets
    for piece in data.of_split(split).by_hash():
        offset, length = piece.variants[0]
        if length > room + 1:
            length = room + 1
            units = data.tokenizer.units(data.read(piece, stop=length))
            piece = replace(piece, units=units, variants=((offset, length),))
        if length < 2:
            break
        chosen.append(piece)
        room -= length - 1
    return chosen


def usable_pieces(data: PreparedData, split: str) -> Pieces:
    """Return the pieces of a split; UserError where there are none."""
    pieces = data.of_split(split)
    if not pieces:
        raise UserError(f"prepared data in {data.folder} has no pieces for {split}")
    return pieces


def join_files(pieces: Pieces, chosen: np.ndarray) -> str:
    """Name the files of the pieces chosen by number [·], each once."""
    return ", ".join(dict.fromkeys(pieces.file(i) for i in chosen.tolist()))


def pack(sizes: np.ndarray, room: int) -> np.ndarray:
    """Choose for windows of `sizes` tokens [W] the rows they share, of `room` tokens each [W].

    The longest goes first, to the fullest row that still holds it: best fit, decreasing. It needs
    no search, since rows are kept by what room they have left.
    """
    row_of = np.empty(len(sizes), dtype=np.int64)
    last_with = [-1] * (room + 1)  # the row that has so much room left since the latest
    before = array("q")  # for each row the next one with as much room left, or -1
    filled = 0  # bit r tells whether last_with[r] is a row
    for window in np.argsort(-sizes, kind="stable"):
        size = int(sizes[window])
        fitting = filled >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1  # the lowest bit of filled >= size
            row = last_with[left]
            last_with[left] = before[row]
            if last_with[left] < 0:
                filled ^= 1 << left
        else:
            left, row = room, len(before)
            before.append(-1)
        row_of[window] = row
        left -= size
        before[row], last_with[left] = last_with[left], row
        filled |= 1 << left
    return row_of


def lay_out(
    data: PreparedData, offsets: np.ndarray, sizes: np.ndarray, *, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put windows one after another into rows.

    Window w is tokens offsets[w] … offsets[w] + sizes[w] of the token array and goes to row
    rows[w]; all three are [W], and `rows` ascends from 0 without gaps.

    Returns:
        tokens [B, T + 1, F], lengths [B] and boundaries [B, T + 1], as in `Batch`.
    """
    before = np.cumsum(sizes) - sizes  # tokens of earlier windows, of all rows
    total = int(sizes.sum())
    found = data.take(np.arange(total) + np.repeat(offsets - before, sizes))
    first = np.zeros(total, dtype=bool)
    first[before] = True
    row_sizes = np.add.reduceat(sizes, np.searchsorted(rows, np.arange(rows[-1] + 1)))
    held = np.arange(row_sizes.max()) < row_sizes[:, None]  # [B, T + 1], true in order of `found`
    pad_id = data.tokenizer.vocabulary.pad_id
    tokens = np.full((*held.shape, found.shape[1]), pad_id, dtype=np.int64)
    boundaries = np.zeros(held.shape, dtype=bool)
    tokens[held], boundaries[held] = found, first
    return tokens, row_sizes - 1, boundaries
