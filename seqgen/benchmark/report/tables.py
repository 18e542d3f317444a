"""Records as tables on a screen, and under each what it says and why rows are empty."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from seqgen.benchmark.records import Record
from seqgen.benchmark.report.columns import TITLES
from seqgen.benchmark.report.grid import make_grid
from seqgen.benchmark.report.kinds import by_scene, setting_line
from seqgen.benchmark.report.sentences import sentences


def tables(records: Sequence[Record]) -> Iterator[Table | Text | str]:
    """Yield a table for each measure and each model in it, in order, with sentences under it."""
    for measure in TITLES:
        for chosen in by_scene(r for r in records if r.measure == measure):
            yield Text(f"\n{TITLES[measure]}\n{setting_line(chosen)}", style="bold")
            yield _table(chosen)
            yield from sentences(chosen)


def plain_table() -> Table:
    """Return a table without lines between its columns, for 80 characters."""
    return Table(box=box.SIMPLE, padding=0, show_edge=False, pad_edge=False)


def _table(records: Sequence[Record]) -> Table:
    grid = make_grid(records, wide=False)
    table = plain_table()
    for name in grid.headings:
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for row in grid.rows:
        table.add_row(*row.cells, end_section=row.ends_group)
    return table
