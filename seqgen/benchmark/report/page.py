"""A folder with the records of one machine, their figures, and a page that shows both."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from seqgen.benchmark.records import Record, group_by_scene, read_records, write_records
from seqgen.benchmark.report.crossover import crossovers
from seqgen.benchmark.report.figures import draw_figures, save_figure
from seqgen.benchmark.report.table import (
    CROSSOVER,
    TITLES,
    TableRow,
    machine_line,
    markdown,
    rows_of,
    setting_line,
)
from seqgen.errors import UserError
from seqgen.files import write_bytes

PAGE, NOTES = "README.md", "notes.md"  # the second is a person's, and stands at the top
HOW_TO_READ = (
    "Made by `python cli.py benchmark --page`; figures and tables are drawn from the JSON file of "
    "each measure beside this page, which holds every sample. Outputs are checked for equality "
    "before anything is timed. Variants take turns, round by round, after a warm-up; a call "
    "shorter than 50 ms follows an untimed one of the same kind, as steps follow each other in "
    "generation; whole pieces are written once, or twice where they are short. Times are medians; "
    "`vs lib.` is the library's median divided by this one at the same place of the same run: "
    "above 1 is faster. `floor` is the least time that reading weights and state takes at the "
    "bandwidth measured, as a share of the median (above 100%: the weights stayed in a cache "
    "better than in that measurement). Positions of equal speed are interpolated in logarithms. "
    "A variant may need a quarter of the free memory, and all of a place half of it."
)


def update_records(folder: Path, records: Sequence[Record]) -> None:
    """Put records in place of those of the same place and setting, and leave the page as it is."""
    for measure in TITLES:
        new = [record for record in records if record.measure == measure]
        path = folder / f"{measure}.json"
        if new:
            old = read_records(path) if path.exists() else []
            write_records(path, merge(old, new))


def draw_page(folder: Path) -> Path:
    """Draw figures and page anew from the records in a folder, and return the page's path."""
    found, notes = read_folder(folder), folder / NOTES
    parts = [f"# Benchmark: {machine_line(found[0].setting)}", HOW_TO_READ]
    missing = [measure for measure in TITLES if measure not in {r.measure for r in found}]
    if missing:
        parts.append(f"Not measured here: {', '.join(missing)}.")
    if notes.exists():
        parts.append(notes.read_text().strip())
    for measure in TITLES:
        groups = group_by_scene([r for r in found if r.measure == measure])
        for i, chosen in enumerate(groups):
            parts += _section(chosen, folder, suffix=f"-{i + 1}" * (i > 0))
    write_bytes(folder / PAGE, ("\n\n".join(parts) + "\n").encode())
    return folder / PAGE


def read_folder(folder: Path) -> list[Record]:
    """Read the records of all measures in a folder; UserError where there are none."""
    found = records_in(folder)
    if not found:
        raise UserError(f"{folder} holds no records, such as decode.json; `--page` writes them")
    return found


def records_in(folder: Path) -> list[Record]:
    """Read the records of all measures in a folder, if there are any."""
    paths = [folder / f"{measure}.json" for measure in TITLES]
    return [record for path in paths if path.exists() for record in read_records(path)]


def merge(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """Replace what was measured again in the same setting."""
    where = lambda r: (r.variant, r.batch, r.position, r.scene)  # noqa: E731
    known = set(map(where, new))
    kept = [record for record in old if where(record) not in known]
    return sorted([*kept, *new], key=lambda record: (record.batch, record.position))


def _section(records: Sequence[Record], folder: Path, *, suffix: str) -> Iterator[str]:
    """Yield the page's section about one measure of one model."""
    measure, setting = records[0].measure, records[0].setting
    yield f"## {TITLES[measure]}"
    versions = ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    yield ". ".join(filter(None, [setting_line(records[0]), machine_line(setting), versions]))
    for name, figure in draw_figures(records):
        file = f"{measure}-{name}{suffix}.svg"
        save_figure(figure, folder / file)
        yield f"![{measure}: {name}]({file})"
    if rows := [TableRow(cells) for cells in crossovers(records)]:
        yield markdown(list(CROSSOVER), rows)
    yield markdown(*rows_of(records))
    for command in dict.fromkeys(r.setting.command for r in records if r.setting.command):
        batches = sorted({r.batch for r in records if r.setting.command == command})
        yield f"Measured by (batch {', '.join(map(str, batches))}): `{command}`"
