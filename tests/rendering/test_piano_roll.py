"""The picture shows every note in its place, whatever the piece holds and its tracks are called."""

import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from miditoolkit import Instrument, MidiFile, Note, TempoChange, TimeSignature

from seqgen.errors import UserError
from seqgen.rendering.piano_roll import (
    draw_piano_roll,
    piano_roll_image,
    save_piano_roll,
)
from seqgen.rendering.theme import DARK, LIGHT


def piece(n_beats=16, tracks=None) -> MidiFile:
    midi = MidiFile(ticks_per_beat=480)
    for track in tracks or [Instrument(0)]:
        notes = [Note(20 + i % 100, 50 + i % 24, i * 480, i * 480 + 400) for i in range(n_beats)]
        midi.instruments.append(Instrument(track.program, track.is_drum, track.name, notes))
    return midi


def note_collections(figure) -> list[PolyCollection]:
    collections = [c for c in figure.axes[0].collections if isinstance(c, PolyCollection)]
    return collections[::-1]  # drawn last to first


def texts(figure) -> list[str]:
    axes = figure.axes[0]
    return [text.get_text() for text in (*axes.texts, axes.title, *axes.get_xticklabels())]


def legend_texts(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_each_note_is_a_rectangle_at_its_ticks_and_pitch():
    (collection,) = note_collections(draw_piano_roll(piece(3)))
    extents = [path.get_extents() for path in collection.get_paths()]
    assert [(e.x0, e.x1) for e in extents] == [(0, 400), (480, 880), (960, 1360)]
    assert [(e.y0 + e.y1) / 2 for e in extents] == pytest.approx([50, 51, 52])


def test_louder_notes_are_more_opaque():
    (collection,) = note_collections(draw_piano_roll(piece(50)))
    opacity = collection.get_facecolors()[:, 3]
    assert np.all(np.diff(opacity) > 0)
    assert 0.3 < opacity.min() < opacity.max() <= 1


def test_tracks_have_their_own_colours_and_a_legend():
    tracks = (Instrument(0, name="Lead"), Instrument(0, is_drum=True), Instrument(33))
    figure = draw_piano_roll(piece(tracks=tracks))
    colors = [to_hex(c.get_facecolors()[0]).upper() for c in note_collections(figure)]
    assert colors == [LIGHT.tracks[0], LIGHT.drums, LIGHT.tracks[1]]
    assert legend_texts(figure) == ["Lead", "Drums", "Electric Bass (finger)"]


def test_one_track_needs_no_legend():
    assert not draw_piano_roll(piece()).legends


def test_colours_begin_again_and_a_long_legend_is_cut():
    figure = draw_piano_roll(piece(2, [Instrument(i) for i in range(40)]))
    again = note_collections(figure)[len(LIGHT.tracks)]
    assert to_hex(again.get_facecolors()[0]).upper() == LIGHT.tracks[0]
    assert legend_texts(figure)[-1] == "and 16 more"


def test_bars_are_ruled_by_the_time_signatures():
    midi = piece(10)
    midi.time_signature_changes = [TimeSignature(4, 4, 0), TimeSignature(3, 4, 1920)]
    axis = draw_piano_roll(midi).axes[0].xaxis
    assert axis.get_majorticklocs().tolist() == [0, 1920, 3360]
    assert [label.get_text() for label in axis.get_majorticklabels()] == ["bar 1", "2", "3"]


def test_some_bars_are_shown_under_their_own_numbers():
    midi = piece(24)
    midi.instruments[0].notes.append(Note(64, 120, 0, 100))  # outside: does not stretch the picture
    axes = draw_piano_roll(midi, bars=(2, 4), continuation_from_seconds=5).axes[0]
    assert axes.get_xlim() == (2 * 1920, 4 * 1920)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bar 3", "4"]
    assert axes.get_ylim()[1] < 90
    (shade,) = axes.patches
    assert shade.get_x() + shade.get_width() == pytest.approx(480 * 10)
    with pytest.raises(UserError, match="there is no bar 7: the piece has 6"):
        draw_piano_roll(midi, bars=(6, None))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_theme_colours_paper_notes_and_prompt(theme):
    figure = draw_piano_roll(piece(40), theme=theme, continuation_from_seconds=5)
    (notes,) = note_collections(figure)
    assert to_hex(notes.get_facecolors()[0]).upper() == theme.tracks[0]
    assert to_hex(figure.get_facecolor()).upper() == theme.background
    assert to_hex(figure.axes[0].patches[0].get_facecolor()).upper() == theme.prompt


def test_octaves_are_named_and_the_range_is_cropped():
    axes = draw_piano_roll(piece(24)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["C3", "C4", "C5"]
    assert axes.get_ylim() == (46.5, 76.5)


def test_prompt_is_shaded_up_to_its_time_and_named():
    midi = piece(40)
    midi.tempo_changes = [TempoChange(120, 0), TempoChange(60, 480 * 8)]
    figure = draw_piano_roll(midi, continuation_from_seconds=10)
    (shade,) = figure.axes[0].patches
    # Eight beats take 4 s, the other 6 s hold six.
    assert shade.get_x() + shade.get_width() == pytest.approx(480 * 14)
    assert {"prompt", "continuation"} <= set(texts(figure))
    assert not draw_piano_roll(midi).axes[0].patches


def test_around_new_bars_the_file_is_shaded():
    axes = draw_piano_roll(piece(40), new_quarters=(8.0, 16.0)).axes[0]
    before, behind = axes.patches
    assert before.get_x() + before.get_width() == pytest.approx(480 * 8)
    assert behind.get_x() == pytest.approx(480 * 16)
    assert "new" in texts(axes.figure)
    whole = draw_piano_roll(piece(4), new_quarters=(0.0, 100.0)).axes[0]
    assert not whole.patches


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_a_region_without_room_is_not_named(seconds):
    names = texts(draw_piano_roll(piece(), continuation_from_seconds=seconds))
    assert ("prompt" in names, "continuation" in names) == (seconds > 0, seconds == 0)


@pytest.mark.parametrize("midi", [MidiFile(), piece(0)])
def test_an_empty_piece_says_so(midi, tmp_path):
    assert "no notes" in texts(draw_piano_roll(midi))
    save_piano_roll(midi, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_width_grows_with_length_up_to_a_limit():
    widths = [draw_piano_roll(piece(n)).get_figwidth() for n in (4, 100, 1000, 3000)]
    assert widths[0] < widths[1] < widths[2] == widths[3]


@pytest.mark.parametrize("name", ["$x^", "_hidden", "夜曲 \x01\x85", "long " * 100])
def test_any_name_can_be_drawn(name):
    midi = piece(tracks=[Instrument(0, name=name), Instrument(1)])
    assert piano_roll_image(midi, title=name).ndim == 3


def test_unsound_notes_are_left_out():
    midi = piece(2)
    midi.instruments[0].notes.append(Note(64, 60, 5, 5))
    midi.instruments[0].notes.append(Note(64, 200, 5, 50))
    (collection,) = note_collections(draw_piano_roll(midi))
    assert len(collection.get_paths()) == 2


def test_image_is_bytes_of_red_green_blue_with_notes_in_their_colour():
    image = piano_roll_image(piece())
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    is_bluish = image[..., 2].astype(int) - image[..., 0] > 60
    assert 0.005 < is_bluish.mean() < 0.5
    assert (image == 255).all(axis=2).mean() > 0.5


def test_saved_file_is_a_png_and_nothing_else_is_left(tmp_path):
    save_piano_roll(piece(), tmp_path / "pictures" / "roll.png", title="roll")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["roll.png"]
    assert matplotlib.image.imread(tmp_path / "pictures" / "roll.png").ndim == 3


def test_ten_thousand_notes_and_tiny_bars_are_drawn_as_one_collection():
    midi = piece(10_000)
    midi.time_signature_changes = [TimeSignature(1, 64, 0)]
    figure = draw_piano_roll(midi)
    assert len(note_collections(figure)) == 1
    assert len(figure.axes[0].get_xticks()) < 100


def test_pyplot_is_not_imported():
    code = "import sys, seqgen.rendering.piano_roll; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
