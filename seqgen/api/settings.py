"""Settings resolved: a configuration file and `key=value` arguments, new or of a resumed run."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seqgen.config import Config, TrainConfig, beyond_defaults, load_config, override_keys
from seqgen.errors import UserError
from seqgen.files import PROJECT, project_folder
from seqgen.tokenizers import modality

CONFIGS = project_folder("configs")
RUNS = Path("runs")


class Settings(NamedTuple):
    """A configuration, the file it comes from, and the `key=value` settings given beside it."""

    config: Config
    file: Path
    overrides: list[str]

    @property
    def name(self) -> str:
        """What to call the file: a shipped one by its place in the project."""
        inside = self.file.is_relative_to(PROJECT)
        return str(self.file.relative_to(PROJECT) if inside else self.file)


def read_config(arguments: Sequence[str]) -> Settings:
    """Resolve arguments, a configuration file and `key=value` settings, to a configuration."""
    file, overrides = _read_arguments(arguments)
    return Settings(load_config(file, overrides), file, overrides)


def adapting(run: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a training that goes on from `run` with other files.

    Raises:
        UserError: the files are not named, or another configuration file is.
    """
    if "data.source" not in override_keys([one for one in arguments if "=" in one]):
        raise UserError("--adapt needs files to learn from: data.source=FOLDER")
    files = [argument for argument in arguments if "=" not in argument]
    if files:
        raise UserError(f"--adapt has settings of its own: leave out {files[0]}")
    return (str(CONFIGS / "adapt.yaml"), f"train.init_from={run}", *arguments)


def read_resumed(arguments: Sequence[str]) -> Settings:
    """Resolve the arguments of `train --resume` to the configuration of the resumed run.

    The run is that of `run.dir`, or the newest one named after the configuration file, if one is
    given, or the newest of all.
    """
    file, overrides = _read_arguments(arguments)
    places = [override for override in overrides if override.startswith("run.dir=")]
    place = load_config(file, places).run.dir
    is_named = len(overrides) < len(arguments)
    path = _existing(place, file.stem if is_named else None) / "config.yaml"
    if "train.schedule_steps" in override_keys(overrides):
        return Settings(load_config(path, overrides), path, overrides)
    config = load_config(path, [*overrides, "train.schedule_steps=null"])
    steps = _schedule_steps(load_config(path).train, max_steps=config.train.max_steps)
    train = config.train.model_copy(update={"schedule_steps": steps})
    return Settings(config.model_copy(update={"train": train}), path, overrides)


def _read_arguments(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    files = [argument for argument in arguments if "=" not in argument]
    overrides = [argument for argument in arguments if "=" in argument]
    if len(files) > 1:
        raise UserError(f"one configuration file at most, got {' and '.join(files)}")
    path = Path(files[0]) if files else _default_file(overrides)
    if not path.exists():
        shipped = CONFIGS / f"{path.stem}.yaml"
        if not shipped.exists():
            known = ", ".join(sorted(p.name for p in CONFIGS.glob("*.yaml")))
            raise UserError(f"no configuration file {path} (configs/ has {known})")
        path = shipped
    return path, overrides


def _default_file(overrides: Sequence[str]) -> Path:
    """The quickstart is for its own corpus; other data get settings that suit any."""
    if "data.source" not in override_keys(overrides):
        return CONFIGS / "quickstart.yaml"
    type = dict(override.split("=", 1) for override in overrides).get("tokenizer.type")
    suits = CONFIGS / f"{modality(type).kind}.yaml" if type else CONFIGS / "midi.yaml"
    return suits if suits.exists() else CONFIGS / "midi.yaml"


def _existing(place: str | None, name: str | None) -> Path:
    if place is not None:
        path = Path(place)
        if not (path / "config.yaml").is_file():
            raise UserError(f"nothing to resume: {path} is not a run")
        return path
    called = re.compile(r".*" if name is None else rf"{re.escape(name)}(-\d+)?")
    found = [path for path in RUNS.glob("*/config.yaml") if called.fullmatch(path.parent.name)]
    if not found:
        runs = "run" if name is None else f"run named {name}"
        raise UserError(f"nothing to resume: no {runs} in {RUNS}/; choose one with run.dir=FOLDER")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def _schedule_steps(saved: TrainConfig, *, max_steps: int) -> int | list[int] | None:
    """Keep the schedule that a run has; steps beyond its end become one more cycle of it."""
    ends = saved.schedule_ends
    if max_steps == saved.max_steps:
        return saved.schedule_steps
    if saved.max_steps <= ends[-1] < max_steps:
        return [*ends, max_steps]
    return ends


def describe_settings(settings: Settings) -> str:
    """Say which configuration file is used, and what it sets beyond the defaults."""
    start, given = settings.config.train.init_from, override_keys(settings.overrides)
    lines = []
    for section, values in beyond_defaults(settings.config).items():
        own = [
            f"{key} {value if isinstance(value, str) else json.dumps(value)}"
            for key, value in values.items()
            if f"{section}.{key}" not in given
        ]
        replaced = start and section in ("model", "tokenizer")
        if own and not replaced:
            lines.append(f"  {section}: {', '.join(own)}")
    beyond = "; it changes these defaults of seqgen/config.py:" if lines else ""
    if start:
        lines.append(f"  model and tokenizer: those of {start}")
    return "\n".join([f"configuration: {settings.name}{beyond}", *lines])


def pick_device(name: str | None) -> str:
    """Return the device to compute on: the named one, or the best there is."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name} does not work here: {reason}") from None
    return name
