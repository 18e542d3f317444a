"""Repair drops what cannot be, keeps every sound note as it is, and the result can be written."""

import math

import miditoolkit
import pytest
from miditoolkit import (
    ControlChange,
    Instrument,
    KeySignature,
    Lyric,
    Marker,
    MidiFile,
    Note,
    Pedal,
    PitchBend,
    TempoChange,
    TimeSignature,
)

from seqgen.midi.gate import open_midi
from seqgen.midi.repair import repair
from seqgen.midi.store import midi_bytes
from seqgen.midi.timing import TempoMap, bars_and_beats

SOUND = Note(64, 60, 480, 960)


def one_track(*notes: Note, **events) -> MidiFile:
    midi = MidiFile(ticks_per_beat=480)
    midi.instruments = [Instrument(0, notes=list(notes), **events)]
    return midi


def broken() -> MidiFile:
    """A file with something wrong in every list."""
    midi = one_track(
        Note(64, 128, 0, 10),
        SOUND,
        pitch_bends=[PitchBend(9000, 0), PitchBend(100, 50), PitchBend(-8192, 20)],
        control_changes=[ControlChange(64, 200, 0), ControlChange(7, 100, 30)],
        pedals=[Pedal(20, 10), Pedal(5, 10)],
    )
    midi.instruments[0].name = "Kōto ♪"
    midi.instruments.append(Instrument(300, notes=[SOUND]))
    midi.instruments.append(Instrument(5, notes=[Note(0, 60, 0, 10)]))
    midi.tempo_changes = [TempoChange(100, 500), TempoChange(0, 200), TempoChange(1e9, 100)]
    midi.time_signature_changes = [TimeSignature(3, 4, 960), TimeSignature(4, 5, 0)]
    midi.key_signature_changes = [KeySignature("c", 0), KeySignature("F#m", 7)]
    midi.lyrics = [Lyric("夜", 20), Lyric("é\udc80", 10)]
    midi.markers = [Marker("\x00 verse", -1), Marker("コーラス", 3)]
    return midi


@pytest.mark.parametrize(
    "note",
    [
        Note(64, 60, 100, 100),
        Note(64, 60, 100, 90),
        Note(64, 60, -1, 90),
        Note(64, 128, 0, 90),
        Note(64, -1, 0, 90),
        Note(128, 60, 0, 90),
        Note(0, 60, 0, 90),
    ],
)
def test_impossible_notes_are_dropped(note):
    assert repair(one_track(SOUND, note)).instruments[0].notes == [SOUND]


def test_sound_notes_are_kept_exactly_and_sorted():
    notes = [
        Note(64, 60, 480, 960),
        Note(127, 0, 0, 1),
        Note(1, 127, 0, 100_000),
        Note(64, 60, 480, 960),  # a doubled note is no fault
        Note(64, 60, 500, 700),  # nor is one within another
    ]
    kept = repair(one_track(*notes)).instruments[0].notes
    assert kept == sorted(notes, key=lambda note: (note.start, note.pitch, note.end))


def test_tracks_without_notes_are_dropped():
    midi = one_track(SOUND)
    midi.instruments.append(Instrument(3, notes=[Note(64, 60, 5, 5)]))
    assert len(repair(midi).instruments) == 1


@pytest.mark.parametrize("tempo", [0, -120, math.nan, math.inf])
def test_impossible_tempi_are_dropped(tempo):
    midi = one_track(SOUND)
    midi.tempo_changes = [TempoChange(90, 0), TempoChange(tempo, 480)]
    assert repair(midi).tempo_changes == [TempoChange(90, 0)]


def test_absurd_tempi_are_set_to_the_nearest_bound():
    midi = one_track(SOUND)
    midi.tempo_changes = [TempoChange(0.001, 0), TempoChange(90.5, 500), TempoChange(1e9, 600)]
    assert [change.tempo for change in repair(midi).tempo_changes] == [10, 90.5, 500]


def test_impossible_time_signatures_are_dropped():
    midi = one_track(SOUND)
    faulty = [TimeSignature(4, 3, 20), TimeSignature(256, 4, 30), TimeSignature(4, 2**70, 40)]
    faulty.append(TimeSignature(4, 4, 50))
    faulty[-1].numerator = 0  # the constructor refuses it
    midi.time_signature_changes = [*faulty, TimeSignature(7, 8, 0)]
    assert repair(midi).time_signature_changes == [TimeSignature(7, 8, 0)]


def test_default_tempo_and_time_signature_are_written_out():
    midi = one_track(SOUND)
    midi.tempo_changes = [TempoChange(90, 960)]
    repaired = repair(midi)
    assert repaired.tempo_changes == [TempoChange(120, 0), TempoChange(90, 960)]
    assert repaired.time_signature_changes == [TimeSignature(4, 4, 0)]


def test_max_tick_is_one_after_the_last_event_of_any_kind():
    midi = one_track(SOUND)
    assert repair(midi).max_tick == 961
    midi.lyrics = [Lyric("la", 2000)]
    assert repair(midi).max_tick == 2001
    assert repair(MidiFile()).max_tick == 1


def test_text_that_cannot_be_written_is_replaced():
    repaired = repair(broken())
    assert repaired.instruments[0].name == "K?to ?"
    assert [lyric.text for lyric in repaired.lyrics] == ["é?", "?"]
    assert [marker.text for marker in repaired.markers] == ["????"]


def test_repairing_leaves_the_given_file_alone():
    midi = broken()
    repair(midi).instruments[0].notes[0].pitch = 0
    assert midi == broken()


def test_repairing_twice_changes_nothing_more():
    once = repair(broken())
    assert repair(once) == once
    assert repair(once).max_tick == once.max_tick


def test_repaired_file_survives_writing_and_opening():
    repaired = repair(broken())
    assert open_midi(midi_bytes(repaired)) == repaired


def test_writing_an_unrepaired_file_fails_where_the_repaired_one_does_not():
    with pytest.raises((ValueError, ZeroDivisionError)):
        midi_bytes(broken())
    assert midi_bytes(repair(broken())).startswith(b"MThd")


def test_an_impossible_resolution_is_refused():
    with pytest.raises(ValueError, match="1 to 32767"):
        repair(MidiFile(ticks_per_beat=0))


def test_tempo_map_agrees_with_the_table_of_all_ticks_and_with_its_inverse():
    midi = one_track(SOUND, Note(64, 60, 4000, 5000))
    midi.tempo_changes = [TempoChange(100, 0), TempoChange(50, 700), TempoChange(140, 3000)]
    midi = repair(midi)
    tempo_map = TempoMap(midi)
    table = midi.get_tick_to_time_mapping()
    for tick in (0, 699, 700, 701, 3000, 4999):
        assert tempo_map.to_seconds(tick) == pytest.approx(table[tick])
        assert tempo_map.to_ticks(tempo_map.to_seconds(tick)) == pytest.approx(tick)


def test_bars_follow_the_time_signatures():
    midi = miditoolkit.MidiFile(ticks_per_beat=480)
    midi.time_signature_changes = [TimeSignature(4, 4, 0), TimeSignature(6, 8, 1920)]
    bars, beats = bars_and_beats(midi, 1920 + 1440 + 1)
    assert bars.tolist() == [0, 1920, 3360]
    assert beats.tolist() == [0, 480, 960, 1440, *range(1920, 3361, 240)]
