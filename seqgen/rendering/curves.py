"""Curves of likelihood: over training steps, and over the positions of a piece."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from seqgen.rendering.theme import LIGHT, Theme, drawable, dress, themed_figure

WIDTH, HEIGHT = 7.0, 3.6
ROLES = ("model", "training", "recurrent", "softmax", "data", "other")
SMOOTHED_OVER = 0.02  # of a training curve, whose batches differ in difficulty
NAME_POINTS = 11  # the height of a level's name
TITLE = 80  # characters
MAX_POINTS = 2000  # of one line: more than there are pixels


@dataclass(frozen=True)
class Curve:
    """A line of numbers; `role` gives it the same looks in every figure (one of `ROLES`)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    role: str = "model"

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role is {self.role!r}, accepted are {', '.join(ROLES)}")
        if len(self.x) != len(self.y):
            raise ValueError(f"{self.label} has {len(self.x)} x and {len(self.y)} y")


def draw_loss_curves(
    curves: Sequence[Curve],
    *,
    references: Mapping[str, float] | None = None,
    best_step: float | None = None,
    unit: str = "nats per token",
    title: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw losses over optimizer steps; `references` are levels to compare with (n-gram models)."""
    figure, axes = _axes(title, theme)
    for place, curve in enumerate(curves):
        _draw(axes, curve, place, theme)
    if best_step is not None:
        _mark_best(axes, curves, best_step, theme)
    axes.set(xlabel="step", ylabel=unit)
    _finish(axes, curves, references or {}, theme)
    return figure


def draw_by_position(
    curves: Sequence[Curve],
    *,
    references: Mapping[str, float] | None = None,
    training_length: int | None = None,
    unit: str = "nats per token",
    title: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Draw likelihood over positions (from 1) on an axis of powers of two.

    A rule stands at `training_length`: what is right of it was never learned from. The role
    "recurrent" is drawn as rings, which lie on the line of the parallel form where they agree.
    """
    figure, axes = _axes(title, theme)
    axes.set_xscale("log", base=2)
    for place, curve in enumerate(curves):
        _draw(axes, curve, place, theme, with_points=True)
    if training_length is not None:
        _mark_training_length(axes, training_length, theme)
    axes.set(xlabel="position in the piece (tokens)", ylabel=unit)
    axes.xaxis.set_minor_locator(NullLocator())
    _finish(axes, curves, references or {}, theme)
    return figure


def _axes(title: str, theme: Theme) -> tuple[Figure, Axes]:
    figure = themed_figure(WIDTH, HEIGHT, theme)
    axes = figure.add_subplot()
    dress(axes, theme)
    title = drawable(title, TITLE)
    axes.set_title(title, loc="left", fontsize=11, color=theme.text, parse_math=False)
    return figure, axes


def _finish(
    axes: Axes, curves: Sequence[Curve], references: Mapping[str, float], theme: Theme
) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    _fit(axes, curves, references)
    _draw_references(axes, references, theme)
    _add_legend(axes, theme)


def _draw(axes: Axes, curve: Curve, place: int, theme: Theme, *, with_points: bool = False) -> None:
    x, y = _finite(curve)
    if curve.role == "training":
        axes.plot(x, y, color=theme.training, linewidth=0.6, alpha=0.45, zorder=1.5)
        x, y = _smoothed(x, y)
    if len(x) > MAX_POINTS:
        kept = np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int)
        x, y = x[kept], y[kept]
    is_short = with_points or len(x) < 3
    looks: dict[str, dict[str, Any]] = {
        "model": {"color": theme.generated, "marker": "o" if is_short else None, "zorder": 3},
        "training": {"color": theme.training, "linewidth": 1.6, "zorder": 2},
        "recurrent": {
            "color": theme.text,
            "linestyle": "",
            "marker": "o",
            "markersize": 8,
            "markerfacecolor": "none",
            "zorder": 4,
        },
        "softmax": {"color": theme.softmax, "marker": "s" if is_short else None, "zorder": 2.5},
        "data": {"color": theme.data, "marker": "D" if is_short else None},
        "other": {
            "color": theme.tracks[(2 + place) % len(theme.tracks)],
            "marker": "^" if is_short else None,
        },
    }
    usual: dict[str, Any] = {"label": drawable(curve.label), "linewidth": 1.8, "markersize": 4}
    axes.plot(x, y, **usual | looks[curve.role])


def _finite(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    is_finite = np.isfinite(x) & np.isfinite(y)
    return x[is_finite], y[is_finite]


def _smoothed(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over a window of neighbours that shrinks at both ends."""
    half = int(len(y) * SMOOTHED_OVER / 2)
    if half == 0:
        return x, y
    sums = np.concatenate([[0.0], np.cumsum(y)])
    place = np.arange(len(y))
    reach = np.minimum(half, np.minimum(place, len(y) - 1 - place))
    return x, (sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1)


def _draw_references(axes: Axes, references: Mapping[str, float], theme: Theme) -> None:
    """Draw dashed levels, named at the right; names of close levels give way upwards."""
    low, high = axes.get_ylim()
    room = (high - low) * NAME_POINTS / (0.75 * HEIGHT * 72)
    free_from = -np.inf
    for label, level in sorted(references.items(), key=lambda item: item[1]):
        axes.axhline(level, color=theme.data, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.2)
        place = max(level, free_from)
        free_from = place + room
        axes.annotate(
            drawable(label),
            (1.0, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=theme.muted,
            parse_math=False,
        )


def _mark_best(axes: Axes, curves: Sequence[Curve], step: float, theme: Theme) -> None:
    """Ring the value of the first model curve at its best step."""
    for curve in curves:
        if curve.role != "model" or step not in list(curve.x):
            continue
        loss = curve.y[list(curve.x).index(step)]
        axes.plot([step], [loss], "o", color=theme.generated, markersize=6, zorder=5)
        axes.annotate(
            f"{loss:.3f}",
            (step, loss),
            xytext=(0, -11),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            fontweight="bold",
            color=theme.generated,
            zorder=5,
        )
        return


def _mark_training_length(axes: Axes, length: int, theme: Theme) -> None:
    axes.axvline(length, color=theme.muted, linewidth=1.0, zorder=1.3)
    axes.annotate(
        "learned from windows of this length",
        (length, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
        color=theme.muted,
    )


def _fit(axes: Axes, curves: Sequence[Curve], references: Mapping[str, float]) -> None:
    """Show all smooth curves and levels; the first steps of training may leave at the top."""
    values = [np.asarray(list(references.values()), float)]
    for curve in curves:
        _, y = _finite(curve)
        values.append(y[len(y) // 20 :] if curve.role == "training" else y)
    shown = np.concatenate(values)
    if len(shown):
        low, high = shown.min(), shown.max()
        margin = 0.07 * (high - low) or 0.5
        axes.set_ylim(low - 1.6 * margin, high + margin)


def _add_legend(axes: Axes, theme: Theme) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        axes.annotate(
            "nothing to draw yet", (0.5, 0.5), xycoords="axes fraction", ha="center",
            color=theme.muted,
        )  # fmt: skip
        return
    axes.figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=min(len(labels), 4),
        fontsize=8,
        frameon=False,
        labelcolor=theme.text,
    )
