"""Batches of training windows: batch k is a pure function of (seed, k), so any step can be redone.

Legend: B rows, T targets of a window, F fields.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from seqgen.data.shards import Piece, PreparedData
from seqgen.errors import UserError


@dataclass(frozen=True)
class Batch:
    """Windows as rows.

    Attributes:
        tokens: ids [B, T + 1, F], padded at the end; row b holds lengths[b] + 1 true ones.
        lengths: targets of each row [B].
        sources: the file each row comes from.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    sources: tuple[str, ...]


class TrainingBatches:
    """An endless series of batches, epoch after epoch, each piece cut anew in each epoch."""

    def __init__(
        self, data: PreparedData, *, split: str, seed: int, batch_size: int, context_length: int
    ):
        self._data = data
        self._pieces = data.of_split(split)
        if not self._pieces:
            raise UserError(f"prepared data in {data.folder} has no pieces for {split}")
        self._seed = seed
        self._batch_size = batch_size
        self._context = context_length
        self._pad = data.tokenizer.vocabulary.pad_id
        # A piece has as many windows as its longest variant needs, so every epoch is as long.
        longest = np.array([max(n for _, n in piece.variants) for piece in self._pieces])
        n_windows = np.maximum(1, -(-(longest - 1) // context_length))
        self._piece_of = np.repeat(np.arange(len(self._pieces)), n_windows)
        self._place_of = np.concatenate([np.arange(n) for n in n_windows])
        self._n_windows_of = np.repeat(n_windows, n_windows)
        self._epoch = lru_cache(maxsize=2)(self._cut_epoch)

    @property
    def windows_per_epoch(self) -> int:
        """Windows that see every piece about once."""
        return len(self._piece_of)

    def batch(self, k: int) -> Batch:
        """Return batch k, counted from 0."""
        rows = range(k * self._batch_size, (k + 1) * self._batch_size)
        windows = [self._window(row) for row in rows]
        tokens, lengths = pad([window for _, window in windows], self._pad)
        return Batch(tokens, lengths, tuple(piece.file for piece, _ in windows))

    def _window(self, row: int) -> tuple[Piece, np.ndarray]:
        epoch, place = divmod(row, self.windows_per_epoch)
        order, variants, starts = self._epoch(epoch)
        index = order[place]
        piece = self._pieces[self._piece_of[index]]
        variant = int(variants[index] * len(piece.variants))
        room = max(piece.variants[variant][1] - 1 - self._context, 0)
        start = round(starts[index] * room)
        stop = start + self._context + 1
        return piece, self._data.read(piece, variant=variant, start=start, stop=stop)

    def _cut_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the order of the windows, their variants, and their starts as shares of the room.

        The first window of a piece is its beginning and the last one its end; between them lie the
        others, one in each equal part of the room.
        """
        rng = np.random.default_rng([self._seed, epoch])
        n = self.windows_per_epoch
        order, variants, jitter = rng.permutation(n), rng.random(n), rng.random(n)
        inner = self._n_windows_of - 2
        starts = (self._place_of - 1 + jitter) / np.maximum(inner, 1)
        starts = np.where(self._place_of == 0, 0.0, starts)
        last = (self._place_of == self._n_windows_of - 1) & (self._n_windows_of > 1)
        return order, variants, np.where(last, 1.0, starts)


def held_out_batches(
    data: PreparedData,
    pieces: Sequence[Piece],
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
    pad_id = data.tokenizer.vocabulary.pad_id
    for i in range(0, len(cuts), batch_size):
        rows = cuts[i : i + batch_size]
        windows = [data.read(p, start=s, stop=s + context_length + 1) for p, s in rows]
        tokens, lengths = pad(windows, pad_id)
        yield Batch(tokens, lengths, tuple(piece.file for piece, _ in rows))


def held_out_pieces(data: PreparedData, split: str, *, max_targets: int) -> list[Piece]:
    """Choose pieces of a split, in the order of their hash; the last is cut at `max_targets`."""
    chosen, room = [], max_targets
    for piece in sorted(data.of_split(split), key=lambda piece: piece.file_hash):
        offset, length = piece.variants[0]
        length = min(length, room + 1)
        if length < 2:
            break
        chosen.append(replace(piece, variants=((offset, length),)))
        room -= length - 1
    return chosen


def pad(windows: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack windows [·, F] as rows [B, T + 1, F]; return them and the targets of each row [B]."""
    lengths = np.array([len(window) - 1 for window in windows])
    tokens = np.full((len(windows), lengths.max() + 1, windows[0].shape[1]), pad_id, dtype=np.int64)
    for row, window in zip(tokens, windows, strict=True):
        row[: len(window)] = window
    return tokens, lengths
