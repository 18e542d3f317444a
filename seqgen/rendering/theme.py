"""What all pictures share: colours for light and dark pages, and text that the font can draw."""

import functools
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

MAX_NAME = 34  # characters


@dataclass(frozen=True)
class Theme:
    """Colours by what they stand for, as #rrggbb; the same meaning has the same colour."""

    name: str
    background: str
    text: str
    muted: str  # text that is not read first
    rule: str  # axes, and lines between bars
    faint_rule: str  # grids, and lines between beats
    octave: str
    prompt: str  # behind what was given
    drums: str  # their pitches are no pitches, so they stay in the background
    data: str  # what people made
    generated: str  # what a model made, and the model itself
    softmax: str
    training: str
    tracks: tuple[str, ...]


# Okabe and Ito's colours ("Color Universal Design", 2008), which colour-blind readers tell apart,
# without the yellow on white, where it is too pale; lighter relatives of them on black.
LIGHT = Theme(
    name="light",
    background="#FFFFFF",
    text="#333333",
    muted="#6B6B6B",
    rule="#B5B5B5",
    faint_rule="#E6E6E6",
    octave="#D0D0D0",
    prompt="#E8EAF0",
    drums="#666666",
    data="#8A8A8A",
    generated="#0072B2",
    softmax="#D55E00",
    training="#8FBFDC",
    tracks=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"),
)
DARK = Theme(
    name="dark",
    background="#16181D",
    text="#E4E6EA",
    muted="#A4A9B3",
    rule="#5A606B",
    faint_rule="#2A2E36",
    octave="#3E434D",
    prompt="#262C3D",
    drums="#A9ADB6",
    data="#A9ADB6",
    generated="#56B4E9",
    softmax="#F5863B",
    training="#35647F",
    tracks=("#56B4E9", "#F5863B", "#2FC79A", "#E39CC4", "#A9C8F5", "#F0E442"),
)


def themed_figure(width: float, height: float, theme: Theme) -> Figure:
    """Return an empty figure of so many inches, without pyplot: nothing is shared by threads."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=theme.background)
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, theme: Theme, *, grid: Literal["x", "y"] | None = "y") -> None:
    """Give axes the theme's colours: no box, no ticks, a faint grid along `grid`."""
    axes.set_facecolor(theme.background)
    axes.tick_params(which="both", length=0, labelsize=8, labelcolor=theme.text)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.xaxis.label.set(color=theme.muted, fontsize=9)
    axes.yaxis.label.set(color=theme.muted, fontsize=9)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=theme.faint_rule, linewidth=0.7)


def drawable(text: str, max_characters: int = MAX_NAME) -> str:
    """Return `text`, cut where it is too long, with "?" for what the font lacks (it would warn)."""
    if len(text) > max_characters:
        text = text[: max_characters - 1] + "…"
    known = _font_characters()
    return "".join(character if ord(character) in known else "?" for character in text)


@functools.cache
def _font_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
