"""Repairs what can be repaired in a MIDI file without guessing; valid notes are not changed."""

import math
from collections.abc import Iterable

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

from seqgen.midi.timing import DEFAULT_TEMPO

MAX_TICKS_PER_BEAT = 0x7FFF
# Written-out fermatas fall to about 10 beats per minute, and a presto counted in eighths or
# sixteenths reaches about 500. Beyond lies damage: the nearest bound keeps the direction meant.
MIN_TEMPO, MAX_TEMPO = 10.0, 500.0
MAX_NUMERATOR = 255
MAX_NAME = 255  # characters of a track's name, which each of its programs gets a copy of
DENOMINATORS = (1, 2, 4, 8, 16, 32, 64)
# What the file format can say: seven sharps to seven flats, major and minor.
MAJOR_KEYS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
MINOR_KEYS = ("Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#")
KEY_NAMES = {*MAJOR_KEYS, *(f"{key}m" for key in MINOR_KEYS)}


def repair(midi: MidiFile) -> MidiFile:
    """Return a copy that can be written, in which every event is possible and sorted by time.

    Notes that end before they sound or lie outside MIDI's ranges are dropped, and with them tracks
    that have no note left. Impossible tempi, time signatures, keys and controls are dropped; tempi
    beyond `MIN_TEMPO` and `MAX_TEMPO` are set to these; text that Latin-1 lacks becomes "?", and
    names are cut at `MAX_NAME`. What MIDI takes for granted at the start, 120 beats per minute in
    4/4, is written out. `max_tick` is one tick after the last event, as miditoolkit has it.
    Repairing twice changes nothing more.
    """
    if not 1 <= midi.ticks_per_beat <= MAX_TICKS_PER_BEAT:
        accepted = f"accepted are 1 to {MAX_TICKS_PER_BEAT}"
        raise ValueError(f"ticks per beat is {midi.ticks_per_beat}, {accepted}")
    repaired = MidiFile(ticks_per_beat=midi.ticks_per_beat)
    repaired.tempo_changes = _tempo_changes(midi)
    repaired.time_signature_changes = _time_signatures(midi)
    repaired.key_signature_changes = _by_time(
        KeySignature(key.key_name, int(key.time))
        for key in midi.key_signature_changes
        if key.key_name in KEY_NAMES and key.time >= 0
    )
    repaired.lyrics = _by_time(
        Lyric(_latin_1(lyric.text), int(lyric.time)) for lyric in midi.lyrics if lyric.time >= 0
    )
    repaired.markers = _by_time(
        Marker(_latin_1(mark.text), int(mark.time)) for mark in midi.markers if mark.time >= 0
    )
    tracks = [_instrument(track) for track in midi.instruments]
    repaired.instruments = [track for track in tracks if track.notes]
    repaired.max_tick = _last_tick(repaired) + 1
    return repaired


def _tempo_changes(midi: MidiFile) -> list[TempoChange]:
    changes = _by_time(
        TempoChange(min(max(change.tempo, MIN_TEMPO), MAX_TEMPO), int(change.time))
        for change in midi.tempo_changes
        if change.time >= 0 and math.isfinite(change.tempo) and change.tempo > 0
    )
    if not changes or changes[0].time > 0:
        changes.insert(0, TempoChange(DEFAULT_TEMPO, 0))
    return changes


def _time_signatures(midi: MidiFile) -> list[TimeSignature]:
    changes = _by_time(
        TimeSignature(int(change.numerator), int(change.denominator), int(change.time))
        for change in midi.time_signature_changes
        if 1 <= change.numerator <= MAX_NUMERATOR
        and change.denominator in DENOMINATORS
        and change.time >= 0
    )
    if not changes or changes[0].time > 0:
        changes.insert(0, TimeSignature(4, 4, 0))
    return changes


def _instrument(track: Instrument) -> Instrument:
    notes = [
        Note(int(note.velocity), int(note.pitch), int(note.start), int(note.end))
        for note in track.notes
        if 0 <= note.start < note.end and 0 <= note.pitch <= 127 and 1 <= note.velocity <= 127
    ]
    notes.sort(key=lambda note: (note.start, note.pitch, note.end, note.velocity))
    pedals = [
        Pedal(int(pedal.start), int(pedal.end))
        for pedal in track.pedals
        if 0 <= pedal.start < pedal.end
    ]
    return Instrument(
        program=int(track.program) if 0 <= track.program <= 127 else 0,
        is_drum=bool(track.is_drum),
        name=_latin_1(track.name[:MAX_NAME]),
        notes=notes,
        pitch_bends=_by_time(
            PitchBend(int(bend.pitch), int(bend.time))
            for bend in track.pitch_bends
            if -8192 <= bend.pitch <= 8191 and bend.time >= 0
        ),
        control_changes=_by_time(
            ControlChange(int(change.number), int(change.value), int(change.time))
            for change in track.control_changes
            if 0 <= change.number <= 127 and 0 <= change.value <= 127 and change.time >= 0
        ),
        pedals=sorted(pedals, key=lambda pedal: (pedal.start, pedal.end)),
    )


def _by_time(events: Iterable) -> list:
    return sorted(events, key=lambda event: event.time)


def _latin_1(text: str) -> str:
    """Return `text` with what a MIDI file's usual encoding cannot write replaced by "?"."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _last_tick(midi: MidiFile) -> int:
    lists = [midi.tempo_changes, midi.time_signature_changes, midi.key_signature_changes]
    lists += [midi.lyrics, midi.markers]
    for track in midi.instruments:
        lists += [track.pitch_bends, track.control_changes]
    ends = [events[-1].time for events in lists if events]
    for track in midi.instruments:
        ends += [note.end for note in track.notes] + [pedal.end for pedal in track.pedals]
    return max(ends)
