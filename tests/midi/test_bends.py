"""Bends reach as far as the registered parameter of their channel says."""

import pytest
from miditoolkit import ControlChange, Instrument, PitchBend

from seqgen.midi.bends import bend, bend_ranges, semitones_of


def changes(*pairs: tuple[int, int], time: int = 0) -> list[ControlChange]:
    return [ControlChange(number, value, time) for number, value in pairs]


RANGE_12 = changes((101, 0), (100, 0), (6, 12))


@pytest.mark.parametrize(
    ("controllers", "ranges"),
    [
        ([], [(0, 2)]),
        (RANGE_12, [(0, 2), (0, 12)]),
        (changes((101, 0), (100, 0), (6, 7), (38, 50), time=9), [(0, 2), (9, 7), (9, 7.5)]),
        (changes((6, 12)), [(0, 2)]),
        (changes((101, 0), (100, 1), (6, 12)), [(0, 2)]),
        (changes((101, 0), (100, 0), (101, 127), (100, 127), (6, 12)), [(0, 2)]),
        (changes((101, 0), (100, 0), (99, 1), (98, 8), (6, 12)), [(0, 2)]),
    ],
)
def test_the_range_is_what_the_registered_parameter_says(controllers, ranges):
    assert bend_ranges(controllers) == ranges


def test_a_bend_has_the_range_that_holds_when_it_comes():
    track = Instrument(0, control_changes=RANGE_12 + changes((6, 4), time=96))
    track.pitch_bends = [PitchBend(4096, 0), PitchBend(-8192, 95), PitchBend(4096, 96)]
    assert semitones_of(track) == [6, -12, 2]


@pytest.mark.parametrize(
    ("semitones", "full", "value"),
    [(1, 2, 4096), (-2, 2, -8192), (2, 2, 8191), (5, 2, 8191), (1, 12, 683), (1, 0, 0)],
)
def test_bends_are_written_up_to_the_furthest(semitones, full, value):
    assert bend(semitones, full=full) == value
