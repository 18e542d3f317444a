"""One training run from configuration to model folder, driven by Lightning."""

import contextlib
import logging
import math
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, cast

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.distributed import DistError

from seqgen.checkpoint import LoadedModel, RunFolder, last_step, read_checkpoint, save_model
from seqgen.config import ModelConfig, TrainConfig
from seqgen.data.shards import PreparedData
from seqgen.data.splits import VALIDATION
from seqgen.errors import UserError
from seqgen.model.encoder_decoder import build_model
from seqgen.model.sequence_model import SequenceModel
from seqgen.native import has_bfloat16
from seqgen.tasks import Pairs, open_pairs
from seqgen.training.callbacks import (
    METRICS_BYTES,
    DrawSample,
    KeepBestModel,
    LogSteps,
    Pictures,
    SaveLast,
    StepBar,
    StopOnSignal,
)
from seqgen.training.data_module import TrainingDataModule, validation_pieces
from seqgen.training.metrics import JsonLinesLogger
from seqgen.training.module import TrainingModule
from seqgen.training.saving import AtomicCheckpointIO
from seqgen.training.sharding import ShardedStrategy, whole_model
from seqgen.training.team import Team

SILENCE = timedelta(minutes=10)  # after which a process that does not answer counts as lost


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: optimizer steps taken in all.
        best_loss: lowest validation loss, nats per token; infinite where nothing was held out.
        best_bits_per_unit: at the same validation, bits per unit of the tokenizer (note, byte).
        stopped: whether a signal ended it early.
        is_main: whether this is the process that writes and reports.
    """

    step: int
    best_loss: float
    best_bits_per_unit: float
    stopped: bool
    is_main: bool


def train(
    run: RunFolder,
    data: PreparedData,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    seed: int,
    tasks: Mapping[str, float] | None = None,
    pairs: str | None = None,
    kernel: str = "auto",
    resume: bool = False,
    start: LoadedModel | None = None,
    draw_sample: DrawSample | None = None,
    team: Team | None = None,
    tell: Callable[[str], None] = lambda line: None,
    show_progress: bool = True,
) -> Outcome:
    """Train a model on prepared data and leave everything in the run folder.

    Args:
        run: where checkpoints, metrics and the model folder go.
        data: prepared tokens and their tokenizer.
        model_config: sizes of the model.
        config: how to train.
        seed: of weights, batches and dropout.
        tasks: the share of each task; None: windows of pieces as they are.
        pairs: how pieces are told as a source and a target, as `data.pairs`; None: they are not.
        kernel: which attention kernel to use, as in `causal_linear_attention`.
        resume: continue exactly from the run's last checkpoint.
        start: model whose weights and tokenizer a new run starts from (`train.init_from`).
        draw_sample: makes a picture of a generated piece at each validation.
        team: the processes of the run, where torchrun or srun has started them.
        tell: receives messages, one line each.
        show_progress: draw a progress bar.

    Raises:
        UserError: the loss is not a number, the device settings do not fit this machine, the
            checkpoint cannot be read, or another process has ended.
    """
    _quiet()
    metrics = JsonLinesLogger(run.metrics)
    resumed_step = _return_to_checkpoint(run, metrics) if resume else None
    model = _build_model(data, model_config, start, seed=seed)
    length = model.vocabulary.length
    if model_config.positions == "axes" and length and config.context_length <= length:
        raise UserError(
            f"train.context_length={config.context_length}: with model.positions=axes a window "
            f"must hold a whole piece, which has {length} tokens and BOS: set at least {length + 1}"
        )
    if config.strategy == "fsdp" and model_config.kind == "encoder-decoder":
        raise UserError(
            "train.strategy=fsdp divides decoders only, and model.kind is encoder-decoder: use "
            "train.strategy=ddp"
        )
    opened = None if pairs is None else open_pairs(pairs, data.tokenizer)
    units = _held_out_units(data, config, opened)
    module = TrainingModule(
        model, config, seed=seed, held_out_units=units, kernel=kernel, tell=tell
    )
    facts = {"context_length": config.context_length, "pairs": pairs}
    save_best = partial(_save_best, run, data, facts)
    keeper = KeepBestModel(save_best, unit=data.tokenizer.unit, tell=tell)
    held_out = bool(data.of_split(VALIDATION))
    every = config.validate_every if held_out else None
    saver = SaveLast(run.last, metrics, every=config.checkpoint_every, validate_every=every)
    stopper = StopOnSignal(tell, saver, run.last)
    callbacks = [LogSteps(), keeper, Pictures(draw_sample, data.tokenizer.names()), stopper]
    callbacks += _library_callbacks(run, config, held_out=held_out, show_progress=show_progress)
    callbacks.append(saver)
    purge = None if resumed_step is None else resumed_step + 1
    board = TensorBoardLogger(
        run.path, name="", version="tensorboard", purge_step=purge, default_hp_metric=False
    )
    trainer = _build_trainer(
        run, config, callbacks, [metrics, board], team=team, show_progress=show_progress
    )
    _warn_of_slow_bfloat16(trainer, config, tell)
    data_module = TrainingDataModule(data, config, seed=seed, tasks=tasks, pairs=opened)
    with _told_of_lost_processes(trainer, run), stopper:
        try:
            trainer.fit(
                module, data_module, ckpt_path=run.last if resume else None, weights_only=True
            )
        except SystemExit as ended:  # Lightning's way to end at Ctrl-C
            raise KeyboardInterrupt if ended.code == 1 else ended from None
    with _told_of_lost_processes(trainer, run):
        if not stopper.requested:
            if held_out and keeper.validated_step != trainer.global_step:
                trainer.validate(module, data_module, verbose=False)
            trainer.save_checkpoint(run.last)
            if held_out:  # runs are compared by it
                settings = {"model": model_config.model_dump(), "train": config.model_dump()}
                reached = {
                    "best_validation_loss": keeper.best,
                    "best_validation_bits_per_unit": keeper.best_bits_per_unit,
                }
                board.log_hyperparams({**settings, "seed": seed}, reached, trainer.global_step)
                board.finalize("success")
        has_best = trainer.strategy.broadcast(held_out and run.model.exists())
        whole = None if has_best else whole_model(module.model)
    if trainer.is_global_zero and whole is not None:
        save_best(whole, trainer.global_step, keeper.best)
    return Outcome(
        step=trainer.global_step,
        best_loss=keeper.best,
        best_bits_per_unit=keeper.best_bits_per_unit,
        stopped=stopper.requested,
        is_main=trainer.is_global_zero,
    )


@contextlib.contextmanager
def _told_of_lost_processes(trainer: Trainer, run: RunFolder) -> Iterator[None]:
    """Say in a sentence what torch's communication libraries report when a process has gone."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, DistError) or "gloo" in str(error)):
            raise
        step = last_step(run)
        resume = shlex.join(["python", "cli.py", "train", "--resume", f"run.dir={run.path}"])
        way_out = (
            f"resume from step {step:,}, on any number of processes, with {resume}"
            if step
            else "there is no checkpoint yet, so start it again (GLOO_SOCKET_IFNAME or "
            "NCCL_SOCKET_IFNAME name the network interface, if the wrong one is used)"
        )
        raise UserError(
            f"another process of this run ended or cannot be reached, after step "
            f"{trainer.global_step:,}: {way_out}"
        ) from error


def _return_to_checkpoint(run: RunFolder, metrics: JsonLinesLogger) -> int:
    """Drop metrics that the last checkpoint does not cover; return its step."""
    best = run.last.with_name("best.ckpt")
    way_out = f"copy {best} over it if that one is undamaged, or begin a new run"
    checkpoint = read_checkpoint(run.last, way_out=way_out, whole=False)
    metrics.cut(checkpoint[METRICS_BYTES])
    return checkpoint["global_step"]


def _save_best(
    run: RunFolder,
    data: PreparedData,
    facts: dict,
    model: SequenceModel,
    step: int,
    loss: float,
) -> None:
    save_model(
        run.model,
        model,
        data.tokenizer,
        step=step,
        loss=loss if math.isfinite(loss) else None,  # JSON has no infinity
        **facts,
    )


def _held_out_units(data: PreparedData, config: TrainConfig, pairs: Pairs | None) -> int:
    """Count the units of held-out pieces, or of their targets."""
    pieces = validation_pieces(data, config)
    if pairs is None:
        return sum(piece.units for piece in pieces)
    windows = (w for x in pieces for w in pairs.windows(data.read(x), config.context_length))
    return sum(data.tokenizer.units(window.target) for window in windows)


def _build_model(
    data: PreparedData, model_config: ModelConfig, start: LoadedModel | None, *, seed: int
) -> SequenceModel:
    torch.manual_seed(seed)
    model = build_model(model_config, data.tokenizer.vocabulary)
    if start is not None:
        if start.tokenizer.fingerprint() != data.tokenizer.fingerprint():
            raise UserError(
                f"train.init_from: the data in {data.folder} has another tokenizer than that run"
            )
        model.load_state_dict(start.model.state_dict(), strict=True)
    return model


def _library_callbacks(
    run: RunFolder, config: TrainConfig, *, held_out: bool, show_progress: bool
) -> list[Callback]:
    best = ModelCheckpoint(
        dirpath=run.checkpoints,
        filename="best",
        monitor="validation_loss",
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [best] if held_out else []
    if held_out and config.early_stopping is not None:
        callbacks.append(EarlyStopping("validation_loss", patience=config.early_stopping))
    return [*callbacks, StepBar(leave=True)] if show_progress else callbacks


def _build_trainer(
    run: RunFolder,
    config: TrainConfig,
    callbacks: list,
    loggers: list,
    *,
    team: Team | None,
    show_progress: bool,
) -> Trainer:
    plugins: list = [AtomicCheckpointIO(), *([team.environment] if team else [])]
    try:
        return Trainer(
            accelerator=config.accelerator,
            devices=_devices(config, team),
            num_nodes=team.n_nodes if team else 1,
            strategy=_strategy(config, team),
            precision=cast(Any, config.precision),  # Lightning checks what it is
            max_steps=config.max_steps,
            accumulate_grad_batches=config.accumulate,
            val_check_interval=config.validate_every * config.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            log_every_n_steps=config.log_every,
            callbacks=callbacks,
            plugins=plugins,
            logger=loggers,
            default_root_dir=run.path,
            enable_progress_bar=show_progress,
            enable_model_summary=False,  # the module says what it is
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"train.accelerator={config.accelerator}, devices={config.devices}, "
            f"strategy={config.strategy}, precision={config.precision} do not work here: {reason}"
        ) from None


def _devices(config: TrainConfig, team: Team | None) -> int | list[int] | str:
    """Return the devices of this machine: as many as it has processes, if a launcher made them."""
    if team is None:
        return config.devices
    asked = config.devices
    n_asked = len(asked) if isinstance(asked, list) else asked
    if n_asked not in ("auto", team.per_node, str(team.per_node)):
        raise UserError(
            f"train.devices={asked}: each machine has {team.per_node} processes, of one device "
            f"each; leave train.devices out, or start as many processes"
        )
    return team.per_node if asked == "auto" else asked


def _strategy(config: TrainConfig, team: Team | None) -> Strategy | str:
    """Return the strategy; processes that a launcher made do not wait longer than `SILENCE`."""
    if config.strategy == "fsdp":
        return ShardedStrategy(timeout=SILENCE)
    if team and team.size > 1 and config.strategy in ("auto", "ddp"):
        return DDPStrategy(timeout=SILENCE)
    return config.strategy


def _warn_of_slow_bfloat16(
    trainer: Trainer, config: TrainConfig, tell: Callable[[str], None]
) -> None:
    on_cpu = trainer.strategy.root_device.type == "cpu" and trainer.is_global_zero
    if on_cpu and config.precision.startswith("bf16") and not has_bfloat16():
        tell(
            f"train.precision={config.precision}: this CPU has no bfloat16 instructions, so matrix "
            f"products will take many times as long as with 32-true"
        )


def _quiet() -> None:
    """Silence hints of Lightning that do not help here."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*`IterableDataset` has `__len__` defined.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*logging on epoch level in distributed setting.*",  # of sums over all processes
        ".*Total length of `list` across ranks is zero.*",  # nothing is held out
        # TensorBoard's graph is a trace of one row; other rows take the same way through it.
        ".*`torch.jit.trace.*is deprecated.*",
        "Converting a tensor to a Python .* might cause the trace to be incorrect.*",
        ".*FSDP2-wrapped module .* returned a view tensor.*",  # which the loss does not write into
    ):
        warnings.filterwarnings("ignore", message=message)
