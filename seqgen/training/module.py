"""The Lightning module: forward pass, loss, log.

Legend: B rows, T targets of a window, F fields.
"""

import math
import time
import zlib
from collections.abc import Callable
from typing import cast

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.tensor import DTensor

from seqgen.attention.operator import describe_kernel
from seqgen.config import TrainConfig
from seqgen.errors import UserError
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.state import State
from seqgen.training.data_module import MicroBatch
from seqgen.training.divergence import DivergenceCheck
from seqgen.training.optimizers import build_optimizer
from seqgen.training.schedules import schedule_of
from seqgen.training.sharding import ShardedStrategy, is_sharded, shard


class TrainingModule(LightningModule):
    """Trains a `SequenceModel` by teacher forcing; the loss is the mean over a step's targets."""

    def __init__(
        self,
        model: SequenceModel,
        config: TrainConfig,
        *,
        seed: int,
        held_out_units: int,
        kernel: str = "auto",
        tell: Callable[[str], None] = lambda line: None,
    ):
        super().__init__()
        self.model = model
        self._config = config
        self._seed = seed
        self._held_out_units = held_out_units
        self._kernel = kernel
        self._tell = tell
        self._step_loss = torch.zeros(())
        self._gradient_norm = torch.zeros(())
        self._learning_rate = 0.0
        self._sources: tuple[str, ...] = ()  # files of the step at hand
        self._divergence = DivergenceCheck(config.learning_rate)
        self._carried: dict[tuple[int, int], State] = {}  # by turn and micro-batch
        self._held_out_state: State | None = None
        self._restart_clock()

    def training_step(self, batch: MicroBatch, batch_index: int) -> Tensor:
        """Return the loss of a micro-batch in nats per target, weighted as a part of its step."""
        micro_batch = batch_index % self._config.accumulate
        nats = self._training_nats(batch, micro_batch)
        loss = nats.sum() * batch.weight
        self._sources = (*self._sources, *batch.sources)
        # In half precision an infinite gradient is expected: the loss scale is lowered.
        if self._half_precision:
            self._check_divergence("loss", loss)
        self._step_loss = self._step_loss + loss.detach() / self._config.accumulate
        self._tokens_since += batch.n_targets
        self._waited_since += batch.waited
        return loss

    def validation_step(self, batch: MicroBatch, batch_index: int) -> None:
        """Add up nats and targets of held-out rows."""
        carry = self._config.carry_state
        state = self._held_out_state if batch.continues else None
        if state is not None:
            state = state.rows(range(len(batch.lengths)))  # pieces that ended have left
        nats, self._held_out_state = self._nats(batch, state=state, keep_state=carry)
        targets = batch.tokens[:, 1:]
        special = torch.tensor(self.model.vocabulary.special_ids, device=targets.device)
        material = ~torch.isin(targets[..., 0], special)
        sums = (nats.sum(), batch.n_targets, (nats * material).sum())
        self._held_out += torch.tensor([float(x) for x in sums], dtype=torch.float64)

    def on_validation_epoch_start(self) -> None:
        """Reset the sums; do not validate spoilt weights."""
        self._divergence.finish()
        self._held_out = torch.zeros(3, dtype=torch.float64)
        self._held_out_state = None

    def on_validation_epoch_end(self) -> None:
        """Log nats per token and bits per unit over all processes."""
        sums = self._held_out
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        nats, n_targets, material_nats = sums.tolist()
        metrics = {
            "validation_loss": nats / n_targets,
            "validation_bits_per_unit": material_nats / math.log(2) / max(self._held_out_units, 1),
        }
        for name, value in metrics.items():
            self._show(name, value, prog_bar=name == "validation_loss")
        self.write_metrics(metrics)
        self._restart_clock()

    def configure_model(self) -> None:
        """Divide the model among the processes with train.strategy=fsdp."""
        if isinstance(self.trainer.strategy, ShardedStrategy) and not is_sharded(self.model):
            shard(self.model, self.trainer.strategy.device_mesh["data_parallel"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, and the schedule by step."""
        optimizer = build_optimizer(self.model, self._config)
        schedule = schedule_of(self._config)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *_: object, **__: object
    ) -> None:
        """Clip by the norm over all parameters, and keep it and the learning rate for the log."""
        self._learning_rate = optimizer.param_groups[0]["lr"]
        limit = self._config.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        self._gradient_norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        # Gradients are summed over processes, so all of them see this and stop together.
        if not self._half_precision:
            self._check_divergence("loss or its gradient", self._gradient_norm)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Save the carried states of whole batches, by turn; nothing, if the weights are spoilt."""
        self._divergence.finish()
        carried = [self._carried]
        if self._carried and self.trainer.world_size > 1:
            here = {place: state.to("cpu") for place, state in self._carried.items()}
            carried *= self.trainer.world_size
            dist.all_gather_object(carried, here)
        checkpoint["carried"] = {}
        for turn in sorted({turn for turn, _ in self._carried}):
            shares = [
                of_process[turn, i]
                for i in range(self._config.accumulate)
                for of_process in carried
            ]
            joined = State.join(shares)  # share after share; row b is of share b % len(shares)
            order = torch.arange(joined.n_rows).reshape(len(shares), -1).T.flatten()
            state = joined.rows(order)
            rest = (state.recent, state.position, state.origin, state.held)
            checkpoint["carried"][turn] = (state.attention, *rest)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Restore the carried states of this process's rows."""
        of, rank = self.trainer.world_size, self.trainer.global_rank
        for turn, tensors in checkpoint["carried"].items():
            state = State(*tensors)
            for i in range(self._config.accumulate):
                rows = range(i * of + rank, state.n_rows, of * self._config.accumulate)
                self._carried[turn, i] = state.rows(rows)

    def on_fit_start(self) -> None:
        """Choose the attention kernel, now that the device is known; say what will be trained."""
        if self.trainer.is_global_zero:
            self._tell(self._describe())
        if self.model.config.attention == "causal-linear":
            try:
                self.model.use_kernel(self._kernel)
                said = describe_kernel(self._kernel, self.device, cast(torch.dtype, self.dtype))
            except ValueError as error:
                raise UserError(
                    f"{error}; attention.kernel=auto chooses one that is available"
                ) from None
            if self.trainer.is_global_zero:
                self._tell(f"attention kernel: {said}")
        self.model.recompute = self._config.recompute
        if self._config.compile:
            self.model.stack.compile()

    def on_train_start(self) -> None:
        """Start the clock; move restored states to the model's device, and set the schedule."""
        for place, state in self._carried.items():
            self._carried[place] = state.to(self.device)
        # A checkpoint holds the next step's learning rate by the schedule that it was saved with.
        scheduler = cast(torch.optim.lr_scheduler.LambdaLR, self.lr_schedulers())
        share = schedule_of(self._config)(scheduler.last_epoch)
        for group, peak in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
            group["lr"] = peak * share
        self._restart_clock()

    def on_train_batch_start(self, batch: MicroBatch, batch_index: int) -> None:
        """Make randomness (dropout) a function of seed, step, micro-batch and process alone."""
        micro_batch = batch_index % self._config.accumulate
        place = (self._seed, self.global_step, micro_batch, self.global_rank)
        torch.manual_seed(zlib.crc32(repr(place).encode()))

    def log_step(self, batch_index: int) -> None:
        """Log a step, if it is finished and due."""
        if (batch_index + 1) % self._config.accumulate:
            return
        if self.global_step % self._config.log_every == 0:
            loss = float(self.trainer.strategy.reduce(self._step_loss, reduce_op="mean"))
            elapsed = time.perf_counter() - self._time_since
            tokens = self._tokens_since * self.trainer.world_size
            self.write_metrics(
                {
                    "loss": loss,
                    "learning_rate": self._learning_rate,
                    "gradient_norm": float(self._gradient_norm),
                    "training_tokens_per_second": tokens / max(elapsed, 1e-9),
                    "waiting_for_data": self._waited_since / max(elapsed, 1e-9),  # share of time
                }
            )
            self._show("loss", loss)
            self._restart_clock()
        self._step_loss = torch.zeros(())
        self._sources = ()

    def _show(self, name: str, value: float, *, prog_bar: bool = True) -> None:
        """Give Lightning a value on the host: the bar reads it at each step."""
        self.log(name, torch.tensor(value), prog_bar=prog_bar, logger=False)

    def _describe(self) -> str:
        """Say how large the model and a step are, and on what they are computed."""
        model, config = self.model.config, self._config
        parameters = list(self.model.parameters())
        total = sum(p.numel() for p in parameters)
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        frozen = f", {trained:,} of them trained" if trained < total else ""
        layers = f"{model.n_layers} layers"
        if model.kind != "decoder":
            layers = f"encoder and decoder of {layers} each,"
        decay = "" if model.decay == "none" else f" with {model.decay} decay"
        device = f"{self.device.type} (threads: {torch.get_num_threads()})"
        if self.trainer.world_size > 1:
            machines = (
                f" of {self.trainer.num_nodes} machines" if self.trainer.num_nodes > 1 else ""
            )
            device = f"{self.trainer.world_size} devices{machines} ({self.device.type})"
        return (
            f"model: {layers} of width {model.d_model}, {model.n_heads} heads, "
            f"{model.attention} attention{decay}, {total:,} parameters{frozen}\n"
            f"training: to step {config.max_steps:,}, {config.batch_size} rows of "
            f"{config.context_length} tokens in each, on {device}, precision {config.precision}"
        )

    def _restart_clock(self) -> None:
        self._tokens_since, self._waited_since, self._time_since = 0, 0.0, time.perf_counter()

    def write_metrics(self, metrics: dict[str, float]) -> None:
        """Send metrics to every logger at the present step."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def _training_nats(self, batch: MicroBatch, micro_batch: int) -> Tensor:
        """Return nats per target [B, T] of a micro-batch, from the state carried to it, if any."""
        place = (batch.turn, micro_batch)
        state = self._carried.get(place) if batch.continues else None
        carry = self._config.carry_state
        smoothing = self._config.label_smoothing
        nats, end = self._nats(batch, state=state, keep_state=carry, label_smoothing=smoothing)
        if end is not None:
            self._carried[place] = end.detach()  # what came before is not learned from again
        return nats

    def _nats(
        self,
        batch: MicroBatch,
        *,
        state: State | None = None,
        keep_state: bool = False,
        label_smoothing: float = 0.0,
    ) -> tuple[Tensor, State | None]:
        """Nats [B, T], zero where a row has no target, and the state after the rows if wanted."""
        if batch.source is not None and batch.source_lengths is not None:
            state = self.model.begin(batch.source, batch.source_lengths)
        hidden, end = self.model.run(
            batch.tokens[:, :-1],
            batch.lengths,
            boundaries=batch.boundaries,
            state=state,
            keep_state=keep_state,
        )
        targets = batch.tokens[:, 1:]
        logits = self.model.lm_head(hidden, targets)
        nats = token_nats(logits, targets, uses=self.model.uses, label_smoothing=label_smoothing)
        return nats * batch.targets, end

    @property
    def _half_precision(self) -> bool:
        return self._config.precision.startswith("16")

    def _check_divergence(self, what: str, value: Tensor) -> None:
        step = self.global_step + 1
        self._divergence.check(what, value, step=step, sources=self._sources)
