"""Callbacks of the trainer: keep the best model, generate a sample, stop on a signal."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from seqgen.model.sequence_model import SequenceModel
from seqgen.training.data_module import MicroBatch
from seqgen.training.metrics import JsonLinesLogger
from seqgen.training.module import TrainingModule
from seqgen.training.sharding import whole_model

GRAPH_TOKENS = 8  # of the row whose way through the model is drawn
METRICS_BYTES = "metrics_bytes"  # of a checkpoint: how much of the metrics file it covers
STOPPING = (signal.SIGINT, signal.SIGTERM)
DrawSample = Callable[[SequenceModel, int], np.ndarray | None]  # of a model at a step


class StepBar(RichProgressBar):
    """Lightning's bar, over steps: batches have no epochs here."""

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict:
        """The logged values, without Lightning's version of the run."""
        metrics = super().get_metrics(trainer, module)
        return {name: value for name, value in metrics.items() if name != "v_num"}

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"


class LogSteps(Callback):
    """Logs each finished step; the first callback, so that a checkpoint comes after the log."""

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: object,
        batch: MicroBatch,
        index: int,
    ) -> None:
        """Log here, since Lightning calls the hook of the module after those of all callbacks."""
        cast(TrainingModule, module).log_step(index)


class KeepBestModel(Callback):
    """Calls `save` whenever a validation is the best so far; a checkpoint keeps the best value."""

    def __init__(
        self,
        save: Callable[[SequenceModel, int, float], None],
        *,
        unit: str,
        tell: Callable[[str], None],
    ):
        self._save = save
        self._unit = unit
        self._tell = tell
        self.best = float("inf")
        self.best_bits_per_unit = float("inf")
        self.validated_step = -1

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Compare with the best so far, save, and report the validation loss."""
        loss = float(trainer.callback_metrics["validation_loss"])
        self.validated_step = trainer.global_step
        bits = float(trainer.callback_metrics["validation_bits_per_unit"])
        better = loss < self.best
        if better:
            self.best, self.best_bits_per_unit = loss, bits
            model = whole_model(cast(TrainingModule, module).model)
        if trainer.is_global_zero:
            self._tell(
                f"step {trainer.global_step}: validation {loss:.4f} nats/token, "
                f"{bits:.3f} bits/{self._unit}{' (best)' if better else ''}"
            )
            if better:
                self._save(cast(SequenceModel, model), trainer.global_step, loss)

    def state_dict(self) -> dict:
        """Kept in checkpoints."""
        return {
            "best": self.best,
            "best_bits_per_unit": self.best_bits_per_unit,
            "validated_step": self.validated_step,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restored on resume."""
        self.best = state["best"]
        self.best_bits_per_unit = state["best_bits_per_unit"]
        self.validated_step = state["validated_step"]


class SaveLast(Checkpoint):
    """Writes `last.ckpt` between steps, and after a validation where one is due at that step.

    So a resumed run neither repeats nor misses a validation, and never begins inside an accumulated
    step. It holds the state of all other callbacks, so it must be the last of the `Checkpoint`s,
    which Lightning puts last. Each checkpoint holds the length of the metrics file at that step.
    """

    def __init__(
        self, path: Path, metrics: JsonLinesLogger, *, every: int, validate_every: int | None
    ):
        self._path = path
        self._metrics = metrics
        self._every = every
        self._validate_every = validate_every

    def validation_is_due(self, trainer: Trainer) -> bool:
        """Whether the step just taken is followed by a validation."""
        return bool(self._validate_every and trainer.global_step % self._validate_every == 0)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Save every `every` steps, once a step is complete."""
        whole = not trainer.fit_loop._should_accumulate()
        due = trainer.global_step % self._every == 0 and not self.validation_is_due(trainer)
        if whole and due:
            trainer.save_checkpoint(self._path)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save what the validation changed: the best loss, and the patience of early stopping."""
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(self._path)

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict
    ) -> None:
        """Save the length of the metrics file."""
        checkpoint[METRICS_BYTES] = self._metrics.n_bytes


class Pictures(Callback):
    """At the beginning: the graph; at each validation: histograms and a sample; then embeddings."""

    def __init__(self, draw_sample: DrawSample | None, token_names: list[str]):
        self._draw_sample = draw_sample
        self._token_names = token_names

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Write the model's graph, while the model is whole and on the CPU.

        Lightning's `log_graph` comes later, when strategies may have wrapped or divided it.
        """
        board = _board(trainer)
        if board is not None and stage == "fit":
            model = cast(TrainingModule, module).model
            token = torch.from_numpy(model.vocabulary.special_token(model.vocabulary.bos_id))
            board.add_graph(model, token.repeat(1, GRAPH_TOKENS, 1))

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write to TensorBoard."""
        model, board = whole_model(cast(TrainingModule, module).model), _board(trainer)
        if board is None or model is None:
            return
        for name, parameter in model.named_parameters():
            board.add_histogram(name, parameter.detach().float().cpu(), trainer.global_step)
        image = self._draw_sample(model, trainer.global_step) if self._draw_sample else None
        if image is not None:
            board.add_image("sample", image, trainer.global_step, dataformats="HWC")

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the token embeddings of the first field with their names."""
        model, board = whole_model(cast(TrainingModule, module).model), _board(trainer)
        if board is not None and model is not None:
            table = cast(torch.nn.Embedding, model.embedding.tables[0]).weight.detach()
            board.add_embedding(
                table.float().cpu(),
                metadata=self._token_names,
                global_step=trainer.global_step,
                tag="tokens",
            )


class StopOnSignal(Callback):
    """Ends training after the current step on Ctrl-C or SIGTERM, with a checkpoint.

    A second Ctrl-C ends at once; then the run can be resumed from its last checkpoint.
    """

    def __init__(self, tell: Callable[[str], None], saver: SaveLast, path: Path):
        self._tell = tell
        self._saver = saver
        self._path = path
        self._handlers: dict = {}
        self.requested = False

    def __enter__(self) -> "StopOnSignal":
        self._handlers = {number: signal.getsignal(number) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Take over from Lightning's handlers, which leave at once."""
        for number in STOPPING:
            signal.signal(number, self._request)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Save and stop, all processes together; a validation is made only if it is due."""
        asked = trainer.strategy.reduce_boolean_decision(self.requested, all=False)
        if asked and not trainer.fit_loop._should_accumulate():
            trainer.should_stop = True
            self.requested = True
            if not self._saver.validation_is_due(trainer):
                trainer.save_checkpoint(self._path)
                trainer.limit_val_batches = 0

    def _request(self, number: int, _: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.requested = True
        self._tell("stopping after this step; press Ctrl-C again to stop at once")


def _board(trainer: Trainer) -> SummaryWriter | None:
    """The TensorBoard writer, on the process that writes."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            return logger.experiment
    return None
