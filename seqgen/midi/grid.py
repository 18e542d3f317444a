"""Notes on a coarse grid, where the same music is the same in whatever file it is written."""

from collections.abc import Sequence

import numpy as np
from miditoolkit import Instrument

GRID = 4  # places per quarter note to which onsets are rounded
LONGEST_STEP = 8  # quarter notes; longer silences are all the same
HIGHEST_PITCH = 127


def notes_on_grid(
    tracks: Sequence[Instrument], ticks_per_beat: int, *, grid: int = GRID
) -> np.ndarray:
    """Return the places and pitches of all notes [n, 2], in this order.

    Onsets are rounded to `grid` places per quarter note; those of one place and pitch are one.
    """
    pairs = [(note.start, note.pitch) for track in tracks for note in track.notes]
    starts, pitches = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    # Halves go up, wherever they are: numpy's rint would move a copy's notes now up, now down.
    places = (2 * starts * grid + ticks_per_beat) // (2 * ticks_per_beat)
    keys = np.unique(places * (HIGHEST_PITCH + 1) + pitches)
    return np.stack(np.divmod(keys, HIGHEST_PITCH + 1), axis=1)


def steps_between(notes: np.ndarray, *, grid: int = GRID) -> np.ndarray:
    """Turn notes [n, 2] into steps (time, pitch) >= 0 from each to the next [n - 1, 2].

    They are the same in any key, and wherever the music begins.
    """
    times, pitches = np.diff(notes, axis=0).T
    return np.stack([np.minimum(times, LONGEST_STEP * grid), pitches + HIGHEST_PITCH], axis=1)
