"""Batches of pairs, one in each row: batch k is a pure function of (seed, k).

Legend: B rows, U positions of a source, T targets of a row, F fields.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from seqgen.data.batches import Batch, TrainingBatches
from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.errors import UserError
from seqgen.tasks import Pair, Pairs


class PairBatches:
    """An endless series of batches of pairs.

    A row is a pair from the same place as the window of `TrainingBatches` without packing.
    """

    def __init__(
        self,
        data: PreparedData,
        pairs: Pairs,
        *,
        split: str,
        seed: int,
        batch_size: int,
        context_length: int,
    ):
        self._data, self._pairs = data, pairs
        self._batch_size, self._room = batch_size, context_length
        self._windows = TrainingBatches(
            data, split=split, seed=seed, batch_size=batch_size, context_length=context_length
        )

    def batch(self, k: int) -> Batch:
        """Return batch k, counted from 0."""
        rows = [self._row(k * self._batch_size + b) for b in range(self._batch_size)]
        found, files = zip(*rows, strict=True)
        return lay_out_pairs(found, files, pad_id=self._data.tokenizer.vocabulary.pad_id)

    def _row(self, number: int) -> tuple[Pair, str]:
        """Return the pair of a row, and its file; where that has none, of the next that has."""
        for n in range(number, number + self._windows.rows_per_epoch):
            window = self._windows.window(n)
            ids = self._data.take(np.arange(window.offset, window.offset + window.length))
            pair = self._pairs.cut(ids, window.share, self._room)
            if pair is not None:
                return pair, window.file
        raise UserError(f"prepared data in {self._data.folder} has no pairs to learn from")


def held_out_pairs(
    data: PreparedData,
    pieces: Sequence[StoredPiece],
    pairs: Pairs,
    *,
    batch_size: int,
    context_length: int,
) -> Iterator[Batch]:
    """Yield windows that hold all of `pieces` as pairs, those of about one length together."""
    found = [
        (pair, piece.file)
        for piece in pieces
        for pair in pairs.windows(data.read(piece), context_length)
    ]
    found.sort(key=lambda pair: len(pair[0].target))
    for i in range(0, len(found), batch_size):
        rows, files = zip(*found[i : i + batch_size], strict=True)
        yield lay_out_pairs(rows, files, pad_id=data.tokenizer.vocabulary.pad_id)


def lay_out_pairs(pairs: Sequence[Pair], files: Sequence[str], *, pad_id: int) -> Batch:
    """Put pairs into the rows of a batch."""
    source, source_lengths = _padded([pair.source for pair in pairs], pad_id)
    tokens, sizes = _padded([pair.target for pair in pairs], pad_id)
    boundaries = np.zeros(tokens.shape[:2], dtype=bool)
    boundaries[:, 0] = True
    return Batch(
        *(tokens, sizes - 1, boundaries, tuple(files)),
        source=source,
        source_lengths=source_lengths,
    )


def _padded(rows: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [·, F] as one array [B, T, F], padded at the end, and their lengths [B]."""
    lengths = np.array([len(row) for row in rows])
    padded = np.full((len(rows), lengths.max(), rows[0].shape[1]), pad_id, dtype=np.int64)
    for b, row in enumerate(rows):
        padded[b, : len(row)] = row
    return padded, lengths
