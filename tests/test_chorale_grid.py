"""The grid of voices is what the notes say, from the first of them on, in any key."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile, Note

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "chorale_grid.py"))
read_grid, characters = SCRIPT["read_grid"], SCRIPT["characters"]


def voices(*parts) -> MidiFile:
    """A piece of parts, each a list of (pitch, first sixteenth, end)."""
    midi = MidiFile(ticks_per_beat=480)
    midi.instruments = [
        Instrument(0, notes=[Note(80, pitch, 120 * a, 120 * b) for pitch, a, b in part])
        for part in parts
    ]
    return midi


CHORALE = voices(
    [(72, 12, 14), (74, 14, 16)], [(67, 12, 16)], [(64, 12, 13)], [(48, 13, 14), (50, 14, 16)]
)


def test_a_cell_is_what_a_voice_sounds_from_the_first_note_on():
    grid = [[72, 67, 64, -1], [72, 67, -1, 48], [74, 67, -1, 50], [74, 67, -1, 50]]
    np.testing.assert_array_equal(read_grid(CHORALE), grid)


def test_characters_are_transposed_and_rests_are_not():
    grid = np.array([[72, 67, 64, -1]])
    assert characters(grid) == b"HC@~"
    assert characters(grid, shift=2) == b"JEB~"


def test_other_pieces_are_refused():
    with pytest.raises(UserError, match="4 voices, this file 1"):
        read_grid(voices([(60, 0, 4)]))
