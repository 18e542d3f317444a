"""Our measures equal those of muspy 0.5.0, and where they do not, muspy is off its definition.

muspy counts in ticks: pieces have 16 to a quarter note, which are the places of our grooves.
"""

import math
import random

import pytest
from making import write_song
from small_pieces import QUARTER, piece, repeated

from seqgen.evaluation.music.definitions import measure
from seqgen.midi import MidiFile, midi_bytes, open_midi

muspy = pytest.importorskip(
    "muspy", reason="muspy is not installed: pip install -c constraints.txt -e '.[test]'"
)
BAR = 4 * QUARTER

CHORDS = [(4 * bar, 3.5, pitch) for bar in range(4) for pitch in (48, 55, 64)]
MELODY = [(0.5 * i, 0.25, 60 + i * 5 % 13) for i in range(31)]
KICKS = [(i, 0.25, 36 + i % 2) for i in range(16)]


def random_notes(seed: int) -> list[tuple[float, float, int]]:
    """Notes that overlap, ending off the bar lines."""
    rng = random.Random(seed)
    grid = QUARTER / 2
    return [
        (rng.randrange(100) / grid, (rng.randrange(40) + 0.5) / grid, rng.randrange(30, 90))
        for _ in range(60)
    ]


PIECES = {
    "one note": piece([(1, 0.5, 69)]),
    "melody": piece(MELODY),
    "melody and chords": piece(MELODY, CHORDS),
    "with drums": piece(MELODY, CHORDS, drums=KICKS),
    "drums longest": piece([(2, 1.5, 60)], drums=[(0, 0.25, 36), (9, 0.5, 38)]),
    "one pitch in two tracks": piece([(0, 3, 60), (4, 1.5, 62)], [(1, 4.5, 60), (2, 0.5, 64)]),
    "late and with gaps": piece([(5, 1.5, 60), (17, 2.5, 67), (30, 0.5, 59)]),
    "overlaps in a track": piece([(0, 2.5, 60), (1, 2.5, 60), (6, 1.5, 61)]),
    "random": piece(random_notes(0), random_notes(1)),
    "extreme pitches": piece([(0, 0.5, 0), (1, 0.5, 127)]),
}
SAME = [
    "pitch_range",
    "n_pitches_used",
    "n_pitch_classes_used",
    "pitch_entropy",
    "pitch_class_entropy",
    "scale_consistency",
    "polyphony",
]


def both(midi: MidiFile, path):
    """A file read by us and by muspy."""
    path.write_bytes(midi_bytes(midi))
    return measure(open_midi(path)), muspy.read_midi(path)


@pytest.mark.parametrize("name", PIECES)
def test_numbers_equal_those_of_muspy(name, tmp_path):
    ours, music = both(PIECES[name], tmp_path / "piece.mid")
    for measure_name in SAME:
        expected = getattr(muspy, measure_name)(music)
        assert ours[measure_name] == pytest.approx(expected), measure_name
    assert ours["polyphony_rate"] == pytest.approx(muspy.polyphony_rate(music, threshold=1))
    assert ours["empty_beat_rate"] == pytest.approx(beats_without_lines(music))
    assert ours["empty_bar_rate"] == pytest.approx(bars_without_lines(music, BAR))
    if ours["n_bars"] > 1:
        assert ours["groove_consistency"] == pytest.approx(muspy.groove_consistency(music, BAR))
    else:
        assert ours["groove_consistency"] is None
        assert math.isnan(muspy.groove_consistency(music, BAR))


def test_numbers_of_a_song_with_480_ticks_equal_those_of_muspy(tmp_path):
    path = write_song(tmp_path / "song.mid", bars=12)
    ours, music = measure(open_midi(path)), muspy.read_midi(path)
    for measure_name in SAME:
        expected = getattr(muspy, measure_name)(music)
        assert ours[measure_name] == pytest.approx(expected), measure_name
    assert ours["polyphony_rate"] == pytest.approx(muspy.polyphony_rate(music, threshold=1))


def test_bars_of_three_quarters_equal_those_of_muspy(tmp_path):
    waltz = piece([*MELODY, (21, 0.5, 60)], CHORDS, meter=(3, 4))
    ours, music = both(waltz, tmp_path / "waltz.mid")
    assert ours["groove_consistency"] == pytest.approx(muspy.groove_consistency(music, 3 * QUARTER))
    assert ours["empty_bar_rate"] == pytest.approx(bars_without_lines(music, 3 * QUARTER))


def test_muspy_sounds_notes_into_the_bar_that_they_end_before(tmp_path):
    # One whole bar of sound, an empty one, and half a bar of sound: one of three is empty.
    ours, music = both(piece([(0, 4, 60), (8, 2, 60)]), tmp_path / "piece.mid")
    assert ours["empty_bar_rate"] == pytest.approx(1 / 3)
    assert muspy.empty_measure_rate(music, BAR) == 0
    # Of ten beats, those of the second bar are empty.
    assert ours["empty_beat_rate"] == pytest.approx(4 / 10)
    assert muspy.empty_beat_rate(music) == pytest.approx(3 / 11)


def test_muspy_counts_a_bar_after_a_piece_that_ends_on_a_bar_line(tmp_path):
    # Four equal bars of four onsets: all neighbours agree. muspy compares the last with nothing.
    bars = repeated([(i, 1, 60) for i in range(4)], 4, every=4)
    ours, music = both(piece(bars), tmp_path / "piece.mid")
    assert (ours["n_bars"], ours["groove_consistency"]) == (4, 1.0)
    assert muspy.groove_consistency(music, BAR) == pytest.approx(1 - 4 / (64 * 4))


def test_muspy_calls_three_pitches_multiple(tmp_path):
    ours, music = both(piece([(0, 2, 60)], [(0, 1, 64)]), tmp_path / "piece.mid")
    assert ours["polyphony_rate"] == 0.5
    assert muspy.polyphony_rate(music) == 0


def test_muspy_gives_drums_a_negative_pitch_range(tmp_path):
    ours, music = both(piece([], drums=KICKS), tmp_path / "drums.mid")
    assert (muspy.pitch_range(music), ours["pitch_range"]) == (-127, None)
    for name in ("pitch_entropy", "pitch_class_entropy", "scale_consistency", "polyphony"):
        assert math.isnan(getattr(muspy, name)(music))
        assert ours[name] is None
    assert ours["polyphony_rate"] == muspy.polyphony_rate(music) == 0


def beats_without_lines(music) -> float:
    """muspy's measure of a piece in which notes that end on a line are a tick shorter."""
    return muspy.empty_beat_rate(off_lines(music, music.resolution))


def bars_without_lines(music, bar: int) -> float:
    return muspy.empty_measure_rate(off_lines(music, bar), bar)


def off_lines(music, length: int):
    music = music.deepcopy()
    for track in music.tracks:
        for note in track.notes:
            note.duration -= note.end % length == 0
    return music
