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
    places: Sequence[tuple[int, float, float]],
) -> MidiFile:
    """Put what a second file holds at some places into a first file.

    Notes of the first file that begin elsewhere are kept to the tick. A new note ends before the
    next one on the same key of its track, and is left out where a kept one still sounds.

    Args:
        first: the file that is edited; it is not changed.
        first_parts: the part of each of its tracks; -1: one that is not told.
        second: where the new notes are.
        second_parts: the part of each of its tracks.
        places: parts that are written anew, or added, and where the bars begin and end, in quarter
            notes.
    """
    result = deepcopy(first)
    scale = first.ticks_per_beat / second.ticks_per_beat
    of_part = dict[int, list[Instrument]]()
    for track, part in zip(result.instruments, first_parts, strict=True):
        of_part.setdefault(part, []).append(track)
    for part, begin, end in places:
        start, stop = (round(quarters * first.ticks_per_beat) for quarters in (begin, end))
        tracks = of_part.setdefault(part, [])
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
                tracks.append(Instrument(track.program, is_drum=track.is_drum, name=track.name))
                result.instruments += tracks
            longest = max(tracks, key=lambda kept: len(kept.notes))  # of several told as one part
            longest.notes += _fitted(notes, longest.notes)
            longest.notes.sort(key=lambda note: (note.start, note.pitch))
    result.instruments = [track for track in result.instruments if track.notes]
    return result


def _clear(track: Instrument, start: int, stop: int) -> None:
    """Take out the notes that begin between two times, and pitch bends, which are 0 there.

    At `stop` the bend is what it was; pedals and other controllers stay.
    """
    track.notes = [note for note in track.notes if not start <= note.start < stop]
    before = [bend for bend in track.pitch_bends if bend.time < start]
    inside = [bend for bend in track.pitch_bends if start <= bend.time < stop]
    behind = [bend for bend in track.pitch_bends if bend.time >= stop]
    if inside or (before and before[-1].pitch):
        released = [PitchBend(0, start)] if before else []
        restored = PitchBend([*before, *inside][-1].pitch, stop)  # a bend at `stop` comes after it
        track.pitch_bends = [*before, *released, restored, *behind]


def _fitted(notes: Sequence[Note], kept: Sequence[Note]) -> list[Note]:
    """Return new notes of which none sounds together with another on its key."""
    fitted: dict[tuple[int, int], Note] = {}
    for note in notes:
        same = [other for other in kept if other.pitch == note.pitch]
        if any(other.start <= note.start < other.end for other in same):
            continue
        others = [other for other in notes if other.pitch == note.pitch]
        later = [other.start for other in (*same, *others) if other.start > note.start]
        end = min([note.end, *later])
        fitted[note.start, note.pitch] = Note(note.velocity, note.pitch, note.start, end)
    return list(fitted.values())
