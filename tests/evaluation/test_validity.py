"""A file is judged in words, whatever it holds."""

import random

import pytest
from making import TICKS, write_song

from seqgen.evaluation import validity
from seqgen.evaluation.validity import check_file
from seqgen.midi import Instrument, MidiFile, Note, TimeSignature, midi_bytes


def write(path, *ends: float, signatures=()):
    """A file whose notes end after so many quarters each."""
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.time_signature_changes = list(signatures)
    notes = [Note(70, 60, 0, round(end * TICKS)) for end in ends]
    midi.instruments = [Instrument(0, notes=notes)] if notes else []
    path.write_bytes(midi_bytes(midi))
    return path


def test_a_sound_file_has_no_faults(tmp_path):
    assert check_file(write_song(tmp_path / "song.mid")) == ([], [])


@pytest.mark.parametrize(("end", "complete"), [(4, True), (7.1, True), (7, True), (6.5, False)])
def test_a_last_bar_may_lack_a_beat_and_no_more(tmp_path, end, complete):
    faults = [] if complete else ["the last bar breaks off after 2.5 of 4 beats"]
    assert check_file(write(tmp_path / "piece.mid", end)) == ([], faults)


@pytest.mark.parametrize(("quarters", "complete"), [(8, True), (6, False)])
def test_the_meter_changes_at_bar_lines(tmp_path, quarters, complete):
    signatures = [TimeSignature(4, 4, 0), TimeSignature(3, 8, quarters * TICKS)]
    path = write(tmp_path / "piece.mid", quarters + 1.5, signatures=signatures)
    faults = [] if complete else ["the change to 3/8 comes inside a bar"]
    assert check_file(path) == ([], faults)


def test_a_change_of_meter_after_the_music_does_not_count(tmp_path):
    signatures = [TimeSignature(4, 4, 0), TimeSignature(3, 4, 5 * TICKS)]
    assert check_file(write(tmp_path / "piece.mid", 4, signatures=signatures)) == ([], [])


def test_a_file_without_notes_says_so(tmp_path):
    assert check_file(write(tmp_path / "piece.mid")) == (["it has no notes"], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it holds no bytes"),
        (b"once upon a time", "it is not a MIDI file (it does not begin with MThd)"),
        (b"MThd\x00\x00\x00\x06\x00", "its header is cut off"),
        (bytes(range(256)), "it is not a MIDI file (it does not begin with MThd)"),
        (
            b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x00\x00\xff\xff",
            "it is cut off at track 1",
        ),
    ],
)
def test_what_is_no_midi_file_is_told_in_words(tmp_path, content, reason):
    path = tmp_path / "piece.mid"
    path.write_bytes(content)
    assert check_file(path) == ([reason], [])


def test_files_that_are_not_there_are_told_in_words(tmp_path):
    assert check_file(tmp_path / "none.mid")[0] == ["no such file or directory"]
    assert check_file(tmp_path)[0] == ["it is not a file"]


def test_damaged_files_never_raise(tmp_path):
    content = write_song(tmp_path / "song.mid").read_bytes()
    rng, path = random.Random(0), tmp_path / "damaged.mid"
    n_refused = 0
    for _ in range(150):
        damaged = bytearray(content[: rng.randrange(len(content))])
        for _ in range(min(len(damaged), 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        n_refused += bool(check_file(path)[0])
    assert n_refused == 150


def test_what_symusic_alone_refuses_is_told(tmp_path, monkeypatch):
    def refuse(path):
        raise RuntimeError("no header")

    monkeypatch.setattr(validity.symusic, "Score", refuse)
    found = check_file(write_song(tmp_path / "song.mid"))
    assert found == (["symusic cannot read it (no header)"], [])
