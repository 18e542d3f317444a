"""From pure batches to what each process trains on: its rows of each step, in parts.

Legend: B rows, T targets of a window, F fields.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seqgen.config import TrainConfig
from seqgen.data.batches import (
    Batch,
    TrainingBatches,
    held_out_batches,
    held_out_pieces,
)
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TRAIN, VALIDATION
from seqgen.errors import UserError


class Rows(NamedTuple):
    """Some rows of a step's batch.

    Attributes:
        tokens: ids [B, T + 1, F].
        lengths: targets of each row [B].
        weight: what a sum over these rows' targets is multiplied by, so that the mean over
            processes and parts is the mean over all targets of the step.
        sources: the file of each row.
    """

    tokens: Tensor
    lengths: Tensor
    weight: float
    sources: tuple[str, ...]


class TrainingFeed(IterableDataset):
    """Endless parts of steps, from a given step on: each the rows of one process."""

    def __init__(self, batches: TrainingBatches, *, first_step: int, n_parts: int, share: "Share"):
        super().__init__()
        self._batches = batches
        self._first_step = first_step
        self._n_parts = n_parts
        self._share = share

    def __iter__(self) -> Iterator[Rows]:
        step = self._first_step
        while True:
            batch = self._batches.batch(step)
            shares = self._n_parts * self._share.of
            for part in range(self._n_parts):
                rows = slice(part * self._share.of + self._share.rank, None, shares)
                yield _rows(batch, rows, weight=shares / float(batch.lengths.sum()))
            step += 1


class HeldOutFeed(IterableDataset):
    """The held-out windows of one process."""

    def __init__(self, data: PreparedData, config: TrainConfig, *, share: "Share"):
        super().__init__()
        self._data = data
        self._config = config
        self._share = share
        self._pieces = held_out_pieces(data, VALIDATION, max_targets=config.validation_tokens)

    def __iter__(self) -> Iterator[Rows]:
        batches = held_out_batches(
            self._data,
            self._pieces,
            batch_size=self._config.batch_size,
            context_length=self._config.context_length,
        )
        for i, batch in enumerate(batches):
            if i % self._share.of == self._share.rank:
                yield _rows(batch, slice(None), weight=1.0)


class Share(NamedTuple):
    """Which of how many processes this is."""

    rank: int
    of: int


class FeedModule(LightningDataModule):
    """Gives the trainer its loaders; after a resume they begin at the step reached."""

    def __init__(self, data: PreparedData, config: TrainConfig, *, seed: int):
        super().__init__()
        self._data = data
        self._config = config
        self._batches = TrainingBatches(
            data,
            split=TRAIN,
            seed=seed,
            batch_size=config.batch_size,
            context_length=config.context_length,
        )

    @property
    def windows_per_epoch(self) -> int:
        """Windows that see every training piece about once."""
        return self._batches.windows_per_epoch

    def train_dataloader(self) -> DataLoader:
        """Parts of steps, from the trainer's step on."""
        share, n_parts = self._this_process(), self._config.accumulate
        if self._config.batch_size % (share.of * n_parts):
            raise UserError(
                f"train.batch_size={self._config.batch_size} must divide by "
                f"devices * train.accumulate = {share.of} * {n_parts}"
            )
        feed = TrainingFeed(
            self._batches, first_step=self.trainer.global_step, n_parts=n_parts, share=share
        )
        return DataLoader(feed, batch_size=None)

    def val_dataloader(self) -> DataLoader | list:
        """All held-out windows; none where no piece is held out."""
        if not self._data.of_split(VALIDATION):
            return []
        return DataLoader(
            HeldOutFeed(self._data, self._config, share=self._this_process()), batch_size=None
        )

    def _this_process(self) -> Share:
        return Share(self.trainer.global_rank, self.trainer.world_size)


def _rows(batch: Batch, rows: slice, *, weight: float) -> Rows:
    lengths = batch.lengths[rows]
    tokens = batch.tokens[rows, : lengths.max() + 1]
    return Rows(torch.from_numpy(tokens), torch.from_numpy(lengths), weight, batch.sources[rows])
