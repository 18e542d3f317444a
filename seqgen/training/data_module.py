"""The data module: gives each process its rows of each step, in micro-batches.

Legend: B rows, T targets of a window, F fields.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seqgen.config import TrainConfig
from seqgen.data.arranged import ArrangedBatches
from seqgen.data.batches import (
    Batch,
    TrainingBatches,
    held_out_batches,
    held_out_pieces,
)
from seqgen.data.pairs import PairBatches, held_out_pairs
from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.data.splits import TRAIN, VALIDATION
from seqgen.data.streams import StreamBatches, held_out_streams
from seqgen.errors import UserError
from seqgen.tasks import Pairs

Batches = TrainingBatches | StreamBatches | ArrangedBatches | PairBatches


class MicroBatch(NamedTuple):
    """The rows of a step's batch that one process computes in one pass.

    Attributes:
        tokens: ids [B, T + 1, F].
        lengths: positions of each row that are followed by another [B].
        boundaries: booleans [B, T], true where a segment begins; None: nowhere.
        targets: booleans [B, T], true where the next token is to be predicted.
        n_targets: how many of them are true.
        continues: whether each row continues the same row of the previous step of its turn.
        turn: which group of open pieces the step belongs to; see `StreamBatches`.
        weight: what a sum over these rows' targets is multiplied by, so that the mean over
            processes and micro-batches is the mean over all targets of the step.
        sources: the files of each row.
        waited: seconds that were spent waiting for the step's batch.
        source, source_lengths: of pairs, ids [B, U, F] and how many are true [B].
    """

    tokens: Tensor
    lengths: Tensor
    boundaries: Tensor | None
    targets: Tensor
    n_targets: int
    continues: bool
    turn: int
    weight: float
    sources: tuple[str, ...]
    waited: float
    source: Tensor | None = None
    source_lengths: Tensor | None = None


class TrainingDataset(IterableDataset):
    """The endless micro-batches of one process, from a given step on."""

    def __init__(self, batches: Batches, *, first_step: int, n_micro_batches: int, share: "Share"):
        super().__init__()
        self._batches = batches
        self._first_step = first_step
        self._n_micro_batches = n_micro_batches
        self._share = share

    def __iter__(self) -> Iterator[MicroBatch]:
        shares = self._n_micro_batches * self._share.of
        with ThreadPoolExecutor(max_workers=1) as ahead:  # makes a batch while a step is computed
            coming = ahead.submit(self._batches.batch, self._first_step)
            for step in count(self._first_step + 1):
                begin = time.perf_counter()
                batch = coming.result()
                waited = time.perf_counter() - begin
                coming = ahead.submit(self._batches.batch, step)
                weight = shares / max(batch.targets.sum(), 1)
                for i in range(self._n_micro_batches):
                    rows = slice(i * self._share.of + self._share.rank, None, shares)
                    yield _micro_batch(batch, rows, weight=weight, waited=0.0 if i else waited)


class HeldOutDataset(IterableDataset):
    """The rows of one process of all held-out windows, in as many batches as all others have."""

    def __init__(
        self, data: PreparedData, config: TrainConfig, *, share: "Share", pairs: Pairs | None
    ):
        super().__init__()
        self._data = data
        self._config = config
        self._share = share
        self._pairs = pairs
        self._pieces = validation_pieces(data, config)

    def __iter__(self) -> Iterator[MicroBatch]:
        config = self._config
        sizes = {"batch_size": config.batch_size, "context_length": config.context_length}
        if self._pairs is not None:
            batches = held_out_pairs(self._data, self._pieces, self._pairs, **sizes)
        else:
            held_out = held_out_streams if config.carry_state else held_out_batches
            batches = held_out(self._data, self._pieces, **sizes)
        for batch in batches:
            if self._share.rank < len(batch.lengths):
                rows = slice(self._share.rank, None, self._share.of)
                yield _micro_batch(batch, rows, weight=1.0, waited=0.0)
            else:  # a row without targets: processes wait for each other in each batch
                idle = replace(batch, given=np.ones_like(batch.boundaries))
                yield _micro_batch(idle, slice(1), weight=1.0, waited=0.0)


class Share(NamedTuple):
    """The rank of this process, and the number of processes."""

    rank: int
    of: int


class TrainingDataModule(LightningDataModule):
    """Gives the trainer its dataloaders; after a resume they begin at the step reached."""

    trainer: Trainer  # set by Lightning before it asks for dataloaders

    def __init__(
        self,
        data: PreparedData,
        config: TrainConfig,
        *,
        seed: int,
        tasks: Mapping[str, float] | None = None,
        pairs: Pairs | None = None,
    ):
        """Take prepared data, and the share of each task; None: windows of pieces as they are.

        `pairs` tells pieces as pairs of a source and a target.
        """
        super().__init__()
        self._pairs = pairs
        self._data = data
        self._config = config
        sizes = {"batch_size": config.batch_size, "context_length": config.context_length}
        self._batches: Batches
        if config.carry_state:
            self._batches = StreamBatches(data, split=TRAIN, seed=seed, **sizes)
        elif pairs is not None:
            self._batches = PairBatches(data, pairs, split=TRAIN, seed=seed, **sizes)
        elif tasks is not None:
            self._batches = ArrangedBatches(data, split=TRAIN, seed=seed, shares=tasks, **sizes)
        else:
            self._batches = TrainingBatches(
                data, split=TRAIN, seed=seed, packed=config.packing, **sizes
            )

    def train_dataloader(self) -> DataLoader:
        """The micro-batches from the trainer's current step on."""
        share, n_micro_batches = self._this_process(), self._config.accumulate
        if self._config.batch_size % (share.of * n_micro_batches):
            raise UserError(
                f"train.batch_size={self._config.batch_size} must be a multiple of "
                f"devices * train.accumulate = {share.of} * {n_micro_batches}"
            )
        dataset = TrainingDataset(
            self._batches,
            first_step=self.trainer.global_step,
            n_micro_batches=n_micro_batches,
            share=share,
        )
        # From pinned memory a batch is copied to a GPU while the last step is still computed.
        return DataLoader(dataset, batch_size=None, pin_memory=torch.cuda.is_available())

    def val_dataloader(self) -> DataLoader | list:
        """All held-out windows; none where no piece is held out."""
        if not self._data.of_split(VALIDATION):
            return []
        dataset = HeldOutDataset(
            self._data, self._config, share=self._this_process(), pairs=self._pairs
        )
        return DataLoader(dataset, batch_size=None)

    def _this_process(self) -> Share:
        return Share(self.trainer.global_rank, self.trainer.world_size)


def validation_pieces(data: PreparedData, config: TrainConfig) -> list[StoredPiece]:
    """Return the held-out pieces that a run is validated on, the last one cut."""
    return held_out_pieces(data, VALIDATION, max_targets=config.validation_tokens)


def _micro_batch(batch: Batch, rows: slice, *, weight: float, waited: float) -> MicroBatch:
    lengths = batch.lengths[rows]
    T = lengths.max()
    boundaries, targets = batch.boundaries[rows, :T], batch.targets[rows, :T]
    # The boundary at the start of a row matters only if a state came before it.
    inner = boundaries if batch.continues else boundaries[:, 1:]
    return MicroBatch(
        tokens=torch.from_numpy(batch.tokens[rows, : T + 1]),
        lengths=torch.from_numpy(lengths),
        boundaries=torch.from_numpy(boundaries) if inner.any() else None,
        targets=torch.from_numpy(targets),
        n_targets=int(targets.sum()),
        continues=batch.continues,
        turn=batch.turn,
        weight=weight,
        sources=batch.sources[rows],
        waited=waited,
        source=None if batch.source is None else torch.from_numpy(batch.source[rows]),
        source_lengths=(
            None if batch.source_lengths is None else torch.from_numpy(batch.source_lengths[rows])
        ),
    )
