"""Names in pictures: cut to their room, without what the font lacks; and the legend of tracks."""

import functools
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Patch

from seqgen.rendering.theme import Theme

MAX_NAME = 34
MAX_LEGEND_ENTRIES = 24


def drawable(text: str, max_characters: int = MAX_NAME) -> str:
    """Return `text`, cut where it is too long, with "?" for what the font lacks (it would warn)."""
    if len(text) > max_characters:
        text = text[: max_characters - 1] + "…"
    known = _font_characters()
    return "".join(character if ord(character) in known else "?" for character in text)


def add_track_legend(
    figure: Figure, labels: Sequence[str], colors: Sequence[str], theme: Theme
) -> None:
    """Name tracks below a picture, each beside its colour; too many of them are counted."""
    n_hidden = max(0, len(labels) - MAX_LEGEND_ENTRIES)
    labels = [drawable(label) for label in labels[:MAX_LEGEND_ENTRIES]]
    handles = [Patch(color=color) for color in colors[: len(labels)]]
    if n_hidden:
        labels.append(f"and {n_hidden} more")
        handles.append(Patch(visible=False))
    # A label that begins with an underscore would be left out: the real ones are set afterwards.
    legend = figure.legend(
        handles,
        [str(i) for i in range(len(labels))],
        loc="outside lower right",
        ncols=min(len(labels), max(1, int(figure.get_figwidth() / 2.2))),
        fontsize=8,
        frameon=False,
        labelcolor=theme.text,
        handlelength=1.2,
        handleheight=0.8,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


@functools.cache
def _font_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties())).get_charmap())
