"""One measure's records as a table: on a screen of 80 characters, and on a page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.text import Text

from seqgen.benchmark.measures.endless import DECAY_AFTER
from seqgen.benchmark.measures.memory import CACHES, STATE
from seqgen.benchmark.records import BenchmarkSetting, Record, group_by_scene
from seqgen.benchmark.report.crossover import crossovers
from seqgen.files import counted

TITLES = {
    "floor": "floor: how fast this machine reads memory at most",
    "decode": "decode: one step after so many tokens, whole call with its draw",
    "prefill": "prefill: reading a prompt, up to the first token",
    "attention": "attention: one layer, forward and backward",
    "training": "training: one step (forward, loss, backward, AdamW), no dropout",
    "memory": "memory: of one stream, and kept by training for one row",
    "job": "job: whole pieces, from a prompt of BOS to the last token",
    "likelihood": "likelihood: held-out tokens, by number format of the weights",
    "endless": f"endless: steps of one stream whose sums decay after {DECAY_AFTER} positions",
}
DEVICE_GB = 24  # of a device, to say how many streams fit
CROSSOVER_TITLE = "crossover: the position from which ours is faster, and by what factor"
CROSSOVER = ("batch", "ours", "softmax", "equal at", "first ratio", "last ratio")


def seconds(value: float) -> str:
    """Write three digits: 12.3 ms."""
    if value >= 1:
        return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.{3 - len(str(int(value * 1e3)))}f} ms"


def digits(value: float) -> str:
    """Write significant digits only."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def megabytes(n_bytes: int) -> str:
    """Write in units of a million bytes, or of a thousand if there are few."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _streams(record: Record) -> str:
    """Return how many streams fit into a device, beside weights in float32."""
    sizes = record.setting.sizes
    if record.variant not in (STATE, *CACHES) or not sizes or record.bytes is None:
        return "-"
    weights, stream = 4 * sizes["parameters"], record.bytes // record.batch
    return f"{max(0, DEVICE_GB * 10**9 - weights) // stream:,}"


# By heading: the attribute that is shown, and how, of a record that has it.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "rate": ("rate", lambda r: f"{r.rate / 1e9:.3g} GB/s"),
    "median": ("median_seconds", lambda r: seconds(r.median_seconds)),
    "p95": ("p95_seconds", lambda r: seconds(r.p95_seconds)),
    "tokens/s": ("tokens_per_second", lambda r: digits(r.tokens_per_second)),
    "vs lib.": ("ratio_to_library", lambda r: digits(r.ratio_to_library)),
    "floor": ("share_of_floor", lambda r: f"{r.share_of_floor:.0%}"),
    "bytes": ("bytes", lambda r: megabytes(r.bytes)),
    f"in {DEVICE_GB} GB": ("bytes", _streams),
    "bits/token": ("bits_per_token", lambda r: f"{r.bits_per_token:.4f}"),
    "of tokens": ("targets", lambda r: f"{r.targets:,}"),
}
TIMES = ("median", "p95", "tokens/s", "vs lib.", "floor", "bytes")
CHOSEN = {
    "floor": ("rate", "bytes", "median", "p95"),
    "memory": ("bytes", f"in {DEVICE_GB} GB"),
    "likelihood": ("bits/token", "of tokens"),
}


@dataclass(frozen=True)
class TableRow:
    """Cells under headings, only the first of them where nothing was measured, and a note."""

    cells: list[str]
    note: str = ""


def rows_of(records: Sequence[Record]) -> tuple[list[str], list[TableRow]]:
    """Return headings and rows of one measure; empty columns are left out."""
    columns = {
        name: COLUMNS[name]
        for name in CHOSEN.get(records[0].measure, TIMES)
        if any(getattr(record, COLUMNS[name][0]) is not None for record in records)
    }
    rows = []
    for r in records:
        cells = ["-" if getattr(r, key) is None else show(r) for key, show in columns.values()]
        place = [str(r.batch), str(r.position), r.variant]
        rows.append(TableRow(place + (cells if r.has_value else []), r.note))
    return ["batch", "position", "variant", *columns], rows


def tables(records: Sequence[Record]) -> Iterator[Text]:
    """Yield for a screen a table of each measure and each model, in order."""
    for measure in TITLES:
        for chosen in group_by_scene([r for r in records if r.measure == measure]):
            yield Text(f"\n{TITLES[measure]}\n{setting_line(chosen[0])}", style="bold")
            yield Text(plain(*rows_of(chosen)))
            if rows := [TableRow(cells) for cells in crossovers(chosen)]:
                yield Text(f"\n{CROSSOVER_TITLE}\n{plain(list(CROSSOVER), rows)}")


def plain(headings: list[str], rows: Sequence[TableRow], *, n_left: int = 3) -> str:
    """Align cells for a screen; a note stands behind them."""
    rows = [TableRow(headings), *rows]
    columns = zip_longest(*(row.cells for row in rows), fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = [
            f"{cell:{'<' if i < n_left else '>'}{widths[i]}}" for i, cell in enumerate(row.cells)
        ]
        lines.append(" ".join([*cells, row.note]).rstrip())
    return "\n".join(lines)


def markdown(headings: list[str], rows: Sequence[TableRow]) -> str:
    """Write the same for a page, with a column of notes if there are any."""
    n, notes = len(headings), any(row.note for row in rows)
    lines = [headings + ["note"] * notes]
    lines.append([":--" if i < 3 else "--:" for i in range(n)] + [":--"] * notes)
    for row in rows:
        cells = [*row.cells, *["-"] * (n - len(row.cells)), *[row.note] * notes]
        lines.append([cell.replace("|", "\\|") for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def setting_line(record: Record) -> str:
    """Describe the setting in one line: sizes, weights, device, threads, torch."""
    setting, sizes = record.setting, record.setting.sizes
    return (
        f"{sizes['n_layers']} layers of width {sizes['d_model']}, {sizes['n_heads']} heads, "
        f"{sizes['parameters'] / 1e6:.1f}M parameters ({sizes['weights']}), {setting.device}, "
        f"{counted(record.threads, 'thread')}, torch {setting.versions.get('torch', '?')}"
    )


def machine_line(setting: BenchmarkSetting) -> str:
    """Name processor, cores, instructions, memory and, if it is not the processor, the device."""
    machine = setting.hardware
    instructions = ", ".join(machine.get("instructions", ())) or "no wide instructions"
    words = f"{machine['cores']} cores of {machine['processor']} ({instructions})"
    gpu = f"{setting.device} with " * (setting.device not in ("", "cpu"))
    return f"{gpu}{words}, {machine['memory_gib']} GiB"
