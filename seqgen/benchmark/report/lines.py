"""Lines of records in a figure: which variants are drawn, in which colours, with which spread."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from seqgen.benchmark.records import Record
from seqgen.benchmark.report.kinds import OURS, has_value, is_published, kind
from seqgen.benchmark.subject import DECODERS

# Okabe and Ito's colours, which colour-blind readers tell apart. Dashes mark softmax attention.
BLACK, GREY, BLUE, SKY, GREEN = "#000000", "#888888", "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, PINK = "#E69F00", "#D55E00", "#CC79A7"
OTHERS = (BLUE, GREEN, SKY, PINK, ORANGE, RED, GREY)
STYLES = {
    "library": (BLACK, "-", "o"),
    "torch": (SKY, "-", "s"),
    "full-preallocated": (RED, "--", "D"),
    "full-cached": (ORANGE, "--", "v"),
    "full-recomputed": (GREY, "--", "x"),
    # training and attention
    "causal-linear": (BLUE, "-", "o"),
    "native": (BLUE, "-", "o"),
    "compiled": (SKY, "-", "s"),
    "chunked": (GREEN, "-", "^"),
    "full": (RED, "--", "D"),
    "full-sdpa": (RED, "--", "D"),
    # prefill
    "prefill-stepped": (GREY, "-", "x"),
    "prefill-parallel": (BLUE, "-", "o"),
    "prefill-parallel-bf16": (SKY, "-", "s"),
    # memory
    "recurrent": (BLUE, "-", "o"),
    "session": (GREEN, "-", "^"),
    "training": (BLUE, "-", "o"),
    "training-recomputed": (SKY, "-", "s"),
    "training-chunked": (GREEN, "-", "^"),
    "training-library": (BLACK, "-", "o"),
    "training-full": (RED, "--", "D"),
}
FASTEST = (BLUE, "-", "o")
PEER_STYLES = ((PINK, "--", "^"), (GREEN, "--", "P"), (GREY, ":", "*"))
Value = Callable[[Record], float | None]


def drawable(records: Sequence[Record]) -> list[Record]:
    """Leave out rows without a value, and figures of papers."""
    return [r for r in records if has_value(r) and not is_published(r)]


def chosen_steps(records: Sequence[Record]) -> dict[str, tuple]:
    """Choose what a figure of decode steps shows, with styles: a few lines, and no tangle.

    The library, the decoder with the plainest code, the fastest of ours; of the peers each family
    at its fastest, and the one whose matrices are those of `torch`.
    """
    times = _typical(r for r in records if r.median_seconds)
    ours = [name for name in times if name in DECODERS]
    chosen = {name: STYLES[name] for name in ("library", "torch") if name in times}
    if ours:
        chosen[min(ours, key=times.get)] = FASTEST
    chosen |= {
        name: STYLES[name]
        for name in ("full-preallocated", "full-cached", "full-recomputed")
        if name in times
    }
    families = ("full-preallocated-", "gpt2", "onnx")
    for family, style in zip(families, PEER_STYLES, strict=True):
        members = [name for name in times if name.startswith(family)]
        if members:
            chosen[min(members, key=times.get)] = style
    return chosen


def styles_of(records: Sequence[Record]) -> dict[str, tuple]:
    """Give each variant its style, or one that is not in use yet."""
    names = list(dict.fromkeys(record.variant for record in records))
    kinds = {record.variant: kind(record) for record in records}
    free = [color for color in OTHERS if all(STYLES.get(n, ("",))[0] != color for n in names)]
    styles = {}
    for name in names:
        dash = "-" if kinds[name] == OURS else "--"
        styles[name] = STYLES.get(name) or (free.pop(0) if free else GREY, dash, ".")
    return styles


def draw_lines(
    axes: Axes, records: Sequence[Record], styles: dict[str, tuple], *, x: str, y: Value
) -> None:
    """Draw a line of medians for each variant, log-log, over the range of 5 to 95% of samples.

    Args:
        records: of one panel.
        styles: by variant: colour, dash and marker; what is not in it is not drawn.
        x: the attribute that goes to the right.
        y: what goes up, of a record.
    """
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for variant, (color, dash, marker) in styles.items():
        found = sorted((r for r in records if r.variant == variant), key=lambda r: getattr(r, x))
        points = [(getattr(r, x), y(r)) for r in found if y(r) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, linestyle=dash, marker=marker,
                      markersize=4, linewidth=1.6, label=variant)  # fmt: skip
        if y in UNITS:
            spread = [
                (getattr(r, x), *(UNITS[y] * np.percentile(r.samples, (5, 95))))
                for r in found
                if r.samples
            ]
            if len(spread) > 1:
                axes.fill_between(*zip(*spread, strict=True), color=color, alpha=0.15, linewidth=0)
    ticks = sorted({getattr(r, x) for r in records if r.variant in styles and y(r) is not None})
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    if high < 10 * low:  # what changes little should look so
        middle = (low * high) ** 0.5
        low, high = axes.set_ylim(middle / 10**0.5, middle * 10**0.5)
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def seconds(record: Record) -> float | None:
    """The median."""
    return record.median_seconds


def milliseconds(record: Record) -> float | None:
    """The median, in thousandths of a second."""
    return None if record.median_seconds is None else 1e3 * record.median_seconds


UNITS = {seconds: 1.0, milliseconds: 1e3}  # of what is drawn with its spread


def short(value: float) -> str:
    """Write a tick: 4096 is 4k where that is exact, 65,536 is 64k; 0.05 stays."""
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g}k"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _typical(records: Sequence[Record]) -> dict[str, float]:
    """Compare variants by their time at the first place where each of them was measured."""
    times: dict[str, float] = {}
    for record in records:
        times.setdefault(record.variant, record.median_seconds)
    return times
