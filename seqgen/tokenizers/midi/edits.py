"""Bars of a file written anew, in some of its parts; all else stays. Times are in ticks."""

from collections.abc import Sequence
from copy import deepcopy

from seqgen.midi import Instrument, MidiFile, Note, PitchBend


def replace_bars(
    first: MidiFile,
    first_parts: Sequence[int],
    second: MidiFile,
    second_parts: Sequence[int],
    *,
    parts: Sequence[int],
    begin: float,
    end: float,
) -> MidiFile:
    """Put what a second file holds of some parts between two times into a first file.

    Notes of the first file that begin before or after are kept to the tick. A new note neither
    meets a kept one on the same key of its track nor changes it: it ends before a later one, and is
    left out where an earlier one still sounds.

    Args:
        first: the file that is edited; it is not changed.
        first_parts: the part of each of its tracks; -1: one that is not told.
        second: where the new notes are.
        second_parts: the part of each of its tracks.
        parts: those that are written anew, or added.
        begin, end: of the bars, in quarter notes.
    """
    result = deepcopy(first)
    start, stop = (round(quarters * first.ticks_per_beat) for quarters in (begin, end))
    scale = first.ticks_per_beat / second.ticks_per_beat
    for part in parts:
        tracks = [t for t, k in zip(result.instruments, first_parts, strict=False) if k == part]
        for track in tracks:
            _clear(track, start, stop)
        for track, k in zip(second.instruments, second_parts, strict=True):
            if k != part:
                continue
            notes = [
                Note(n.velocity, n.pitch, round(n.start * scale), round(n.end * scale))
                for n in track.notes
            ]
            notes = [note for note in notes if start <= note.start < stop]
            if not notes:
                continue
            if not tracks:
                tracks = [Instrument(track.program, is_drum=track.is_drum, name=track.name)]
                result.instruments += tracks
            longest = max(tracks, key=lambda kept: len(kept.notes))  # of several told as one part
            longest.notes += _fitted(notes, longest.notes)
            longest.notes.sort(key=lambda note: (note.start, note.pitch))
    result.instruments = [track for track in result.instruments if track.notes]
    return result


def _clear(track: Instrument, start: int, stop: int) -> None:
    """Take out what begins between two times; pedal and bend are released there."""
    track.notes = [note for note in track.notes if not start <= note.start < stop]
    bends = [bend for bend in track.pitch_bends if bend.time < stop]
    if any(bend.time >= start or (bend is bends[-1] and bend.pitch) for bend in bends):
        track.pitch_bends = [b for b in track.pitch_bends if not start <= b.time < stop]
        if any(bend.time < start for bend in bends):
            track.pitch_bends.append(PitchBend(0, start))
        track.pitch_bends.append(PitchBend(bends[-1].pitch, stop))
        track.pitch_bends.sort(key=lambda bend: bend.time)


def _fitted(notes: Sequence[Note], kept: Sequence[Note]) -> list[Note]:
    """Return new notes that leave those that are kept on the same key as they are."""
    fitted = []
    for note in notes:
        same = [other for other in kept if other.pitch == note.pitch]
        if any(other.start <= note.start < other.end for other in same):
            continue
        later = [other.start for other in same if other.start > note.start]
        fitted.append(Note(note.velocity, note.pitch, note.start, min([note.end, *later])))
    return fitted
