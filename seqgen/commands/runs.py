"""Which run folder a training command means, and with what configuration."""

import os
from dataclasses import dataclass
from pathlib import Path

from seqgen.checkpoint import LoadedModel, RunFolder, load_model
from seqgen.commands.settings import RUNS, Settings
from seqgen.config import Config, load_config, override_keys, save_config
from seqgen.errors import UserError
from seqgen.files import atomic_path
from seqgen.tokenizers import build_tokenizer

RUN_VARIABLE = "SEQGEN_RUN_DIR"  # tells the other processes of a run which folder it is
# What a resumed run may change without ceasing to be the same run.
FREE_KEYS = frozenset(
    f"train.{key}"
    for key in [
        "max_steps",
        "schedule_steps",
        "final_learning_rate",
        "validate_every",
        "checkpoint_every",
        "log_every",
        "early_stopping",
        "sample_tokens",
        "count_models",
        "accelerator",
        "devices",
        "strategy",
        "recompute",
    ]
) | {"run.dir", "attention.kernel"}


@dataclass(frozen=True)
class Job:
    """A training command, resolved."""

    run: RunFolder
    config: Config
    resume: bool
    start: LoadedModel | None  # the run whose weights to begin with


def begin(settings: Settings, *, resume: bool) -> Job:
    """Resolve a training command; nothing is written yet.

    Raises:
        UserError: the run exists and is not to be resumed, or the reverse, or a setting of a
            resumed or initialised run contradicts what it was made with.
    """
    config, path, _ = settings
    if "LOCAL_RANK" in os.environ:  # started by the first process of the run
        if RUN_VARIABLE not in os.environ:
            raise UserError(
                "start one process and let train.devices=N train.strategy=ddp start the others"
            )
        run = RunFolder(Path(os.environ[RUN_VARIABLE]))
        config = load_config(run.config)
        return Job(run, config, resume, None if resume else _start(config))
    if resume:
        run = RunFolder(path.parent)
        config = _resumed(run, settings)
    else:
        run = RunFolder(_new(config, path.stem))
    start = None if resume else _start(config)
    if start is not None:
        config = _adopt(settings, start)
    config = config.model_copy(update={"run": config.run.model_copy(update={"dir": str(run.path)})})
    return Job(run, config, resume, start)


def create(job: Job) -> None:
    """Make the run folder, with its resolved configuration; other processes of the run find it."""
    with atomic_path(job.run.config) as temporary:
        save_config(job.config, temporary)
    os.environ[RUN_VARIABLE] = str(job.run.path.resolve())


def _new(config: Config, name: str) -> Path:
    if config.run.dir is not None:
        path = Path(config.run.dir)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(
                f"{path} exists: add --resume to go on with it, or choose another run.dir"
            )
        return path
    path, number = RUNS / name, 1
    while path.exists():
        number += 1
        path = RUNS / f"{name}-{number}"
    return path


def _resumed(run: RunFolder, settings: Settings) -> Config:
    saved, config = load_config(run.config), settings.config
    for key in sorted(override_keys(settings.overrides) - FREE_KEYS):
        section, _, name = key.partition(".")
        old = getattr(getattr(saved, section), name)
        new = getattr(getattr(config, section), name)
        if old != new:
            raise UserError(
                f"{key} is {old} in {run.path}: resuming cannot change it to {new}; begin a new "
                f"run with train.init_from={run.path} instead"
            )
    if not run.last.exists():
        raise UserError(
            f"nothing to resume: {run.path} has no checkpoint yet; delete the folder and train anew"
        )
    return config


def _start(config: Config) -> LoadedModel | None:
    return None if config.train.init_from is None else load_model(Path(config.train.init_from))


def _adopt(settings: Settings, start: LoadedModel) -> Config:
    """Take sizes and tokenizer from the run to start from; refuse settings that contradict it."""
    config = settings.config
    for key in sorted(override_keys(settings.overrides)):
        section, _, name = key.partition(".")
        theirs = {"model": start.model.config, "tokenizer": start.tokenizer.config}.get(section)
        asked = getattr(getattr(config, section), name)
        if theirs is not None and getattr(theirs, name) != asked and key != "model.dropout":
            raise UserError(
                f"{key}={asked} contradicts {config.train.init_from}, which has "
                f"{getattr(theirs, name)}: leave it out"
            )
    if build_tokenizer(config.tokenizer, config.limits).suffixes != start.tokenizer.suffixes:
        raise UserError(
            f"{settings.name} is for other files (tokenizer.type={config.tokenizer.type}) than "
            f"train.init_from={config.train.init_from} was trained on (tokenizer.type="
            f"{start.tokenizer.config.type}): use a configuration for that type, or another run"
        )
    model = start.model.config.model_copy(update={"dropout": config.model.dropout})
    return config.model_copy(update={"model": model, "tokenizer": start.tokenizer.config})
