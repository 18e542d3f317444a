"""A folder with the records of one machine, their figures, and a page that shows both."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqgen.benchmark.records import Record, read_records, write_records
from seqgen.benchmark.report.columns import TITLES
from seqgen.benchmark.report.crossings import crossings
from seqgen.benchmark.report.figures import pictures, save_picture
from seqgen.benchmark.report.grid import make_grid
from seqgen.benchmark.report.kinds import by_scene, is_published, machine_line, scene, setting_line
from seqgen.benchmark.report.sentences import crossing_row, sentences
from seqgen.errors import UserError
from seqgen.files import write_bytes

PAGE, WRITTEN = "README.md", "notes.md"  # the second is a person's, and stands at the top
HOW_TO_READ = (
    "Made by `python cli.py benchmark --page`; figures and tables are drawn from the JSON file of "
    "each measure beside this page, which holds every sample. Variants take turns, round by round, "
    "after a warm-up; each short call (less than 50 ms) follows an untimed one of the same kind, "
    "as steps follow each other in generation; whole pieces are called once, or again where they "
    "are short. Outputs are checked for equality before anything is timed. Times are medians; "
    "`vs lib.` is the library's median divided by this one at the same place of the same run: "
    "above 1 is faster. `floor` is the least time that reading weights and state takes at the "
    "bandwidth measured, as a share of the median. One row alone: the command under its table with "
    "`--batch B --position N`, in place of those that it may have."
)
CROSSING_HEADINGS = (
    "batch", "ours", "softmax attention", "equal at about", "clearly faster from", "at the longest"
)  # fmt: skip


def update_records(folder: Path, records: Sequence[Record]) -> None:
    """Put records in place of those of the same place and setting, and leave the page as it is."""
    for measure in TITLES:
        new = [record for record in records if record.measure == measure]
        path = Path(folder) / f"{measure}.json"
        if new:
            old = read_records(path) if path.exists() else []
            write_records(path, merge(old, new))


def draw_page(folder: Path) -> Path:
    """Draw figures and page anew from the records in a folder, and return the page's path.

    Raises:
        UserError: there are none.
    """
    folder, parts = Path(folder), []
    found = read_folder(folder)
    for measure in TITLES:
        for i, chosen in enumerate(by_scene(r for r in found if r.measure == measure)):
            parts += _section(chosen, folder, number=i)
    notes = folder / WRITTEN
    written = [notes.read_text().strip()] if notes.exists() else []
    text = "\n\n".join([*_head(found), *written, *parts]) + "\n"
    write_bytes(folder / PAGE, text.encode())
    return folder / PAGE


def read_folder(folder: Path) -> list[Record]:
    """Read the records of all measures in a folder.

    Raises:
        UserError: there are none.
    """
    found = records_in(folder)
    if not found:
        raise UserError(f"{folder} holds no records, such as decode.json; `--page` writes them")
    return found


def records_in(folder: Path) -> list[Record]:
    """Read the records of all measures in a folder, if there are any."""
    paths = [Path(folder) / f"{measure}.json" for measure in TITLES]
    return [record for path in paths if path.exists() for record in read_records(path)]


def merge(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """Replace what was measured again, and what does not say where it was measured."""
    known = {(_where(record), scene(record)) for record in new}
    places = {_where(record) for record in new}
    kept = [
        record
        for record in old
        if (_where(record), scene(record)) not in known
        and not (_where(record) in places and not record.setting.sizes)
    ]
    return sorted([*kept, *new], key=lambda record: (record.batch, record.position))


def narrowed(command: str, measure: str) -> str:
    """Let a command measure one thing only."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        if word == "--only":
            next(words, None)
        else:
            kept.append(word)
    return shlex.join([*kept, "--only", measure])


def _where(record: Record) -> tuple:
    return record.measure, record.variant, record.batch, record.position


def _head(records: Sequence[Record]) -> Iterator[str]:
    ours = [record for record in records if not is_published(record)]
    yield f"# Benchmark: {machine_line((ours or records)[0].setting)}"
    yield HOW_TO_READ
    if all(record.setting.device in ("", "cpu") for record in ours):
        yield "No GPU has been measured here: what one would give is open."
    missing = [measure for measure in TITLES if measure not in {r.measure for r in records}]
    if missing:
        yield f"Not measured here: {', '.join(missing)}."


def _section(records: Sequence[Record], folder: Path, *, number: int) -> Iterator[str]:
    """Yield what stands on the page about one measure of one model."""
    measure = records[0].measure
    yield f"## {TITLES[measure]}" + f" ({number + 1})" * (number > 0)
    yield ". ".join([setting_line(records), *_machine_and_versions(records[0])]) + "."
    for picture in pictures(records):
        name = f"{picture.name}{f'-{number + 1}' * (number > 0)}.svg"
        save_picture(picture, folder / name)
        yield f"![{measure}: {picture.words}]({name})"
    if measure in ("decode", "step"):
        rows = [crossing_row(crossing) for crossing in crossings(records)]
        if rows:
            yield _markdown(CROSSING_HEADINGS, rows, n_left=3)
    grid = make_grid(records, wide=True)
    yield _markdown(grid.headings, [row.cells for row in grid.rows], n_left=0)
    said = [f"- {sentence}" for sentence in sentences(records, wide=True)]
    if said:
        yield "\n".join(said)
    yield from _commands(records)


def _commands(records: Sequence[Record]) -> Iterator[str]:
    """Name the commands that measure a table again, and what each of them is for."""
    batches: dict[str, set[int]] = {}
    for record in records:
        if record.setting.command:
            command = narrowed(record.setting.command, record.measure)
            batches.setdefault(command, set()).add(record.batch)
    if len(batches) == 1:
        yield f"Again: `{next(iter(batches))}`"
    elif batches:
        lines = (
            f"- batch {', '.join(map(str, sorted(rows)))}: `{command}`"
            for command, rows in batches.items()
        )
        yield "\n".join(["Again:", "", *lines])
    else:
        yield "The command was not recorded."


def _machine_and_versions(record: Record) -> Iterator[str]:
    setting = record.setting
    if setting.hardware:
        yield machine_line(setting)
    if setting.versions:
        yield ", ".join(f"{name} {version}" for name, version in setting.versions.items())


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, n_left: int) -> str:
    """Write a table whose numbers stand at the right, and names at the left."""
    rule = [":--" if i < n_left or name == "variant" else "--:" for i, name in enumerate(headings)]
    lines = [headings, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
