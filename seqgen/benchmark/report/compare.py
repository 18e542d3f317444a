"""Two files of records side by side: what changed, by how much, and whether that is noise."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from seqgen.benchmark.records import Record, read_records
from seqgen.benchmark.report import changes as ch
from seqgen.benchmark.report import numbers
from seqgen.benchmark.report.differences import difference_sentences
from seqgen.benchmark.report.kinds import has_value, is_published
from seqgen.benchmark.report.page import read_folder
from seqgen.benchmark.report.tables import plain_table

# From one run to the next, medians move by more than their samples say: other pages of memory,
# another clock, a neighbour. Ratios of variants that took turns feel less of it, but not nothing.
FLOOR = 0.05
ROWS_SHOWN = 60


def compare_files(before: Path, after: Path) -> Iterator[Table | str]:
    """Compare two files of records, or folders of a page.

    Raises:
        UserError: no such file, or no records in it.
    """
    yield from comparison(*(_read(path) for path in (before, after)))


def comparison(before: Sequence[Record], after: Sequence[Record]) -> Iterator[Table | str]:
    """Yield what differs in the settings, what moved, and what is in one of the two only."""
    both = list(ch.pairs(before, after))
    yield from difference_sentences(both)
    drift = ch.library_drift(before, after)
    bounds = ch.Bounds.of(before, after, floor=FLOOR)
    found = ch.changes(before, after, bounds=bounds)
    if found:
        yield change_table(found[:ROWS_SHOWN])
    else:
        yield "No place was measured in both."
    if len(found) > ROWS_SHOWN:
        yield f"{len(found) - ROWS_SHOWN} more rows moved less."
    yield from _summary(found, drift, bounds)
    yield from _alone(before, after)


def change_table(found: Sequence[ch.Change]) -> Table:
    """Put changes into a table for 80 characters."""
    table = plain_table()
    for name in ("measure", "variant"):
        table.add_column(name, no_wrap=True)
    for name in ("batch", "position", "time", "ratio", "95%"):
        table.add_column(name, justify="right")
    table.add_column("verdict", no_wrap=True)
    for change in found:
        record = change.before
        interval = "-" if change.interval is None else "{:.2f} {:.2f}".format(*change.interval)
        table.add_row(
            record.measure,
            record.variant,
            str(record.batch),
            str(record.position),
            numbers.digits(change.gain),
            numbers.digits(change.ratio_gain),
            interval,
            change.verdict,
        )
    return table


def _summary(
    found: Sequence[ch.Change], drift: Sequence[float], bounds: ch.Bounds
) -> Iterator[str]:
    """Say how to read the numbers, and how many of them moved."""
    better, worse = (sum(c.verdict == v for c in found) for v in (ch.FASTER, ch.SLOWER))
    yield (
        f"Of {len(found)} rows, {better} are better and {worse} worse by more than noise: the "
        f"whole 95% interval lies beyond {bounds.ratio:.0%} for ratios to the library, "
        f"{bounds.time:.0%} for times alone. Above 1 is better."
    )
    without = sum(c.interval is None and c.before.median_seconds is not None for c in found)
    if without:
        yield (
            f"{without} rows have no interval, since a run kept fewer than {ch.LEAST_SAMPLES} "
            f"samples: for them the bound is twice as wide."
        )
    if drift:
        yield (
            f"The library's own times became {min(drift):.2f} to {max(drift):.2f} times as fast "
            f"(in the median by a factor of {bounds.drift:.2f}, up or down): the machine."
        )


def _alone(before: Sequence[Record], after: Sequence[Record]) -> Iterator[str]:
    """Name what only one of the runs has, once for each variant of a measure."""
    valued = [[r for r in rs if has_value(r) and not is_published(r)] for rs in (before, after)]
    places = [{record.place for record in records} for records in valued]
    for words, records, others in (
        ("Only before", valued[0], places[1]),
        ("Only after", valued[1], places[0]),
    ):
        names: dict[str, int] = {}
        for record in records:
            if record.place not in others:
                name = f"{record.measure} {record.variant}"
                names[name] = names.get(name, 0) + 1
        if names:
            listed = ", ".join(f"{name} ({n})" if n > 1 else name for name, n in names.items())
            yield f"{words}: {listed}."


def _read(path: Path) -> list[Record]:
    return read_folder(path) if path.is_dir() else read_records(path)
