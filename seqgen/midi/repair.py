"""Repairs what can be repaired in a MIDI file without guessing; valid notes are not changed."""

import math
from collections import Counter
from collections.abc import Callable, Iterable

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

from seqgen.midi.timing import DEFAULT_TEMPO, first_note_start, negligible_ticks

MAX_TICKS_PER_BEAT = 0x7FFF
# Written-out fermatas fall to about 10 beats per minute, and a presto counted in eighths or
# sixteenths reaches about 500. Beyond lies damage: the nearest bound keeps the direction meant.
MIN_TEMPO, MAX_TEMPO = 10.0, 500.0
MAX_NUMERATOR = 32
MAX_NAME = 255  # characters of a track's name, which each of its programs gets a copy of
DENOMINATORS = (1, 2, 4, 8, 16, 32)
SUSTAIN, PEDAL_DOWN = 64, 64  # a controller, and its first value with the pedal down
# What the file format can say: seven sharps to seven flats, major and minor.
MAJOR_KEYS = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
MINOR_KEYS = (
    *("Abm", "Ebm", "Bbm", "Fm", "Cm", "Gm", "Dm"),
    *("Am", "Em", "Bm", "F#m", "C#m", "G#m", "D#m", "A#m"),
)
KEY_NAMES = {*MAJOR_KEYS, *MINOR_KEYS}


def repair(midi: MidiFile, *, repairs: Counter[str] | None = None) -> MidiFile:
    """Return a copy that can be written, in which every event is possible and sorted by time.

    - Notes that end before they sound or lie outside MIDI's ranges are dropped, and with them
      tracks that have no note left. Drums that end as they begin are kept: nothing cuts them short.
    - Impossible tempi, time signatures, keys and controls are dropped; tempi beyond `MIN_TEMPO` and
      `MAX_TEMPO` are set to these; text that Latin-1 lacks becomes "?", and names are cut at
      `MAX_NAME`.
    - A piece begins as its first note does: of the tempi up to that note, or so little after it
      that nobody hears it (`negligible_ticks`), the last holds from tick 0; so does the time
      signature if its bars, counted from tick 0, have a bar line where it stands. Where the file
      says nothing, 120 beats per minute and 4/4 are written out, which MIDI takes for granted.
    - A piece in 1/4 from beginning to end is in 4/4 (see `metre_at`).
    - Pedals are what controller 64 says; without that controller, it is written from the pedals.

    What is not valid is counted in `repairs`, by what was done. `max_tick` is one tick after the
    last event, as miditoolkit has it. Repairing twice changes nothing more.

    Raises:
        ValueError: the file has no possible number of ticks per beat.
    """
    if not 1 <= midi.ticks_per_beat <= MAX_TICKS_PER_BEAT:
        accepted = f"accepted are 1 to {MAX_TICKS_PER_BEAT}"
        raise ValueError(f"ticks per beat is {midi.ticks_per_beat}, {accepted}")
    repairs = Counter() if repairs is None else repairs
    repaired = MidiFile(ticks_per_beat=midi.ticks_per_beat)
    tracks = [_instrument(track, repairs) for track in midi.instruments]
    repaired.instruments = [track for track in tracks if track.notes]
    opening = first_note_start(repaired)
    repaired.tempo_changes = _tempo_changes(midi, opening, repairs)
    repaired.time_signature_changes = _time_signatures(midi, opening, repairs)
    repaired.key_signature_changes = [
        KeySignature(key.key_name, int(key.time))
        for key in _possible(
            midi.key_signature_changes, lambda key: key.key_name in KEY_NAMES, repairs, "keys"
        )
    ]
    repaired.lyrics = [
        Lyric(_latin_1(lyric.text), int(lyric.time))
        for lyric in _possible(midi.lyrics, _any, repairs, "lyrics")
    ]
    repaired.markers = [
        Marker(_latin_1(mark.text), int(mark.time))
        for mark in _possible(midi.markers, _any, repairs, "markers")
    ]
    repaired.max_tick = _last_tick(repaired) + 1
    return repaired


def _possible(events: Iterable, is_possible: Callable, repairs: Counter[str], what: str) -> list:
    """Return the possible events in order of time, and count the others."""
    events = list(events)
    kept = [event for event in events if event.time >= 0 and is_possible(event)]
    if len(kept) < len(events):
        repairs[f"impossible {what} dropped"] += len(events) - len(kept)
    return sorted(kept, key=lambda event: event.time)


def _any(event: object) -> bool:
    return True


def _tempo_changes(midi: MidiFile, opening: int, repairs: Counter[str]) -> list[TempoChange]:
    possible = _possible(
        midi.tempo_changes,
        lambda change: math.isfinite(change.tempo) and change.tempo > 0,
        repairs,
        "tempi",
    )
    beyond = sum(not MIN_TEMPO <= change.tempo <= MAX_TEMPO for change in possible)
    if beyond:
        repairs[f"tempi outside {MIN_TEMPO:.0f} to {MAX_TEMPO:.0f} bpm set to these"] += beyond
    changes = {0: DEFAULT_TEMPO}  # by tick; of several at one tick the last holds
    for change in possible:
        time = int(change.time)
        if time <= opening + negligible_ticks(midi.ticks_per_beat):
            time = 0
        changes[time] = min(max(change.tempo, MIN_TEMPO), MAX_TEMPO)
    kept = [TempoChange(DEFAULT_TEMPO, -1)]
    for time, tempo in changes.items():
        if time == 0 or tempo != kept[-1].tempo:
            kept.append(TempoChange(tempo, time))
    return kept[1:]


def _time_signatures(midi: MidiFile, opening: int, repairs: Counter[str]) -> list[TimeSignature]:
    possible = _possible(
        midi.time_signature_changes,
        lambda change: (
            1 <= change.numerator <= MAX_NUMERATOR and change.denominator in DENOMINATORS
        ),
        repairs,
        "time signatures",
    )
    changes = {  # by tick; of several at one tick the last holds
        int(change.time): (int(change.numerator), int(change.denominator)) for change in possible
    }
    tolerance = negligible_ticks(midi.ticks_per_beat)
    early = [time for time in changes if time <= opening + tolerance]
    if early:
        numerator, denominator = changes[early[-1]]
        bar = 4 * midi.ticks_per_beat * numerator / denominator
        over = early[-1] % bar
        if min(over, bar - over) <= tolerance:
            later = {time: changes[time] for time in changes if time > early[-1]}
            changes = {0: (numerator, denominator), **later}
    if set(changes.values()) == {(1, 4)}:
        repairs["pieces in 1/4 taken as 4/4"] += 1
        changes = {}
    if 0 not in changes:
        changes = {0: (4, 4), **changes}
    return [TimeSignature(*metre, time) for time, metre in changes.items()]


def _instrument(track: Instrument, repairs: Counter[str]) -> Instrument:
    notes = []
    for note in track.notes:
        if not (note.start >= 0 and 0 <= note.pitch <= 127 and 1 <= note.velocity <= 127):
            repairs["impossible notes dropped"] += 1
            continue
        start, end = int(note.start), int(note.end)
        if start == end and track.is_drum:
            repairs["drum notes of no length given one tick"] += 1
            end += 1
        if end <= start:
            repairs["notes of no length dropped"] += 1
            continue
        notes.append(Note(int(note.velocity), int(note.pitch), start, end))
    notes.sort(key=lambda note: (note.start, note.pitch, note.end, note.velocity))
    controls = [
        ControlChange(int(change.number), int(change.value), int(change.time))
        for change in _possible(
            track.control_changes,
            lambda change: 0 <= change.number <= 127 and 0 <= change.value <= 127,
            repairs,
            "controllers",
        )
    ]
    end = max((note.end for note in notes), default=0)
    if not any(change.number == SUSTAIN for change in controls):
        controls += _pedal_controls(track.pedals)
        controls.sort(key=lambda change: change.time)
    return Instrument(
        program=int(track.program) if 0 <= track.program <= 127 else 0,
        is_drum=bool(track.is_drum),
        name=_latin_1(track.name[:MAX_NAME]),
        notes=notes,
        pitch_bends=[
            PitchBend(int(bend.pitch), int(bend.time))
            for bend in _possible(
                track.pitch_bends, lambda bend: -8192 <= bend.pitch <= 8191, repairs, "bends"
            )
        ],
        control_changes=controls,
        pedals=_pedals(controls, end),
    )


def _pedals(controls: Iterable[ControlChange], end: int) -> list[Pedal]:
    """Return when the sustain pedal is down: from a value of 64 on to one below, at most to `end`.

    `controls` are in order of time, and `end` is where the last note ends.
    """
    pedals, start = [], None
    for change in controls:
        if change.number != SUSTAIN:
            continue
        if change.value >= PEDAL_DOWN and start is None:
            start = change.time
        elif change.value < PEDAL_DOWN and start is not None:
            if start < change.time:
                pedals.append(Pedal(start, change.time))
            start = None
    if start is not None and start < end:
        pedals.append(Pedal(start, end))
    return pedals


def _pedal_controls(pedals: Iterable[Pedal]) -> list[ControlChange]:
    """Write pedals as controllers; one that is pressed again before its release stays down."""
    controls: list[ControlChange] = []
    release = -1
    for pedal in sorted(pedals, key=lambda pedal: (pedal.start, pedal.end)):
        if not 0 <= pedal.start < pedal.end:
            continue
        if controls and pedal.start <= release:
            release = max(release, int(pedal.end))
            controls[-1] = ControlChange(SUSTAIN, 0, release)
            continue
        release = int(pedal.end)
        controls.append(ControlChange(SUSTAIN, 127, int(pedal.start)))
        controls.append(ControlChange(SUSTAIN, 0, release))
    return controls


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
