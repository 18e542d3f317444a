"""What `seqgen benchmark` does: measure, show, write, compare, guard."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import torch
from rich.text import Text

from seqgen.api.places import find_model
from seqgen.api.settings import CONFIGS, pick_device
from seqgen.benchmark.model import BenchmarkModel, load_benchmark_model
from seqgen.benchmark.records import Record, write_records
from seqgen.benchmark.report.compare import compare_files, find_committed, guard
from seqgen.benchmark.report.page import draw_page, records_in, update_records
from seqgen.benchmark.report.table import tables
from seqgen.benchmark.run import BenchmarkPlan, run_benchmark
from seqgen.commands.settings import console, progress_bar, say
from seqgen.errors import UserError
from seqgen.files import PROJECT, check_folder

REFERENCE = CONFIGS / "reference-12x512.yaml"
RESULTS = PROJECT / "docs" / "results"
WHERE_IT_GOES = {"json_path", "page", "guard", "against", "compare", "redraw"}


def open_target(
    target: Path | None,
    *,
    device: str | None,
    threads: int | None,
    quick: bool,
) -> BenchmarkModel:
    """Load what is to be measured, with so many threads."""
    if device is not None and device.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: the benchmark runs on cpu and cuda only")
    if threads is not None:
        torch.set_num_threads(threads)
    return load_benchmark_model(
        find_model(target or REFERENCE), device=pick_device(device), quick=quick
    )


class Keeper:
    """Writes the records of each place where they should go, as soon as they are there."""

    def __init__(self, *, json_path: Path | None, page: Path | None):
        """Try both places before hours are spent; UserError where nothing can be written."""
        self._json_path, self._page = json_path, page
        self._records: list[Record] = []
        for folder in filter(None, (json_path and json_path.parent, page)):
            try:
                check_folder(folder)
            except OSError as error:
                raise UserError(f"nothing can be written to {folder}: {error.strerror}") from None
        if page is not None:
            records_in(page)  # that they can be read, since new ones are put among them

    def keep(self, records: Sequence[Record]) -> None:
        """Write records of one place; the page itself is drawn at the end."""
        self._records += records
        if self._json_path is not None:
            write_records(self._json_path, self._records)
        if self._page is not None:
            update_records(self._page, records)

    def end(self) -> None:
        """Draw the page of what was kept, also after an error."""
        if self._page is not None and self._records:
            redraw_page(self._page)


def measure(
    model: BenchmarkModel, plan: BenchmarkPlan, *, only: Sequence[str], command: str, keeper: Keeper
) -> list[Record]:
    """Measure with a progress bar and print tables; what was measured is kept whatever happens."""
    setting = model.setting(command)
    try:
        with progress_bar() as tell:
            records = run_benchmark(
                model, plan, only=only, tell=tell, setting=setting, keep=keeper.keep
            )
    finally:
        keeper.end()
    _show(tables(records))
    return records


def redraw_page(folder: Path) -> None:
    """Draw a page again from the records beside it."""
    say(f"written: {draw_page(folder)}")


def show_comparison(before: Path, after: Path) -> None:
    """Print what changed between two files of records, or two folders of a page."""
    _show(compare_files(before, after))


def passes_guard(records: Sequence[Record], against: Path | None) -> bool:
    """Compare with a committed record, print what moved, and say whether nothing became worse."""
    path = against or find_committed(RESULTS, records)
    lines, worse = guard(records, path, name=_portable(path) if path else "")
    _show(lines)
    return not worse


def typed(context: click.Context) -> str:
    """Write the command that measures the same again: what says where results go is left out."""
    words = ["python", "cli.py", "benchmark"]
    for parameter in context.command.params:
        value = context.params.get(parameter.name)
        if parameter.name in WHERE_IT_GOES or value in (None, False, ()):
            continue
        option = [] if isinstance(parameter, click.Argument) else [parameter.opts[0]]
        for one in value if isinstance(value, tuple) else [value]:
            words += option if one is True else [*option, _portable(one)]
    return shlex.join(words)


def _portable(value: object) -> str:
    """Write a path as one would type it elsewhere: without the folders of this machine."""
    if not isinstance(value, Path) or not value.is_absolute():
        return str(value)
    for folder in (Path.cwd(), PROJECT):
        if value.is_relative_to(folder):
            return str(value.relative_to(folder))
    return value.name


def _show(parts: Iterable[str | Text]) -> None:
    for part in parts:
        text = part if isinstance(part, Text) else Text(part)  # never markup
        console.print(text, highlight=False, soft_wrap=True)
