"""Batches of windows that are told by tasks: batch k is a pure function of (seed, k).

Legend: B rows, T targets of a row, F fields.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from seqgen.data.batches import Batch, TrainingBatches
from seqgen.data.shards import PreparedData
from seqgen.tasks import Arranger, Passage, Teller

LEAST_ROOM = 64  # tokens that are left in a row for another window
MOST_WINDOWS = 8  # in a row


class ArrangedBatches:
    """An endless series of batches whose windows are told by tasks.

    A row begins with the same window as that of `TrainingBatches` without packing, told anew; where
    it leaves room, windows of other pieces follow, drawn at random.
    """

    def __init__(
        self,
        data: PreparedData,
        *,
        split: str,
        seed: int,
        batch_size: int,
        context_length: int,
        shares: Mapping[str, float],
    ):
        self._data = data
        self._seed = seed
        self._batch_size = batch_size
        self._room = context_length + 1
        self._windows = TrainingBatches(
            data, split=split, seed=seed, batch_size=batch_size, context_length=context_length
        )
        self._arranger = Arranger(Teller(data.tokenizer), shares)
        self._read = lru_cache(maxsize=1024)(self._read_piece)

    def batch(self, k: int) -> Batch:
        """Return batch k, counted from 0."""
        rows = [self._row(k * self._batch_size + b) for b in range(self._batch_size)]
        sizes = [sum(len(ids) for ids, _ in windows) for windows, _ in rows]
        shape = (len(rows), max(sizes))
        tokens = np.full((*shape, 1), self._data.tokenizer.vocabulary.pad_id, dtype=np.int64)
        boundaries, given = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for b, (windows, _) in enumerate(rows):
            place = 0
            for ids, fixed in windows:
                tokens[b, place : place + len(ids)] = ids
                given[b, place : place + len(ids)] = fixed
                boundaries[b, place] = True
                place += len(ids)
        sources = tuple(", ".join(files) for _, files in rows)
        return Batch(tokens, np.array(sizes) - 1, boundaries, sources, given=given)

    def _row(self, number: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
        """Return the windows of a row, ids [T, 1] and which are given [T]; and the files."""
        rng = np.random.default_rng([self._seed, number, 1])
        window, n_windows = self._windows.window(number), self._windows.windows_per_epoch
        epoch = number // n_windows
        windows: list[tuple[np.ndarray, np.ndarray]] = []
        files: list[str] = []
        room = self._room
        while not windows or (room >= LEAST_ROOM and len(windows) < MOST_WINDOWS):
            piece = self._read(window.offset, window.length)
            if piece.bars:
                told = self._arranger.arrange(piece, window.share, room, rng)
                windows.append(told)
                files.append(window.file)
                room -= len(told[0])
            window = self._windows.window(epoch * n_windows + int(rng.integers(n_windows)))
        return windows, list(dict.fromkeys(files))

    def _read_piece(self, offset: int, length: int) -> Passage:
        return self._arranger.read(self._data.take(np.arange(offset, offset + length)))
