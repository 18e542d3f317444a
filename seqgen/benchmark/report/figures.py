"""Figures of what the records hold, drawn without pyplot; what was not measured has no figure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqgen.benchmark.records import Record
from seqgen.benchmark.report.crossings import crossings
from seqgen.benchmark.report.kinds import LIBRARY, OURS, PEER, kind
from seqgen.benchmark.report.lines import (
    BLUE,
    GREY,
    ORANGE,
    Value,
    chosen_steps,
    draw_lines,
    drawable,
    milliseconds,
    seconds,
    styles_of,
)
from seqgen.benchmark.report.sentences import round_position
from seqgen.files import atomic_path

MOST_PANELS = 3
PANEL_INCHES = (3.6, 3.4)
COLORS = {OURS: BLUE, LIBRARY: GREY, PEER: ORANGE}  # of bars
# By measure: what the table has, and a figure need not show.
LEFT_OUT = {"training": {"chunked", "library-bf16", "chunked-bf16"}}


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file without suffix, and what it shows in words."""

    name: str
    words: str
    figure: Figure


def pictures(records: Sequence[Record]) -> Iterator[Picture]:
    """Draw all figures of one measure and one scene."""
    measure, found = records[0].measure, drawable(records)
    for name, words, draw in FIGURES.get(measure, ()):
        figure = draw(found)
        if figure is not None:
            yield Picture(f"{measure}-{name}", words, figure)


def save_picture(picture: Picture, path: Path) -> None:
    """Write an SVG on white, the same bytes for the same records."""
    settings = {"svg.hashsalt": "seqgen", "svg.fonttype": "path"}
    with matplotlib.rc_context(settings), atomic_path(path) as temporary:
        picture.figure.savefig(temporary, format="svg", metadata={"Date": None}, facecolor="white")


def draw_latency(records: Sequence[Record]) -> Figure | None:
    """Draw the time of a step against its position, by batch, with the crossings marked."""
    styles = chosen_steps(records)
    batches = _with_several(records, "batch", "position", styles)
    if not batches:
        return None
    figure, panels = _panels(len(batches), "position", "ms per step, median (band: 5 to 95%)")
    for axes, batch in zip(panels, batches, strict=True):
        at_batch = [record for record in records if record.batch == batch]
        draw_lines(axes, at_batch, styles, x="position", y=milliseconds)
        axes.set_title(f"batch {batch}", fontsize=10)
        _mark_crossings(axes, at_batch, styles)
    return _finish(figure, panels)


def draw_throughput(records: Sequence[Record]) -> Figure | None:
    """Draw tokens per second, summed over rows, against the batch, by position."""
    styles = chosen_steps(records)
    positions = _with_several(records, "position", "batch", styles)
    if not positions:
        return None
    figure, panels = _panels(len(positions), "batch", "tokens/s, all rows together")
    for axes, position in zip(panels, positions, strict=True):
        chosen = [record for record in records if record.position == position]
        draw_lines(axes, chosen, styles, x="batch", y=lambda r: r.tokens_per_second)
        axes.set_title(f"after {position:,} tokens", fontsize=10)
    return _finish(figure, panels)


def draw_floor_shares(records: Sequence[Record]) -> Figure | None:
    """Draw bars of how near each variant comes to the time that reading alone takes."""
    shared = [record for record in records if record.share_of_floor is not None]
    if not shared:
        return None
    positions = sorted({record.position for record in shared})
    position = min(positions, key=lambda p: abs(p - 1024))
    shared = [record for record in shared if record.position == position]
    batches = _few(sorted({record.batch for record in shared}))
    names = list(dict.fromkeys(record.variant for record in shared))
    figure, panels = _panels(
        len(batches),
        f"share of the floor after {position:,} tokens "
        "(blue: ours, grey: the library, orange: softmax attention)",
        "",
        height=0.26 * len(names),
    )
    for axes, batch in zip(panels, batches, strict=True):
        _bars(axes, {r.variant: r for r in shared if r.batch == batch}, names)
        axes.set_title(f"batch {batch}", fontsize=10)
    return _finish(figure, panels, legend=False)


def draw_memory(records: Sequence[Record]) -> Figure | None:
    """Draw the bytes of a stream against its length, and what training keeps of a window."""
    parts = ("bytes of one stream", "bytes kept by a training step, one row")
    streams = [r for r in records if not r.variant.startswith("training")]
    training = [r for r in records if r.variant.startswith("training")]
    kept = [(words, part) for words, part in zip(parts, (streams, training), strict=True) if part]
    if not kept or len({record.position for record in records}) < 2:
        return None
    figure, panels = _panels(len(kept), "tokens", "MB", shared=False)
    for axes, (words, part) in zip(panels, kept, strict=True):
        draw_lines(axes, part, styles_of(part), x="position", y=_megabytes)
        axes.set_title(words, fontsize=10)
        axes.legend(fontsize=8, frameon=False)
    return _finish(figure, panels, legend=False)


def _against_length(
    label: str, value: Value, *, x_label: str = "length in tokens"
) -> Callable[[Sequence[Record]], Figure | None]:
    """Make a function that draws all variants against the position, by batch."""

    def draw(records: Sequence[Record]) -> Figure | None:
        valued = [
            r
            for r in records
            if value(r) is not None and r.variant not in LEFT_OUT.get(r.measure, ())
        ]
        styles = styles_of(valued)
        batches = _with_several(valued, "batch", "position", styles)
        if not batches:
            return None
        figure, panels = _panels(len(batches), x_label, label)
        for axes, batch in zip(panels, batches, strict=True):
            chosen = [record for record in valued if record.batch == batch]
            draw_lines(axes, chosen, styles, x="position", y=value)
            axes.set_title(f"batch {batch}", fontsize=10)
        return _finish(figure, panels)

    return draw


def _megabytes(record: Record) -> float | None:
    return None if record.bytes is None else record.bytes / 1e6


def _mark_crossings(axes: Axes, records: Sequence[Record], styles: dict[str, tuple]) -> None:
    for crossing in crossings(records):
        drawn = styles.keys() >= {*crossing.ours, *crossing.peers}
        if crossing.equal_at is None or not drawn:
            continue
        x, y = crossing.equal_at, 1e3 * crossing.seconds_at_equal
        axes.plot([x], [y], "o", markersize=11, markerfacecolor="none", color="#333333",
                  linestyle="none", label="equal, interpolated")  # fmt: skip
        axes.annotate(
            f"~{round_position(x):,}",
            (x, y), xytext=(0, -17), textcoords="offset points", ha="center", fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )  # fmt: skip


def _bars(axes: Axes, records: dict[str, Record], names: Sequence[str]) -> None:
    found = [name for name in names if name in records]
    shares = [100 * records[name].share_of_floor for name in found]
    colors = [COLORS[kind(records[name])] for name in found]
    rows = [names.index(name) for name in found]
    bars = axes.barh(rows, shares, color=colors, height=0.7)
    axes.bar_label(bars, [f"{share:.0f}%" for share in shares], padding=3, fontsize=7.5)
    axes.axvline(100, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.15 * max(100, *shares))
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
    axes.spines[["top", "right"]].set_visible(False)


def _with_several(
    records: Sequence[Record], by: str, along: str, styles: dict[str, tuple]
) -> list[int]:
    """Find a few values of `by` at which there is more than one value of `along` to draw."""
    seen: dict[int, set[int]] = {}
    for record in records:
        if record.variant in styles:
            seen.setdefault(getattr(record, by), set()).add(getattr(record, along))
    return _few(sorted(value for value, others in seen.items() if len(others) > 1))


def _few(values: Sequence[int]) -> list[int]:
    """Keep the first, the middle and the last."""
    if len(values) <= MOST_PANELS:
        return list(values)
    return [values[0], values[len(values) // 2], values[-1]]


def _panels(
    n: int, x_label: str, y_label: str, *, height: float = 0.0, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    width, least = PANEL_INCHES
    figure = Figure(figsize=(1.2 + width * max(n, 1.4), max(least, 1.2 + height)), dpi=100)
    figure.set_layout_engine("constrained")
    panels = list(figure.subplots(1, n, sharey=shared, squeeze=False)[0])
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    for axes in panels:
        axes.tick_params(labelsize=8)
    return figure, panels


def _finish(figure: Figure, panels: Sequence[Axes], *, legend: bool = True) -> Figure:
    """Put one legend for all panels to the right of them."""
    if legend:
        entries: dict[str, object] = {}
        for axes in panels:
            handles, labels = axes.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        figure.legend(
            list(entries.values()), list(entries), loc="outside right upper", fontsize=8,
            frameon=False,
        )  # fmt: skip
    return figure


STEP_FIGURES = (
    ("latency", "time of one step against its position", draw_latency),
    ("throughput", "tokens per second against the batch", draw_throughput),
    ("floor", "share of the floor by variant", draw_floor_shares),
)
LENGTHS = "time against length"
FIGURES: dict[str, tuple] = {
    "decode": STEP_FIGURES,
    "step": STEP_FIGURES,
    "prefill": (
        (
            "first-token",
            "time to the first token against the length of the prompt",
            _against_length("seconds, median", seconds, x_label="prompt in tokens"),
        ),
    ),
    "attention": (("time", LENGTHS, _against_length("seconds, median", seconds)),),
    "training": (
        ("time", LENGTHS, _against_length("seconds per step, median", seconds)),
        ("peak", "peak memory against length", _against_length("MB at the peak", _megabytes)),
    ),
    "memory": (("bytes", "bytes against length", draw_memory),),
    "endless": (
        (
            "time",
            "time of one step of a stream without end",
            _against_length("ms per step, median", milliseconds, x_label="position"),
        ),
    ),
}
