"""What the notes of a file are recognised by: in any key, instruments, tracks and resolution.

Legend: n notes, m runs.
"""

from collections.abc import Iterator

import numpy as np

from seqgen.midi import MidiFile
from seqgen.midi.grid import GRID, notes_on_grid, steps_between
from seqgen.tokenizers.base import Sketch

RUNS = (8, 32)  # notes: short runs survive edits, and long ones are in few other pieces
WIDTH = 256  # points between two places on the grid: more than pitches and their differences
LAST_PLACE = 2**22  # on the grid: a week at 100 beats per minute
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # an odd number without a pattern: 2**64 / golden ratio


def sketch_of(midi: MidiFile) -> Sketch:
    """Sketch all notes but the drums'."""
    hashes, starts = [], []
    for notes in _voices(midi):
        for length in RUNS:
            hashes.append(_runs(notes, length))
            starts.append(_points(notes[: len(hashes[-1])]))
    grams, points = np.concatenate(hashes), np.concatenate(starts)
    order = np.lexsort((points, grams))
    grams, points = grams[order], points[order]
    is_first = np.append(True, grams[1:] != grams[:-1])[: len(grams)]
    return Sketch(_points(_all_notes(midi)), grams[is_first], points[is_first])


def _all_notes(midi: MidiFile) -> np.ndarray:
    tracks = [track for track in midi.instruments if not track.is_drum]
    notes = notes_on_grid(tracks, midi.ticks_per_beat)
    return notes[notes[:, 0] < LAST_PLACE]


def _voices(midi: MidiFile) -> Iterator[np.ndarray]:
    """Yield notes [n, 2] that another file may hold without the others.

    These are all of them, those of each track, and the highest or lowest ones and the others, since
    a file may have its tracks merged.
    """
    notes = _all_notes(midi)
    yield notes
    tracks = [track for track in midi.instruments if not track.is_drum and track.notes]
    if len(tracks) > 1:
        for track in tracks:
            yield notes_on_grid([track], midi.ticks_per_beat)
    for is_outer in _are_outer(notes, midi):
        yield notes[is_outer]
        yield notes[~is_outer]


def _are_outer(notes: np.ndarray, midi: MidiFile) -> Iterator[np.ndarray]:
    """Tell which notes [n, 2] have no higher one that begins with them or still sounds [n].

    And then which ones have no lower one.
    """
    ends: dict[tuple[int, int], float] = {}
    for track in midi.instruments:
        if not track.is_drum:
            for note in track.notes:
                place = (2 * note.start * GRID + midi.ticks_per_beat) // (2 * midi.ticks_per_beat)
                end = note.end * GRID / midi.ticks_per_beat
                ends[place, note.pitch] = max(ends.get((place, note.pitch), 0), end)
    is_other = notes[1:, 0] != notes[:-1, 0]  # in another place than the note before
    is_last = np.append(is_other, True)[: len(notes)]  # of its place: the highest there
    is_first = np.insert(is_other, 0, True)[: len(notes)]
    for is_extreme, sign in ((is_last, 1), (is_first, -1)):
        is_outer = np.zeros(len(notes), dtype=bool)
        outermost, until = 0, 0.0
        for i in np.flatnonzero(is_extreme):
            place, pitch = notes[i].tolist()
            if sign * (pitch - outermost) >= 0 or until < place + 0.5:
                is_outer[i] = True
                outermost, until = pitch, ends[place, pitch]
        yield is_outer


def _points(notes: np.ndarray) -> np.ndarray:
    return (notes @ [WIDTH, 1]).astype(np.int32)


def _runs(notes: np.ndarray, length: int) -> np.ndarray:
    """Hash each run of so many notes of [n, 2], in any key, as uint32 [n - length + 1]."""
    if len(notes) < length:
        return np.zeros(0, dtype=np.uint32)
    symbols = (steps_between(notes) @ [WIDTH, 1]).astype(np.uint64)
    n = len(notes) - length + 1
    hashes = np.full(n, length, dtype=np.uint64)
    for i in range(length - 1):
        hashes = (hashes ^ symbols[i : i + n]) * FACTOR
        hashes ^= hashes >> np.uint64(29)
    return (hashes >> np.uint64(32)).astype(np.uint32)
