"""Batches that go through long pieces window after window, for training with a carried state.

All pieces of an epoch are one stream of tokens, cut into lanes of equal length, B of them for each
turn; row b of a turn's next batch is the next part of its lane b. Batch k is a pure function of
(seed, k).
Legend: B rows, T targets of a row, F fields, P pieces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from seqgen.data.batches import Batch, join_files, one_window_each, usable_pieces
from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.errors import UserError

OPEN_LANES = 64  # pieces that are being read at a time, so that steps in a row differ
FEWEST_WINDOWS = 4  # in a lane; a small corpus has fewer lanes


class StreamBatches:
    """An endless series of batches that take turns: each continues the last one of its turn.

    Batches that follow one another hold other pieces, as if they were shuffled; with one turn, a
    few pieces would be all that a model sees for many steps. The last token of a row is the first
    of the same row in the turn's next batch. The first batches of an epoch start without a
    state, also in the middle of pieces, and the last ones may be shorter.

    Attributes:
        n_turns: how many turns there are; batch k continues batch k - n_turns.
    """

    def __init__(
        self,
        data: PreparedData,
        *,
        split: str,
        seed: int,
        batch_size: int,
        context_length: int,
        open_lanes: int = OPEN_LANES,
    ):
        self._data = data
        self._pieces = usable_pieces(data, split)
        self._seed = seed
        self._batch_size = batch_size
        self._context = context_length
        # What every epoch has, whichever variants it draws; the rest of a longer one is left out.
        n_tokens = int(self._pieces.shortest.sum())
        if n_tokens < 2 * batch_size:
            raise UserError(
                f"prepared data in {data.folder} has {n_tokens} tokens for {split}, too few for "
                f"{batch_size} rows of at least 2: it takes {2 * batch_size}, or fewer rows"
            )
        room = n_tokens // (batch_size * FEWEST_WINDOWS * context_length)
        self.n_turns = max(1, min(-(-open_lanes // batch_size), room))
        self._lane_length = n_tokens // (batch_size * self.n_turns)
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    @property
    def batches_per_epoch(self) -> int:
        """Batches that go through every piece once, except for what is left out at the end."""
        return self.n_turns * -(-(self._lane_length - 1) // self._context)

    def batch(self, k: int) -> Batch:
        """Return batch k, counted from 0."""
        epoch, number = divmod(k, self.batches_per_epoch)
        place, turn = divmod(number, self.n_turns)
        order, begins, shifts = self._epoch(epoch)
        first = place * self._context
        stop = min(first + self._context + 1, self._lane_length)
        lanes = (turn * self._batch_size + np.arange(self._batch_size)) * self._lane_length
        stream = lanes[:, None] + np.arange(first, stop)  # places in the stream [B, T + 1]
        pieces = np.searchsorted(begins, stream, side="right") - 1
        boundaries = begins[pieces] == stream
        continues = place > 0
        if not continues:
            boundaries[:, 0] = True
        return Batch(
            tokens=self._data.take(stream + shifts[pieces]),
            lengths=np.full(self._batch_size, stop - first - 1),
            boundaries=boundaries,
            sources=tuple(join_files(self._pieces, order[row[0] : row[-1] + 1]) for row in pieces),
            continues=continues,
            turn=turn,
        )

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the order of the pieces and the variant of each.

        Returns, all [P] and in that order: the pieces' numbers, where they begin in the stream, and
        what leads from there to their place in the token array.
        """
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._pieces))
        offsets, lengths = self._pieces.choose(order, rng.random(len(order)))
        begins = np.cumsum(lengths) - lengths
        return order, begins, offsets - begins


def held_out_streams(
    data: PreparedData, pieces: Sequence[StoredPiece], *, batch_size: int, context_length: int
) -> Iterator[Batch]:
    """Yield whole pieces, window after window: each row continues that of the previous batch.

    Every token of `pieces` but their first is a target exactly once. Pieces that end leave, and
    they are the last rows: the rows of a batch are the first ones of the batch before.
    """
    longest_first = sorted(pieces, key=lambda piece: piece.variants[0][1], reverse=True)
    for i in range(0, len(pieces), batch_size):
        group = longest_first[i : i + batch_size]
        lengths = np.array([piece.variants[0][1] for piece in group])
        for cut in range(0, lengths[0] - 1, context_length):
            n = int((lengths > cut + 1).sum())  # those with a token to predict
            batch = one_window_each(data, group[:n], cut, context_length=context_length)
            batch.boundaries[:, 0] = cut == 0
            yield replace(batch, continues=cut > 0)
