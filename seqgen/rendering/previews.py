"""What people see of files of any kind: a piano roll, or pictures side by side.

Legend: N pictures of height h and width w; H height and W width of one of all.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from seqgen.midi import MidiFile
from seqgen.rendering.piano_roll import piano_roll_image
from seqgen.rendering.theme import LIGHT, Theme, drawable, themed_figure
from seqgen.tokenizers import Preview

SHADE = 128  # of the lines between pictures
OVERVIEW = "overview.png"  # beside samples that are pictures: all of them, and no sample itself
SIDE = 480  # a picture of several is magnified to about so many pixels


def preview_image(seen: Sequence[Preview]) -> np.ndarray | None:
    """Return bytes of red, green and blue [H, W, 3]: all pictures, or the first piece of music.

    None where there is nothing to see, as of text.
    """
    pictures = [one for one in seen if isinstance(one, np.ndarray)]
    if pictures:
        return tiled(pictures)
    music = next((one for one in seen if isinstance(one, MidiFile)), None)
    return None if music is None else piano_roll_image(music)


def tiled(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Place pictures [h, w, 3] row by row into one [H, W, 3], which is about as wide as high.

    Each pixel becomes a square of several where they are small. Pictures are as large as the
    largest, with the shade of the lines around them.
    """
    h, w = (max(one.shape[axis] for one in pictures) for axis in (0, 1))
    n_columns = max(1, round(math.sqrt(len(pictures) * h / w)))
    n_rows = -(-len(pictures) // n_columns)
    whole = np.full((n_rows * (h + 1) + 1, n_columns * (w + 1) + 1, 3), SHADE, dtype=np.uint8)
    for i, one in enumerate(pictures):
        top, left = (i // n_columns) * (h + 1) + 1, (i % n_columns) * (w + 1) + 1
        whole[top : top + one.shape[0], left : left + one.shape[1]] = one
    factor = max(1, SIDE // max(whole.shape))
    return whole.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_picture(picture: np.ndarray, *, title: str, theme: Theme = LIGHT) -> Figure:
    """Draw a picture [h, w, 3], bytes of red, green and blue, below its title."""
    figure = themed_figure(4, 4, theme)
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(drawable(title), loc="left", fontsize=11, color=theme.text, parse_math=False)
    axes.set_axis_off()
    return figure
