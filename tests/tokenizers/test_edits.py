"""Bars of a file written anew: what is around them sounds as before."""

import pytest

from seqgen.midi import Instrument, MidiFile, Note, PitchBend
from seqgen.tokenizers.midi.edits import replace_bars

BAR = 4 * 480


def band(bends):
    """One instrument with a note in each of three bars, and pitch bends (pitch, time)."""
    midi = MidiFile(ticks_per_beat=480)
    notes = [Note(90, 60, bar * BAR, bar * BAR + 480) for bar in range(3)]
    midi.instruments = [
        Instrument(0, notes=notes, pitch_bends=[PitchBend(*bend) for bend in bends])
    ]
    return midi


def bend_at(track, tick):
    return [0, *(bend.pitch for bend in track.pitch_bends if bend.time <= tick)][-1]


@pytest.mark.parametrize(
    "bends",
    [
        [(500, 0), (800, 2 * BAR)],
        [(500, 0), (0, 2 * BAR)],
        [(500, BAR + 10), (0, 2 * BAR), (300, 2 * BAR + 9)],
        [(500, BAR), (700, 2 * BAR - 1)],
        [(500, 0)],
        [(500, 2 * BAR)],
        [],
    ],
)
def test_pitch_bends_around_rewritten_bars_are_what_they_were(bends):
    before = band(bends)
    after = replace_bars(before, [0], MidiFile(ticks_per_beat=480), [], places=[(0, 4.0, 8.0)])
    [old], [new] = before.instruments, after.instruments
    assert [(note.start, note.pitch) for note in new.notes] == [(0, 60), (2 * BAR, 60)]
    for tick in range(0, 3 * BAR, 5):
        inside = BAR <= tick < 2 * BAR
        assert bend_at(new, tick) == (0 if inside else bend_at(old, tick))
    assert [(bend.pitch, bend.time) for bend in old.pitch_bends] == bends
