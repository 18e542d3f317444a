"""One measure's records as rows of cells, before they become a table on a screen or on a page."""

from collections.abc import Sequence
from dataclasses import dataclass

from seqgen.benchmark.records import Record
from seqgen.benchmark.report.columns import POSITIONS, batch_label, columns
from seqgen.benchmark.report.kinds import has_value, is_published


@dataclass(frozen=True)
class Row:
    """Cells of one record, and whether the next one has another place."""

    cells: tuple[str, ...]
    ends_group: bool


@dataclass(frozen=True)
class Grid:
    """Headings and rows; the first three columns are batch, position and variant."""

    headings: tuple[str, ...]
    rows: list[Row]


def make_grid(records: Sequence[Record], *, wide: bool) -> Grid:
    """Lay out the records of one measure; batch and position stand only where they change.

    Variants that have no value at any of several places are left out: the reasons name them.
    """
    records = _shown(records)
    chosen = columns(records, wide=wide)
    position = POSITIONS.get(records[0].measure, "position")
    places = [(batch_label(r), str(r.position)) for r in records]
    around = zip([None, *places[:-1]], places, [*places[1:], None], strict=True)
    rows = []
    for record, (before, place, after) in zip(records, around, strict=True):
        cells = [column.show(record) for column in chosen]
        if not has_value(record):
            cells[0] = record.note.partition(":")[0] or cells[0]
        variant = record.variant + " *" * is_published(record)
        shown = place if place != before or wide else ("", "")
        rows.append(Row((*shown, variant, *cells), place != after))
    return Grid(("batch", position, "variant", *(column.name for column in chosen)), rows)


def _shown(records: Sequence[Record]) -> list[Record]:
    if len({(record.batch, record.position) for record in records}) == 1:
        return list(records)
    valued = {record.variant for record in records if has_value(record)}
    return [record for record in records if record.variant in valued] or list(records)
