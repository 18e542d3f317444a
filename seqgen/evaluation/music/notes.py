"""The notes of a piece as arrays, with the bars that they lie in.

Legend: n notes, b bars. Grids are cells of a quarter note; onsets go to the nearest one.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seqgen.midi import MidiFile, Note
from seqgen.midi.repair import repair
from seqgen.midi.timing import TempoMap, bars_and_beats, last_note_end, metre_at


@dataclass(frozen=True)
class Notes:
    """Notes [n] in ticks, sorted by onset, and where bars begin and the last one ends [b + 1].

    `beat_ticks` [·] are the same of beats. The bar and the beat in which the last note ends are
    the last, whole.
    """

    starts: np.ndarray
    ends: np.ndarray
    pitches: np.ndarray
    drums: np.ndarray
    tracks: np.ndarray  # the number of each one's track
    bar_ticks: np.ndarray
    beat_ticks: np.ndarray
    ticks_per_quarter: int
    seconds: float  # from the start of the file to the end of the last note

    @property
    def pitched(self) -> np.ndarray:
        """The pitches of notes that are not drums [·]."""
        return self.pitches[~self.drums]

    @property
    def n_bars(self) -> int:
        return max(0, len(self.bar_ticks) - 1)

    @cached_property
    def bar_quarters(self) -> np.ndarray:
        """How many quarter notes each bar lasts [b]."""
        return np.diff(self.bar_ticks) / self.ticks_per_quarter

    def on_grid(self, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """The bar [n] and the cell within it [n] of each onset, with `cells` to a quarter note.

        An onset that is nearest to the end of its bar belongs to the next; in the last bar it
        stays in the last cell.
        """
        bars = np.searchsorted(self.bar_ticks, self.starts, side="right") - 1
        quarters = (self.starts - self.bar_ticks[bars]) / self.ticks_per_quarter
        found = np.floor(quarters * cells + 0.5).astype(int)
        in_bar = np.maximum(1, np.ceil(self.bar_quarters * cells - 1e-6)).astype(int)
        late = found >= in_bar[bars]
        found[late] = 0
        bars = bars + late
        over = bars == self.n_bars
        found[over] = in_bar[-1] - 1 if self.n_bars else 0
        return bars - over, found


def read_notes(midi: MidiFile) -> Notes:
    """Take the notes of a file; what cannot sound is left out, as `repair` has it."""
    midi = repair(midi)
    end = last_note_end(midi)
    rows = [
        (note.start, note.pitch, note.end, track.is_drum, number)
        for number, track in enumerate(midi.instruments)
        for note in track.notes
    ]
    starts, pitches, ends, drums, tracks = np.array(sorted(rows), dtype=int).reshape(-1, 5).T
    bars, beats = bars_and_beats(midi, end)
    signature = metre_at(midi, max(end - 1, 0))
    beat = 4 * midi.ticks_per_beat / signature.denominator
    return Notes(
        starts=starts,
        ends=ends,
        pitches=pitches,
        drums=drums.astype(bool),
        tracks=tracks,
        bar_ticks=np.append(bars, bars[-1:] + beat * signature.numerator),
        beat_ticks=np.append(beats, beats[-1:] + beat),
        ticks_per_quarter=midi.ticks_per_beat,
        seconds=TempoMap(midi).to_seconds(end),
    )


def opening(midi: MidiFile, *, n_bars: int) -> MidiFile:
    """Return a copy of the first `n_bars` bars; notes that sound on are cut there.

    Range, entropies and repetition grow with the length of a piece, so samples that
    are shorter than real pieces are compared with real openings.
    """
    midi = repair(midi)
    bars, _ = bars_and_beats(midi, last_note_end(midi))
    if n_bars >= len(bars):
        return midi
    end = int(bars[n_bars])
    for track in midi.instruments:
        notes = [note for note in track.notes if note.start < end]
        track.notes = [Note(n.velocity, n.pitch, n.start, min(n.end, end)) for n in notes]
    return repair(midi)
