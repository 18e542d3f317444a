"""Piano-roll pictures: what a piece looks like at a glance, and where a continuation begins.

Drawn with matplotlib's objects only, without pyplot, so that nothing is shared between threads.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile
from seqgen.midi.inspect import track_label
from seqgen.midi.repair import repair
from seqgen.midi.timing import TempoMap, bars_and_beats, last_note_end
from seqgen.rendering.figures import save_figure
from seqgen.rendering.theme import LIGHT, Theme, drawable, dress, themed_figure

IMAGE_DPI = 80
INCHES_PER_BEAT, MIN_WIDTH, MAX_WIDTH = 0.11, 7.0, 20.0
INCHES_PER_SEMITONE, MIN_HEIGHT, MAX_HEIGHT = 0.085, 3.0, 7.0
PITCH_MARGIN, MIN_PITCHES = 3, 24
NOTE_HEIGHT = 0.86
MIN_OPACITY = 0.35
TITLE_CHARACTERS_PER_INCH = 10
MAX_LEGEND_ENTRIES = 24
MIN_REGION_INCHES = 1.1  # narrower ones have no room for their name


def draw_piano_roll(
    midi: MidiFile,
    *,
    title: str = "",
    continuation_from_seconds: float | None = None,
    new_quarters: tuple[float, float] | None = None,
    theme: Theme = LIGHT,
    bars: tuple[int, int | None] | None = None,
) -> Figure:
    """Draw the notes over bars and octaves, one colour for each track, louder ones more opaque.

    What `repair` would drop is not drawn. The part before `continuation_from_seconds` is shaded
    and called the prompt; around `new_quarters`, where bars of a file were written anew, the file
    is shaded. `bars` are the first to show and the one to stop before, from 0.

    Raises:
        UserError: there is no such bar.
    """
    midi = repair(midi)
    tracks = midi.instruments
    span, numbers, starts, beats = _part(midi, bars)
    pitches = [
        note.pitch
        for track in tracks
        for note in track.notes
        if note.end > span[0] and note.start < span[1]
    ]
    figure, axes = _empty_picture(len(beats), _pitch_range(pitches), theme)
    title = drawable(title, int(figure.get_figwidth() * TITLE_CHARACTERS_PER_INCH))
    axes.set_title(title, loc="left", fontsize=11, color=theme.text, parse_math=False)
    if not tracks:
        _say_no_notes(axes, theme)
        return figure
    axes.set_xlim(span)
    is_roomy = len(beats) <= figure.get_figwidth() * 10
    _rule_time(axes, numbers, starts, beats if is_roomy else starts, theme)
    _rule_pitch(axes, theme)
    if continuation_from_seconds is not None:
        boundary = TempoMap(midi).to_ticks(max(0.0, continuation_from_seconds))
        _shade_prompt(axes, boundary, span, theme)
    if new_quarters is not None:
        begin, end = (quarters * midi.ticks_per_beat for quarters in new_quarters)
        _shade_around(axes, begin, end, span, theme)
    _draw_tracks(axes, tracks, theme, with_outlines=is_roomy)
    return figure


def save_piano_roll(
    midi: MidiFile,
    path: str | Path,
    *,
    title: str = "",
    continuation_from_seconds: float | None = None,
    new_quarters: tuple[float, float] | None = None,
) -> None:
    """Write the picture of `draw_piano_roll` as a PNG or SVG file, as the name ends."""
    figure = draw_piano_roll(
        midi,
        title=title,
        continuation_from_seconds=continuation_from_seconds,
        new_quarters=new_quarters,
    )
    save_figure(figure, path)


def piano_roll_image(midi: MidiFile, *, title: str = "") -> np.ndarray:
    """Return the picture of `draw_piano_roll` as bytes of red, green and blue, shape [H, W, 3]."""
    figure = draw_piano_roll(midi, title=title)
    figure.set_dpi(IMAGE_DPI)
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _part(
    midi: MidiFile, bars: tuple[int, int | None] | None
) -> tuple[tuple[float, float], range, np.ndarray, np.ndarray]:
    """Return what is shown: its ticks, the numbers of its bars, where they and beats begin."""
    end_tick = last_note_end(midi)
    starts, beats = bars_and_beats(midi, end_tick)
    first, stop = bars or (0, None)
    stop = len(starts) if stop is None else min(stop, len(starts))
    if bars is not None and first >= len(starts):
        raise UserError(f"there is no bar {first + 1}: the piece has {len(starts)}")
    begin = starts[first] if first else 0
    end = starts[stop] if stop < len(starts) else end_tick
    beats = beats[(beats >= begin) & (beats < end)]
    return (begin, end), range(first + 1, stop + 1), starts[first:stop], beats


def _empty_picture(n_beats: int, pitch_range: tuple[int, int], theme: Theme) -> tuple[Figure, Axes]:
    low, high = pitch_range
    width = min(max(1.0 + INCHES_PER_BEAT * n_beats, MIN_WIDTH), MAX_WIDTH)
    height = min(max(1.2 + INCHES_PER_SEMITONE * (high - low), MIN_HEIGHT), MAX_HEIGHT)
    figure = themed_figure(width, height, theme)
    axes = figure.add_subplot()
    dress(axes, theme, grid=None)
    axes.set_ylim(low - 0.5, high + 0.5)
    return figure, axes


def _say_no_notes(axes: Axes, theme: Theme) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.annotate("no notes", (0.5, 0.5), xycoords="axes fraction", ha="center", color=theme.muted)


def _pitch_range(pitches: list[int]) -> tuple[int, int]:
    """Return the lowest and highest pitch shown: the content, a margin, two octaves at least."""
    low, high = min(pitches, default=60), max(pitches, default=60)
    missing = max(0, MIN_PITCHES - (high - low + 2 * PITCH_MARGIN))
    low = max(0, low - PITCH_MARGIN - missing // 2)
    high = min(127, high + PITCH_MARGIN + (missing + 1) // 2)
    return low, high


def _rule_time(
    axes: Axes, numbers: range, bars: np.ndarray, rules: np.ndarray, theme: Theme
) -> None:
    """Number the bars, all of them or every second, fourth, ...; draw a faint line at `rules`."""
    width = _figure(axes).get_figwidth()
    step = _round_step(len(bars) / (width * 2.2))
    names = [str(number) for number in numbers[::step]]
    axes.xaxis.set_major_locator(FixedLocator(bars[::step].tolist()))
    axes.xaxis.set_major_formatter(FixedFormatter([f"bar {names[0]}", *names[1:]]))
    axes.xaxis.grid(True, which="major", color=theme.rule, linewidth=0.7)
    if len(rules) <= width * 20:
        axes.xaxis.set_minor_locator(FixedLocator(rules.tolist()))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.grid(True, which="minor", color=theme.faint_rule, linewidth=0.5)


def _figure(axes: Axes) -> Figure:
    return cast(Figure, axes.figure)  # not a subfigure


def _round_step(least: float) -> int:
    """Return the smallest of 1, 2, 4, 8, ... that is not below `least`."""
    return 2 ** max(0, math.ceil(math.log2(max(least, 1.0))))


def _rule_pitch(axes: Axes, theme: Theme) -> None:
    """Name every C, and rule its lower edge, where an octave begins."""
    low, high = axes.get_ylim()
    octaves = [c for c in range(0, 128, 12) if low <= c <= high]
    axes.set_yticks(octaves, [f"C{c // 12 - 1}" for c in octaves])
    for c in octaves:
        axes.axhline(c - 0.5, color=theme.octave, linewidth=0.7, zorder=0.6)


def _shade_prompt(axes: Axes, boundary: float, span: tuple[float, float], theme: Theme) -> None:
    begin, end = span
    if boundary < begin:
        return
    boundary = min(boundary, end)
    axes.axvspan(begin, boundary, color=theme.prompt, linewidth=0, zorder=0.4)
    axes.axvline(boundary, color=theme.text, linewidth=1.2, zorder=3)
    regions = [
        ("prompt", "right", -5, boundary - begin),
        ("continuation", "left", 5, end - boundary),
    ]
    for name, alignment, offset, n_ticks in regions:
        if n_ticks / (end - begin) * _figure(axes).get_figwidth() < MIN_REGION_INCHES:
            continue
        axes.annotate(
            name,
            (boundary, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(offset, -4),
            textcoords="offset points",
            ha=alignment,
            va="top",
            fontsize=9,
            color=theme.text,
            zorder=4,
        )


def _shade_around(
    axes: Axes, begin: float, end: float, span: tuple[float, float], theme: Theme
) -> None:
    """Shade what is kept of an edited file, and rule where the new bars begin and end."""
    for low, high, border in ((span[0], begin, begin), (end, span[1], end)):
        low, high = max(low, span[0]), min(high, span[1])
        if low < high:
            axes.axvspan(low, high, color=theme.prompt, linewidth=0, zorder=0.4)
        if span[0] < border < span[1]:
            axes.axvline(border, color=theme.text, linewidth=1.2, zorder=3)
    if span[0] <= begin < span[1]:
        axes.annotate(
            "new",
            (begin, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(5, -4),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=theme.text,
            zorder=4,
        )


def _draw_tracks(
    axes: Axes,
    tracks: list[Instrument],
    theme: Theme,
    *,
    with_outlines: bool,
) -> None:
    """Draw all notes, the first track on top, and name the tracks where there are several."""
    track_colors = _assign_colors([track.is_drum for track in tracks], theme)
    for track, color in reversed(list(zip(tracks, track_colors, strict=True))):
        rectangles = _note_rectangles(track.notes, color, with_outlines=with_outlines)
        axes.add_collection(rectangles, autolim=False)
    if len(tracks) > 1:
        _add_track_legend(
            _figure(axes), [track_label(track) for track in tracks], track_colors, theme
        )


def _add_track_legend(
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


def _note_rectangles(notes: list, color: str, *, with_outlines: bool) -> PolyCollection:
    """Return one collection of rectangles: it draws ten thousand notes as fast as a hundred."""
    start, end, pitch, velocity = np.array(
        [(note.start, note.end, note.pitch, note.velocity) for note in notes], dtype=float
    ).T
    low, high = pitch - NOTE_HEIGHT / 2, pitch + NOTE_HEIGHT / 2
    corners = np.stack([start, low, start, high, end, high, end, low], axis=1).reshape(-1, 4, 2)
    opacity = MIN_OPACITY + (1 - MIN_OPACITY) * velocity / 127
    rgb = np.array(to_rgb(color))
    faces = np.column_stack([np.tile(rgb, (len(notes), 1)), opacity])
    outline = rgb * 0.6 if with_outlines else rgb  # between short notes it would be all one sees
    return PolyCollection(
        cast(Sequence[np.ndarray], corners),
        facecolors=faces,
        edgecolors=[outline],
        linewidths=0.4,
        zorder=2,
    )


def _assign_colors(are_drums: list[bool], theme: Theme) -> list[str]:
    """Return one colour for each track; with more tracks than colours they begin again."""
    in_turn = itertools.cycle(theme.tracks)
    return [theme.drums if is_drum else next(in_turn) for is_drum in are_drums]
