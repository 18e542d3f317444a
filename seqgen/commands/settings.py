"""What several commands do with their arguments: configuration, device, run folder, progress."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqgen.config import Config, load_config
from seqgen.errors import UserError
from seqgen.files import readable

PROJECT = Path(__file__).resolve().parents[2]
QUICKSTART = PROJECT / "configs" / "quickstart.yaml"
# The one console: all text, table cells and titles included, is printed as it is. Styles are given
# as rich's Text or style, never as markup, since a path may hold brackets or colons.
console = Console(markup=False, emoji=False, highlight=False)


def say(text: str) -> None:
    """Print a line without breaking it, whatever bytes a path in it holds."""
    console.print(readable(text), soft_wrap=True)


def read_arguments(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Tell a configuration file from `key=value` settings."""
    files = [argument for argument in arguments if "=" not in argument]
    if len(files) > 1:
        raise UserError(f"one configuration file at most, got {' and '.join(files)}")
    path = Path(files[0]) if files else None
    if path is not None and not path.exists():
        shipped = PROJECT / "configs" / f"{path.stem}.yaml"
        if not shipped.exists():
            known = ", ".join(sorted(p.name for p in shipped.parent.glob("*.yaml")))
            raise UserError(f"no configuration file {path} (configs/ has {known})")
        path = shipped
    return path, [argument for argument in arguments if "=" in argument]


def read_config(arguments: Sequence[str]) -> tuple[Config, Path, list[str]]:
    """Resolve arguments to a configuration, the file it comes from and the settings given."""
    path, overrides = read_arguments(arguments)
    path = path or QUICKSTART
    return load_config(path, overrides), path, overrides


def device_settings(device: str | None) -> list[str]:
    """Spell `--device` (cpu, cuda, cuda:1) as settings of the trainer."""
    if device is None:
        return []
    kind, _, number = device.partition(":")
    settings = [f"train.accelerator={'gpu' if kind == 'cuda' else kind}"]
    return [*settings, f"train.devices=[{number}]"] if number else settings


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
        raise UserError(f"--device {name} does not work here: {reason}") from None
    return name


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows how much of a named task is done."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(readable(what), total=total)
        bar.update(tasks[what], completed=done)

    with bar:
        yield tell
