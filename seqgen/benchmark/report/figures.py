"""Figures of what the records hold, drawn without pyplot; what was not measured has no figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from seqgen.benchmark.model import DECODERS
from seqgen.benchmark.records import LIBRARY, Record
from seqgen.benchmark.report.crossover import is_peer
from seqgen.files import atomic_path

MOST_PANELS = 3
# Okabe and Ito's colours, which colour-blind readers tell apart. Peers are dashed.
BLACK, GREY = "#000000", "#888888"
COLORS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", GREY)


@dataclass(frozen=True)
class FigurePlan:
    """Lines of a figure: a panel for each value of one attribute, log-log."""

    name: str  # of the file, after that of the measure
    label: str  # of the axis that goes up
    value: str  # what goes up, an attribute of a record
    unit: float  # how much of it is 1
    x: str = "position"  # what goes to the right
    by: str = "batch"  # what panels are of


MILLISECONDS = FigurePlan("time", "ms, median (band: 5 to 95%)", "median_seconds", 1e-3)
MEGABYTES = FigurePlan("bytes", "MB", "bytes", 1e6)
THROUGHPUT = FigurePlan(
    "throughput", "tokens/s, all rows together", "tokens_per_second", 1.0, "batch", "position"
)
FIGURES = {
    "decode": (MILLISECONDS, THROUGHPUT),
    "prefill": (MILLISECONDS,),
    "attention": (MILLISECONDS,),
    "training": (MILLISECONDS, MEGABYTES),
    "memory": (MEGABYTES,),
    "endless": (MILLISECONDS,),
}


def draw_figures(records: Sequence[Record]) -> Iterator[tuple[str, Figure]]:
    """Draw all figures of one measure and one scene, each with its name."""
    for plan in FIGURES.get(records[0].measure, ()):
        figure = _draw(plan, [r for r in records if getattr(r, plan.value) is not None])
        if figure is not None:
            yield plan.name, figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write an SVG on white, the same bytes for the same records."""
    settings: dict[Any, Any] = {"svg.hashsalt": "seqgen", "svg.fonttype": "path"}
    with matplotlib.rc_context(settings), atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None}, facecolor="white")


def chosen_variants(records: Sequence[Record]) -> list[str]:
    """Choose what a figure shows: of decode steps only a few lines.

    There these are the library, the plainest decoder and the fastest of ours, and of softmax
    attention the fair peer, recomputing, and the fastest.
    """
    names = list(dict.fromkeys(record.variant for record in records))
    if records[0].measure != "decode":
        return names
    # At the first place where each was measured.
    times = {r.variant: r.median_seconds or np.inf for r in reversed(records)}
    wanted = {LIBRARY, "torch", "softmax-preallocated", "softmax-recomputed"}
    for side in ([n for n in names if n in DECODERS], list(filter(is_peer, names))):
        wanted |= {min(side, key=lambda name: times[name])} if side else set()
    return [name for name in names if name in wanted]


def _draw(plan: FigurePlan, records: Sequence[Record]) -> Figure | None:
    """Draw at most three panels, each of which has several places; None: there is none."""
    places: dict[int, set[int]] = {}
    for record in records:
        places.setdefault(getattr(record, plan.by), set()).add(getattr(record, plan.x))
    panels = sorted(value for value, others in places.items() if len(others) > 1)
    if len(panels) > MOST_PANELS:
        panels = [panels[0], panels[len(panels) // 2], panels[-1]]
    if not panels:
        return None
    names = chosen_variants(records)
    figure = Figure(figsize=(1.6 + 3.6 * max(len(panels), 1.4), 3.4), dpi=100)
    figure.set_layout_engine("constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, value in zip(all_axes, panels, strict=True):
        _draw_lines(axes, [r for r in records if getattr(r, plan.by) == value], names, plan)
        axes.set_title(f"{plan.by} {value:,}", fontsize=10)
    figure.supxlabel(plan.x, fontsize=9)
    figure.supylabel(plan.label, fontsize=9)
    lines = {line.get_label(): line for axes in all_axes for line in axes.lines}.values()
    figure.legend(handles=[*lines], loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _draw_lines(axes: Axes, records: Sequence[Record], names: list[str], plan: FigurePlan) -> None:
    """Draw a line of medians for each variant, over the range of 5 to 95% of samples."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    others = [name for name in names if name != LIBRARY]
    for name in (*others, LIBRARY):
        found = sorted((r for r in records if r.variant == name), key=lambda r: getattr(r, plan.x))
        color = BLACK if name == LIBRARY else COLORS[others.index(name) % len(COLORS)]
        if not found:
            continue
        x = [getattr(r, plan.x) for r in found]
        y = [getattr(r, plan.value) / plan.unit for r in found]
        style = "--D" if is_peer(name) else "-o"
        axes.plot(x, y, style, color=color, label=name, markersize=4, linewidth=1.6)
        if plan is MILLISECONDS and len(x) > 1 and all(r.samples for r in found):
            band = [np.percentile(r.samples, (5, 95)) / plan.unit for r in found]
            axes.fill_between(x, *np.transpose(band), color=color, alpha=0.15, linewidth=0)
    ticks = sorted({getattr(r, plan.x) for r in records})
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    if high < 10 * low:  # what changes little should look so
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10**0.5, middle * 10**0.5)
    axes.tick_params(labelsize=8)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def short(value: float) -> str:
    """Write a tick: 4096 is 4k where that is exact, 65,536 is 64k; 0.05 stays."""
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g}k"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
