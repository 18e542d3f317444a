"""What a model writes, put behind the file that it continues. Times are in ticks."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from seqgen.midi import ControlChange, Instrument, MidiFile, Note, PitchBend, TimeSignature
from seqgen.midi.bends import bend, bend_ranges, semitones_of
from seqgen.midi.timing import metre_at

SUSTAIN = 64  # the controller of the sustain pedal
DOWN = 64  # from this value on it is pressed


def join(
    first: MidiFile,
    first_parts: Sequence[int],
    second: MidiFile,
    second_parts: Sequence[int],
    *,
    cut: float,
    keep_all: bool = False,
    keep_tempo: bool = False,
    keep_metre: bool = False,
) -> MidiFile:
    """Put what a file holds from `cut` on behind what another holds before it.

    Args:
        first: the file whose beginning is kept as it is: names, velocities, timing, controls.
        first_parts: the part of each of its tracks; -1: a track that nothing continues.
        second: the file whose tracks go on with that of the same part, if it is the only one.
        second_parts: the part of each of its tracks.
        cut: in quarters.
        keep_all: whether the first file is kept to its end, also beyond the cut.
        keep_tempo: whether the tempo at the cut goes on; else the second file changes it.
        keep_metre: the same of the time signature.
    """
    result = MidiFile(ticks_per_beat=first.ticks_per_beat)
    tick = round(cut * first.ticks_per_beat)
    end = max(first.max_tick, tick) if keep_all else tick

    def later(events: Sequence) -> list:
        return _moved(events, first.ticks_per_beat / second.ticks_per_beat, tick)

    result.tempo_changes = _before(first.tempo_changes, end + 1)
    if not keep_tempo:
        result.tempo_changes += later(second.tempo_changes)
    result.time_signature_changes = _before(first.time_signature_changes, end)
    if not keep_metre:
        told = metre_at(second, round(cut * second.ticks_per_beat))
        held = metre_at(first, tick)
        if (told.numerator, told.denominator) != (held.numerator, held.denominator):
            told = TimeSignature(told.numerator, told.denominator, tick)
            result.time_signature_changes.append(told)
        result.time_signature_changes += later(second.time_signature_changes)
    result.key_signature_changes = _before(first.key_signature_changes, end)
    result.lyrics, result.markers = _before(first.lyrics, end), _before(first.markers, end)
    by_part: dict[int, Instrument] = {}
    for track, part in zip(first.instruments, first_parts, strict=True):
        kept = _beginning(track, end)
        result.instruments.append(kept)
        if list(first_parts).count(part) == 1:  # where tracks were told as one, none goes on
            by_part[part] = kept
    for track, part in zip(second.instruments, second_parts, strict=True):
        scale = first.ticks_per_beat / second.ticks_per_beat
        notes = [
            Note(n.velocity, n.pitch, round(n.start * scale), round(n.end * scale))
            for n in track.notes
            if round(n.start * scale) >= tick
        ]
        if not notes:
            continue
        if part not in by_part:
            by_part[part] = Instrument(track.program, is_drum=track.is_drum, name=track.name)
            result.instruments.append(by_part[part])
        *_, (_, bend_range) = bend_ranges(by_part[part].control_changes)
        by_part[part].notes += notes
        by_part[part].control_changes += later(track.control_changes)
        semitones = semitones_of(track)
        for change, far in zip(track.pitch_bends, semitones, strict=True):
            change.pitch = bend(far, full=bend_range)
        by_part[part].pitch_bends += later(track.pitch_bends)
    result.instruments = [track for track in result.instruments if track.notes]
    _release_held(result, tick)
    return result


def remove_notes(
    midi: MidiFile, parts: Sequence[int], told: MidiFile, told_parts: Sequence[int]
) -> None:
    """Take the notes of one file of tokens out of another one, which begins with them."""
    known = Counter(
        (part, note.start, note.pitch)
        for track, part in zip(told.instruments, told_parts, strict=True)
        for note in track.notes
    )
    for track, part in zip(midi.instruments, parts, strict=True):
        kept = []
        for note in track.notes:
            key = (part, note.start, note.pitch)
            if known[key]:
                known[key] -= 1
            else:
                kept.append(note)
        track.notes = kept


def drop_late_changes(midi: MidiFile) -> None:
    """Leave out changes of tempo or metre after the last note, which would lengthen the file."""
    end = max((note.end for track in midi.instruments for note in track.notes), default=0)
    midi.tempo_changes = _before(midi.tempo_changes, end)
    midi.time_signature_changes = _before(midi.time_signature_changes, end)


def _release_held(midi: MidiFile, tick: int) -> None:
    """End notes from before a tick with the last note that begins there or later."""
    notes = [note for track in midi.instruments for note in track.notes]
    end = max((note.end for note in notes if note.start >= tick), default=None)
    for note in notes if end is not None else ():
        if note.start < tick < note.end:
            note.end = min(note.end, end)


def _before(events: Sequence[Any], tick: int) -> list:
    return [event for event in events if event.time < tick or event.time == 0]


def _moved(events: Sequence[Any], scale: float, tick: int) -> list:
    moved = []
    for event in events:
        event.time = round(event.time * scale)
        if event.time >= tick and event.time > 0:
            moved.append(event)
    return moved


def _beginning(track: Instrument, tick: int) -> Instrument:
    """Return what a track holds before a tick; a pedal and a bend that hold there are released."""
    kept = Instrument(track.program, is_drum=track.is_drum, name=track.name)
    kept.notes = [note for note in track.notes if note.start < tick]
    kept.control_changes = _before(track.control_changes, tick)
    kept.pitch_bends = _before(track.pitch_bends, tick)
    pedals = [change for change in kept.control_changes if change.number == SUSTAIN]
    if pedals and pedals[-1].value >= DOWN:
        kept.control_changes.append(ControlChange(SUSTAIN, 0, tick))
    if kept.pitch_bends and kept.pitch_bends[-1].pitch:
        kept.pitch_bends.append(PitchBend(0, tick))
    return kept
