"""What several commands share: the console, a progress bar, and `--device` as settings."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from seqgen.files import readable

# The one console: all text, table cells and titles included, is printed as it is. Styles are given
# as rich's Text or style, never as markup, since a path may hold brackets or colons.
console = Console(markup=False, emoji=False, highlight=False)


def say(text: str) -> None:
    """Print a line without breaking it, whatever bytes a path in it holds."""
    console.print(readable(text), soft_wrap=True)


def device_settings(device: str | None) -> list[str]:
    """Spell `--device` (cpu, cuda, cuda:1) as settings of the trainer."""
    if device is None:
        return []
    kind, _, number = device.partition(":")
    settings = [f"train.accelerator={'gpu' if kind == 'cuda' else kind}"]
    return [*settings, f"train.devices=[{number}]"] if number else settings


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function that shows how much of a named task is done."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(readable(what), total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield tell
