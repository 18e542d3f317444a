"""What is compared: a piece's tokens as they are, or its notes as steps from one to the next.

Legend: n notes, T positions, F fields.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seqgen.midi import MidiFile
from seqgen.midi.grid import GRID, notes_on_grid, steps_between
from seqgen.midi.timing import bars_and_beats

GRAM = 4  # symbols; what is repeated is as many in a row


@dataclass(frozen=True, eq=False)
class Material:
    """One piece as symbols of F fields, integers >= 0 [m, F].

    `span` is how many units (tokens, notes) a symbol reaches over, so m symbols in a row are
    m + span - 1 units. Of notes, there are also their places on the grid and pitches [n, 2], in
    order, and their bars [n], counted from 1 on.
    """

    name: str
    symbols: np.ndarray
    span: int = 1
    notes: np.ndarray | None = None
    bars: np.ndarray | None = None

    @property
    def n_units(self) -> int:
        """How many tokens or notes the piece has."""
        return len(self.symbols) if self.notes is None else len(self.notes)

    @cached_property
    def grams(self) -> np.ndarray:
        """A number for each `GRAM` symbols in a row, the same for the same ones [·]."""
        if len(self.symbols) < GRAM:
            return np.zeros(0, dtype=np.int64)
        grams = np.lib.stride_tricks.sliding_window_view(self.symbols, GRAM, axis=0)
        flat = grams.reshape(len(grams), -1)
        return np.unique(flat, axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def is_new(self) -> np.ndarray:
        """Whether no n-gram that came before begins with each unit; the last ones as they end."""
        is_first = np.zeros(len(self.grams), dtype=bool)
        is_first[np.unique(self.grams, return_index=True)[1]] = True
        last = is_first[-1] if len(is_first) else True
        return np.append(is_first, np.full(self.n_units - len(is_first), last))


def token_material(name: str, tokens: np.ndarray) -> Material:
    """Take tokens [T] or [T, F] as they are: a compound token is one symbol."""
    return Material(name, tokens if tokens.ndim == 2 else tokens[:, None])


def note_material(name: str, midi: MidiFile) -> Material:
    """Take all notes but the drums' as steps (time, pitch) [n - 1, 2] from each to the next.

    Onsets are rounded to `GRID` places per quarter note, and notes are in order of onset, then of
    pitch; those of one onset and pitch are one. So a run of equal steps is a run of equal notes in
    whatever key, bar, tempo, resolution, tracks, instruments, durations and velocities. Notes that
    are added anywhere, another voice for one, break it, and so do other note values.
    """
    tracks = [track for track in midi.instruments if not track.is_drum]
    notes = notes_on_grid(tracks, midi.ticks_per_beat)
    ticks = notes[:, 0] * midi.ticks_per_beat / GRID
    end = ticks.max(initial=0) + 1
    bars = np.searchsorted(bars_and_beats(midi, int(end))[0], ticks, side="right")
    steps = steps_between(notes)
    return Material(name, steps, span=2, notes=notes, bars=np.maximum(bars, 1))
