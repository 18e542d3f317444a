"""Two sets of pieces side by side: how their measures spread, and how long their copies are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from seqgen.rendering.theme import LIGHT, Theme, drawable, dress, themed_figure

PANEL_WIDTH, PANEL_HEIGHT = 2.9, 2.1
MIN_BINS, MAX_BINS = 8, 24
FEW_VALUES = 12  # whole numbers of a narrower range get a bin each
MAX_TICKS = 13  # of named categories; beyond, every second, third, ...
MAX_NAMES = 12


@dataclass(frozen=True)
class Panel:
    """A measure of two sets, as one small picture.

    Without `categories`, `data` and `generated` hold one number for each piece. With them, one
    share for each category (a histogram that is counted already).
    """

    title: str
    data: Sequence[float]
    generated: Sequence[float]
    unit: str = ""
    categories: Sequence[str] | None = None


def draw_distributions(
    panels: Sequence[Panel],
    *,
    labels: tuple[str, str] = ("data", "generated"),
    n_columns: int = 3,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw a small panel for each measure, both sets in shared bins as shares of their pieces."""
    n_columns = max(1, min(n_columns, len(panels)))
    n_rows = max(1, math.ceil(len(panels) / n_columns))
    figure = themed_figure(PANEL_WIDTH * n_columns, PANEL_HEIGHT * n_rows + 0.3, theme)
    places = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, panel in zip(places, panels, strict=False):
        dress(axes, theme)
        if panel.categories is None:
            _draw_histograms(axes, panel, theme)
        else:
            _draw_shares(axes, panel, panel.categories, theme)
        _name(axes, panel, theme)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    figure.legend(
        [
            Patch(facecolor=theme.data, alpha=0.55, linewidth=0),
            Patch(facecolor="none", edgecolor=theme.generated, linewidth=1.8),
            Line2D([], [], linestyle="", marker="^", color=theme.muted),
        ],
        [*labels, "their means"],
        loc="outside upper left",
        ncols=3,
        fontsize=9,
        frameon=False,
        labelcolor=theme.text,
    )
    return figure


def draw_runs(
    generated: Sequence[float],
    held_out: Sequence[float],
    *,
    unit: str = "tokens",
    limit: float | None = None,
    names: Sequence[str] = (),
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the longest run that each piece shares with the training set, a dot for each piece.

    Real pieces that were held out are the measure of what is usual. Beyond `limit` a piece counts
    as a copy; `names`, one for each generated piece, then name it.
    """
    figure = themed_figure(7.0, 2.6, theme)
    axes = figure.add_subplot()
    dress(axes, theme, grid="x")
    axes.set_xscale("log", base=2)
    for row, runs, color in ((1, generated, theme.generated), (0, held_out, theme.data)):
        _draw_dots(axes, row, np.asarray(runs, float), color, theme)
    labels = [f"held-out pieces ({len(held_out)})", f"generated ({len(generated)})"]
    axes.set_yticks([0, 1], labels, fontsize=9, color=theme.text)
    axes.set_ylim(-0.6, 1.75)
    axes.set_xlabel(f"longest run shared with the training set ({unit})")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda run, _: f"{run:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if limit is not None:
        _mark_limit(axes, limit, generated, names, theme)
    return figure


def _draw_histograms(axes: Axes, panel: Panel, theme: Theme) -> None:
    sets = [np.asarray(values, float) for values in (panel.data, panel.generated)]
    sets = [values[np.isfinite(values)] for values in sets]
    if not any(len(values) for values in sets):
        return
    edges = _bins(np.concatenate(sets))
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in sets]
    axes.stairs(shares[0], edges, fill=True, color=theme.data, alpha=0.55, linewidth=0)
    axes.stairs(shares[1], edges, color=theme.generated, linewidth=1.8)
    for values, color in zip(sets, (theme.data, theme.generated), strict=True):
        if len(values):  # the mean, as a mark on the axis
            axes.plot(
                [values.mean()], [0], marker="^", markersize=6, color=color, clip_on=False,
                zorder=5,
            )  # fmt: skip
    axes.set_ylabel("share of pieces")


def _bins(values: np.ndarray) -> np.ndarray:
    """Return edges for both sets; between whole numbers where all values are whole."""
    low, high = values.min(), values.max()
    n = int(np.clip(2 * len(values) ** (1 / 3), MIN_BINS, MAX_BINS))  # Rice's rule
    if np.array_equal(values, values.round()):
        width = 1 if high - low <= FEW_VALUES else math.ceil((high - low + 1) / n)
        return np.arange(low - 0.5, high + width, width)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        margin = 0.05 * abs(high) or 0.5
        return np.linspace(low - margin, high + margin, 4)
    return np.linspace(low, high, n + 1)


def _draw_shares(axes: Axes, panel: Panel, categories: Sequence[str], theme: Theme) -> None:
    for name, values in (("data", panel.data), ("generated", panel.generated)):
        if len(values) != len(categories):
            raise ValueError(
                f"{panel.title}: {len(values)} shares of {name} for {len(categories)} categories"
            )
    n = len(categories)
    edges = np.arange(n + 1) - 0.5
    if n <= 2 * MAX_TICKS:  # bars with room between them
        place = np.arange(n)
        axes.bar(place, panel.data, width=0.8, color=theme.data, alpha=0.55, linewidth=0)
        axes.bar(
            place, panel.generated, width=0.8, facecolor="none", edgecolor=theme.generated,
            linewidth=1.6,
        )  # fmt: skip
    else:
        axes.stairs(panel.data, edges, fill=True, color=theme.data, alpha=0.55, linewidth=0)
        axes.stairs(panel.generated, edges, color=theme.generated, linewidth=1.4)
    named = [i for i, name in enumerate(categories) if name]
    shown = named[:: max(1, math.ceil(len(named) / MAX_TICKS))]
    axes.set_xticks(shown, [categories[i] for i in shown])
    axes.set_xlim(-0.7, n - 0.3)
    axes.set_ylabel("share")


def _name(axes: Axes, panel: Panel, theme: Theme) -> None:
    axes.set_title(panel.title, loc="left", fontsize=9.5, color=theme.text, parse_math=False)
    axes.set_xlabel(panel.unit, fontsize=8, parse_math=False)
    axes.yaxis.label.set(color=theme.muted, fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.03)
    if panel.categories is None:
        axes.xaxis.set_major_locator(MaxNLocator(5))


def _draw_dots(axes: Axes, row: int, runs: np.ndarray, color: str, theme: Theme) -> None:
    """Draw dots side by side around a row, and their median as a line across it."""
    if len(runs) == 0:
        return
    runs = np.maximum(runs, 1)
    # Golden steps spread equal runs evenly, and are the same each time.
    offset = (np.arange(len(runs)) * 0.6180339887 % 1 - 0.5) * 0.5
    axes.plot(runs, row + offset, "o", color=color, markersize=4.5, alpha=0.7, linewidth=0)
    median = float(np.median(runs))
    axes.plot([median, median], [row - 0.34, row + 0.34], color=theme.text, linewidth=1.6)
    axes.annotate(
        f"median {median:,.0f}", (median, row + 0.36), ha="center", va="bottom", fontsize=8,
        color=theme.text,
    )  # fmt: skip


def _mark_limit(
    axes: Axes, limit: float, generated: Sequence[float], names: Sequence[str], theme: Theme
) -> None:
    axes.axvline(limit, color=theme.softmax, linewidth=1.2, zorder=1.5)
    axes.annotate(
        "copies",
        (limit, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(4, -2),
        textcoords="offset points", va="top", fontsize=8, color=theme.softmax,
    )  # fmt: skip
    if names:
        axes.set_xlim(right=axes.get_xlim()[1] * 1.6)  # room for the names
    copies = sorted(
        (run, place) for place, run in enumerate(generated) if run > limit and place < len(names)
    )
    for run, place in copies[-MAX_NAMES:]:
        offset = (place * 0.6180339887 % 1 - 0.5) * 0.5
        axes.annotate(
            drawable(names[place]), (run, 1 + offset), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=7, color=theme.text, parse_math=False,
        )  # fmt: skip
