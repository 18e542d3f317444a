"""The run folder of a training command: which one, its configuration, and its lock."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from seqgen.api.places import find_model
from seqgen.api.settings import RUNS, Settings
from seqgen.checkpoint import LoadedModel, RunFolder, find_checkpoint, load_model, read_run
from seqgen.config import Config, load_config, override_keys, save_config
from seqgen.errors import UserError
from seqgen.files import TEMPORARY, atomic_path, locked, remove, sweep, write_bytes
from seqgen.tasks import learned
from seqgen.tokenizers import build_tokenizer

if TYPE_CHECKING:
    from seqgen.training.team import Team

RUN_VARIABLE = "SEQGEN_RUN_DIR"  # tells processes that Lightning starts which folder it is
VISIBLE_SECONDS = 60.0  # until a network file system shows what another machine has written
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
        "ngram_models",
        "weight_formats",
        "accelerator",
        "devices",
        "strategy",
        "recompute",
    ]
) | {"run.dir", "attention.kernel"}
# What a run leaves before its first checkpoint. The record comes first and goes last.
BEGINNINGS = ("config.yaml", "metrics.jsonl", "tensorboard", "checkpoints", "samples", "run.json")

Tell = Callable[[str], None]  # receives a line of text


@dataclass(frozen=True)
class Job:
    """A training run, resolved."""

    run: RunFolder
    config: Config
    resume: bool
    start: LoadedModel | None  # the run whose weights to begin with
    team: "Team | None" = None  # the processes, where torchrun or srun has started them

    @property
    def is_first(self) -> bool:
        """Whether this process makes the run folder and its record."""
        return is_first(self.team)


def is_first(team: "Team | None") -> bool:
    """Whether this process begins the run, and others join it."""
    return team.rank == 0 if team else "LOCAL_RANK" not in os.environ  # that Lightning sets


@contextlib.contextmanager
def begin(
    settings: Settings | None,
    *,
    resume: bool,
    tell: Tell = lambda line: None,
    team: "Team | None" = None,
) -> Iterator[Job]:
    """Resolve settings to a training job, and keep its run folder locked during the block.

    If the block fails before a step is logged, the folder is left as it was before. Of several
    processes the first one does this; the others join its job once it is told to `team`.

    Args:
        settings: of the first process; the others need none.
        resume: continue a run.
        tell: receives what a user should know.
        team: the processes of the run, where a launcher has started them.

    Raises:
        UserError: the run exists and is not to be resumed, or the reverse; another process trains
            there; a setting of a resumed or initialised run contradicts what it was made with; or
            the machines do not share the run folder.
    """
    if settings is None or not is_first(team):
        run = _shared_folder(team.hear()) if team else RunFolder(Path(os.environ[RUN_VARIABLE]))
        config = load_config(run.config)
        yield Job(run, config, resume, None if resume else _start(config), team)
        return
    config, path, _ = settings
    if resume:
        with _held_again(RunFolder(path.parent), tell) as run:
            yield Job(run, _placed(_resumed(run, config), run), resume, None, team)
    else:
        start = _start(config)
        if start is not None:
            config = _adopt(settings, start)
        with _new_folder(config.run.dir, path.stem, tell) as run:
            yield Job(run, _placed(config, run), resume, start, team)


def fixed_settings(config: Config) -> dict[str, object]:
    """What a resumed run cannot change, by dotted key."""
    return {
        f"{section}.{name}": value
        for section, values in config.model_dump().items()
        for name, value in values.items()
        if f"{section}.{name}" not in FREE_KEYS
    }


def write_config(job: Job) -> None:
    """Write the resolved configuration where the other processes of the run find it."""
    with atomic_path(job.run.config) as temporary:
        save_config(job.config, temporary)
    path = str(job.run.path.resolve())
    os.environ[RUN_VARIABLE] = path
    if job.team:
        job.team.tell(run=path, held_by=job.run.lock.read_text())


def _shared_folder(facts: dict[str, str]) -> RunFolder:
    """Find the folder that the first process holds; wait until a network file system shows it."""
    run, begin = RunFolder(Path(facts["run"])), time.monotonic()
    while time.monotonic() - begin < VISIBLE_SECONDS:
        with contextlib.suppress(OSError):
            if run.lock.read_text() == facts["held_by"] and run.config.exists():
                return run
        time.sleep(0.2)
    raise UserError(
        f"{run.path} is not the folder that {facts['held_by'].strip()} writes to: choose a run.dir "
        f"that all machines share under the same path"
    )


def _placed(config: Config, run: RunFolder) -> Config:
    place = config.run.model_copy(update={"dir": str(run.path)})
    return config.model_copy(update={"run": place})


@contextlib.contextmanager
def _new_folder(given: str | None, name: str, tell: Tell) -> Iterator[RunFolder]:
    """Create and lock the folder of a new run; remove it again if training fails before a step."""
    if given is None:
        path, made = _make_numbered(name)
    else:
        path = Path(given)
        made = [place for place in (path, *path.parents) if not place.exists()]
    run = RunFolder(path)
    try:
        _check_is_ours(run)
        with _held(run, tell):
            _clear_unstarted(run, tell)
            try:
                yield run
            except BaseException:
                has_metrics = run.metrics.exists() and run.metrics.stat().st_size > 0
                if not (has_metrics or run.last.exists()):
                    _clear(run)
                raise
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # there is something in it
                place.rmdir()


def _make_numbered(name: str) -> tuple[Path, list[Path]]:
    """Make runs/NAME, or the first runs/NAME-N that is free; return it and all folders made."""
    made = [] if RUNS.exists() else [RUNS]
    RUNS.mkdir(exist_ok=True)
    for number in count(1):
        path = RUNS / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):  # of two processes, one makes it
            path.mkdir()
            return path, [path, *made]
    raise AssertionError


def _content(run: RunFolder) -> set[str]:
    names = {path.name for path in run.path.iterdir()} if run.path.exists() else set()
    return {name for name in names - {run.lock.name} if not name.startswith(TEMPORARY)}


def _check_is_ours(run: RunFolder) -> None:
    """Refuse a folder that holds something else than a run, before anything in it is touched."""
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path} is a file: choose another run.dir")
    content = _content(run)
    if content and not run.record.exists():
        raise UserError(f"{run.path} holds {min(content)} and no run: choose another run.dir")
    if content:
        read_run(run)


def _clear_unstarted(run: RunFolder, tell: Tell) -> None:
    """Clear the files of a run that ended before its first checkpoint; refuse any other run."""
    content = _content(run)
    if run.last.exists():
        raise UserError(
            f"{run.path} exists: add --resume to continue it, or choose another run.dir"
        )
    if not content <= set(BEGINNINGS) or any(run.checkpoints.glob("*")):
        raise UserError(
            f"{run.path} holds a run without {run.last.name}, which cannot be resumed: choose "
            f"another run.dir, or delete the folder"
        )
    if content:
        tell(
            f"{run.path} holds a run that ended before its first checkpoint: "
            f"it starts again from step 0"
        )
    _clear(run)


def _clear(run: RunFolder) -> None:
    for name in BEGINNINGS:
        remove(run.path / name)


@contextlib.contextmanager
def _held_again(run: RunFolder, tell: Tell) -> Iterator[RunFolder]:
    """Lock the folder of a resumed run; without a new checkpoint its configuration is restored."""
    with _held(run, tell):
        config, checkpoint = run.config.read_bytes(), _identity(run.last)
        try:
            yield run
        except BaseException:
            if _identity(run.last) == checkpoint and run.config.read_bytes() != config:
                write_bytes(run.config, config)
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


@contextlib.contextmanager
def _held(run: RunFolder, tell: Tell) -> Iterator[None]:
    def refuse(holder: str) -> None:
        raise UserError(
            f"{holder} is training in {run.path}: wait until it has ended, stop it, or choose "
            f"another run.dir"
        )

    with locked(run.lock, if_held=refuse) as is_held:
        if not is_held:
            tell(
                f"the file system of {run.path} does not support locks: do not start another "
                f"training there before this one has ended"
            )
        sweep(run.path)
        yield


def _resumed(run: RunFolder, config: Config) -> Config:
    made_with = read_run(run)["settings"]
    if not find_checkpoint(run.last):
        raise UserError(
            f"nothing to resume: {run.path} has no checkpoint yet; "
            f"without --resume it starts again from step 0"
        )
    for key, value in fixed_settings(config).items():
        if value != made_with.get(key):
            raise UserError(
                f"{key} is {made_with.get(key)} in {run.path}: resuming cannot change it to "
                f"{value}; begin a new run with train.init_from={run.path} instead"
            )
    return config


def _start(config: Config) -> LoadedModel | None:
    start = config.train.init_from
    return None if start is None else load_model(find_model(start))


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
    data = config.data
    if start.tokenizer.config.marks and not (data.tasks or data.controls):
        if config.train.carry_state:
            raise UserError(
                f"train.carry_state goes through pieces as they are, and {config.train.init_from} "
                f"has learned tasks or controls, which tell them in another order: leave it out"
            )
        data = data.model_copy(update=learned(start.tokenizer.config))
    if start.pairs is not None and data.pairs is None:
        data = data.model_copy(update={"pairs": start.pairs})
    changes = {"model": model, "tokenizer": start.tokenizer.config, "data": data}
    return config.model_copy(update=changes)
