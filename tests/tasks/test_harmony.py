"""Keys and chords as musicians write and hear them."""

import pytest

from seqgen.tasks.bars import BarNote
from seqgen.tasks.harmony import (
    CHORDS,
    KEYS,
    NAMES,
    QUALITIES,
    chord_of,
    key_of,
    parse_chord,
    parse_key,
)


def notes(*pitches, length=1.0, part=""):
    return [BarNote(0.0, length, pitch, 80, part) for pitch in pitches]


@pytest.mark.parametrize("chord", CHORDS)
def test_a_chord_is_found_from_its_tones(chord):
    root = next(name for name in sorted(NAMES, key=len, reverse=True) if chord.startswith(name))
    tones = QUALITIES[chord.removeprefix(root)]
    found = chord_of(notes(*(48 + NAMES.index(root) + tone for tone in tones)))
    same = {frozenset((48 + NAMES.index(root) + tone) % 12 for tone in tones)}
    other = next(name for name in sorted(NAMES, key=len, reverse=True) if found.startswith(name))
    assert {
        frozenset((NAMES.index(other) + tone) % 12 for tone in QUALITIES[found.removeprefix(other)])
    } == same  # an augmented triad has three names


def test_a_passing_note_does_not_change_the_chord():
    assert chord_of([*notes(57, 60, 64, length=4.0), *notes(62, length=0.5)]) == "Am"


@pytest.mark.parametrize("tonic", range(12))
def test_a_scale_with_its_cadence_has_its_key(tonic):
    major, minor = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)
    for scale, triad, mode in ((major, (0, 4, 7), ""), (minor, (0, 3, 7), "m")):
        played = notes(*(60 + tonic + step for step in scale))
        played += notes(*(60 + tonic + step for step in triad), length=3.0)
        assert key_of(played) == NAMES[tonic] + mode


def test_drums_and_silence_have_no_harmony():
    assert key_of([]) is chord_of([]) is None
    assert chord_of(notes(36, 38, 42, part="drums")) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Am", "Am"),
        ("a minor", "Am"),
        ("F# minor", "F#m"),
        ("Bb", "A#"),
        ("E♭ major", "D#"),
        ("Cb", "B"),
        ("c", "C"),
        ("Gmin", "Gm"),
    ],
)
def test_keys_are_read_as_people_write_them(text, key):
    assert parse_key(text) == key
    assert key in KEYS


@pytest.mark.parametrize("text", ["", "H", "Amm", "A dorian", "7", "Am7", "Am/C"])
def test_what_is_no_key_is_none(text):
    assert parse_key(text) is None


@pytest.mark.parametrize(
    ("text", "chord"),
    [
        ("Am", "Am"),
        ("Bb7", "A#7"),
        ("CM7", "Cmaj7"),
        ("F#min7", "F#m7"),
        ("Ddim", "Ddim"),
        ("C+", "Caug"),
    ],
)
def test_chords_are_read_as_people_write_them(text, chord):
    assert parse_chord(text) == chord


@pytest.mark.parametrize("text", ["", "a", "Csus4", "X", "C/E", "Am!"])
def test_what_is_no_chord_is_none(text):
    assert parse_chord(text) is None
