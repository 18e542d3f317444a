"""Music of four voices as a grid: one token for what a voice sounds in a step of time.

Tokens go through the voices of the first step, then through those of the second, and so on. Whether
a note is struck or held is not told.

Legend: T positions, S steps of time, V voices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path

import numpy as np

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected
from seqgen.midi import Instrument, MidiFile, Note, TempoChange, open_midi, summarize
from seqgen.midi.repair import repair
from seqgen.tokenizers.base import (
    Edit,
    Encoded,
    MusicTokenizer,
    Original,
    Shift,
    ToldNote,
    digest,
)
from seqgen.tokenizers.midi.sketch import sketch_of
from seqgen.vocabulary import Field, Grammar, Vocabulary

VOICES = 4
BEATS = 4  # that places count before they begin again: a bar of most pieces
PITCHES, SILENT = 128, -1
PAD, BOS, EOS, FIRST = 0, 1, 2, 3  # the same in both fields; FIRST is that of place 0 and pitch 0
SILENCE = FIRST + PITCHES
TICKS_PER_QUARTER = 480
TEMPO, VELOCITY = 90.0, 80  # of what is written, where nothing else is said


class GridTokenizer(MusicTokenizer):
    """One token per cell, F = 2: its place (voice, and step in a bar), and its pitch or silence.

    Places follow each other; a model learns in a few steps that they cost nothing.
    """

    types = ("grid",)
    unit = "cell"

    def __init__(self, config: TokenizerConfig, limits: LimitsConfig):
        per_beat = config.positions_per_beat or 4
        super().__init__(config.model_copy(update={"positions_per_beat": per_beat}), limits)
        self.per_beat = per_beat
        self._n_places = VOICES * BEATS * per_beat
        self.vocabulary = Vocabulary(
            (Field("place", FIRST + self._n_places), Field("pitch", SILENCE + 1)),
            bos_id=BOS,
            eos_id=EOS,
            pad_id=PAD,
            grammar=self._grammar(),
        )

    def encode(self, path: Path) -> np.ndarray:
        """Read a MIDI file into ids [T, 2]."""
        return self._ids(self._grid(open_midi(path, self._limits), path))

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a MIDI file once: ids per transposition that keeps pitches in MIDI's range."""
        midi = open_midi(path, self._limits)
        grid = self._grid(midi, path)
        sounding = grid[grid != SILENT]
        variants = [
            self._ids(np.where(grid == SILENT, SILENT, grid + shift.transpose))
            for shift in shifts
            if not shift.velocity
            and sounding.min() + shift.transpose >= 0
            and sounding.max() + shift.transpose < PITCHES
        ]
        return Encoded(variants, grid.size, {}, sketch_of(midi))

    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Return a track for each voice; steps of one pitch are one note.

        A file that the first tokens were read from is written as these tell it.
        """
        pitches = ids[ids[:, 0] >= FIRST, 1] - FIRST
        n_steps = len(pitches) // VOICES
        grid = pitches[: n_steps * VOICES].reshape(n_steps, VOICES)
        grid = np.where(grid == PITCHES, SILENT, grid)
        midi = voices_to_midi(grid, per_beat=self.per_beat, tempo=tempo or self._tempo)
        return repair(midi)

    def describe(self, path: Path, *, until: float = inf) -> tuple[str, list[str]]:
        """Say what a file holds in a few words, and what a grid does not hold."""
        about = str(summarize(open_midi(path, self._limits)))
        return about, ["which steps strike a note again, velocities, tempos and metres"]

    def units(self, ids: np.ndarray) -> int:
        """Count cells."""
        return int((ids[:, 0] >= FIRST).sum())

    def clock(self, *, tempo: float | None = None) -> GridClock:
        """Return a new clock before the first step."""
        return GridClock(self.per_beat, tempo or self._tempo)

    def told_notes(self, ids: np.ndarray) -> list[ToldNote]:
        """Tell which cells [T, 2] are of which note: all in which it sounds."""
        told = np.flatnonzero(ids[:, 0] >= FIRST)
        cells = told[: len(told) // VOICES * VOICES].reshape(-1, VOICES)
        grid = np.where(ids[cells, 1] == SILENCE, SILENT, ids[cells, 1] - FIRST)
        return [
            ToldNote(
                a / self.per_beat, pitch, tuple(cells[a:b, v].tolist()), int(cells[a, v]), field=1
            )
            for v, pitch, a, b in _notes(grid)
        ]

    def names(self, field: int = 0) -> list[str]:
        """Name places by beat, step in it, and voice; and pitches."""
        if field == 1:
            pitches = [f"Pitch_{pitch}" for pitch in range(PITCHES)]
            return ["PAD", "BOS", "EOS", *pitches, "Silence"]
        steps = [divmod(place // VOICES, self.per_beat) for place in range(self._n_places)]
        places = [
            f"beat{beat}.{step}-voice{place % VOICES}" for place, (beat, step) in enumerate(steps)
        ]
        return ["PAD", "BOS", "EOS", *places]

    def fingerprint(self) -> str:
        """Hash the kind and all that ids depend on."""
        meaning = ["grid", self.per_beat, VOICES, BEATS, SILENCE]
        return digest(meaning)

    @property
    def _tempo(self) -> float:
        return self.config.tempo or TEMPO

    def _grammar(self) -> Grammar:
        """Each place follows the one before it; a piece begins with the first, and ends a step."""
        n = self._n_places
        groups = range(FIRST + n)  # each id of the field "place" is one of its own
        follows = np.zeros((len(groups), len(groups)), dtype=bool)
        places = np.arange(n)
        ends_step = places % VOICES == VOICES - 1
        follows[FIRST + places, FIRST + (places + 1) % n] = True
        follows[BOS, FIRST] = True
        follows[FIRST + places[ends_step], EOS] = True
        return Grammar(
            first=tuple(groups),
            last=tuple(groups),
            follows=tuple(tuple(bool(x) for x in row) for row in follows),
            units=(False,) * FIRST + tuple(bool(x) for x in ends_step),
        )

    def _ids(self, grid: np.ndarray) -> np.ndarray:
        """Turn a grid [S, V] into ids [S V, 2]."""
        cells = grid.reshape(-1)
        places = np.arange(len(cells)) % self._n_places
        pitches = np.where(cells == SILENT, PITCHES, cells)
        return FIRST + np.stack([places, pitches], axis=1).astype(np.int64)

    def _grid(self, midi: MidiFile, path: Path) -> np.ndarray:
        """Return what each track sounds in each step from the first note on [S, V]."""
        tracks = midi.instruments
        if len(tracks) > VOICES or any(track.is_drum for track in tracks):
            has = "drums" if len(tracks) <= VOICES else f"{len(tracks)} tracks"
            raise FileRejected(
                "unsupported",
                str(path),
                f"it has {has}, and a grid has {VOICES} melodic voices: choose another "
                f"tokenizer.type, such as remi",
            )
        step = midi.ticks_per_beat / self.per_beat
        notes = [note for track in tracks for note in track.notes]
        first = round(min(note.start for note in notes) / step)
        end = max(round(note.end / step) for note in notes)
        grid = np.full((max(end - first, 1), VOICES), SILENT)
        for v, track in enumerate(tracks):
            for note in sorted(track.notes, key=lambda note: note.start):
                cells = grid[round(note.start / step) - first : round(note.end / step) - first, v]
                if (cells != SILENT).any():
                    raise FileRejected(
                        "unsupported",
                        str(path),
                        f"track {v + 1} sounds several notes at once, and a voice of a grid one: "
                        f"choose another tokenizer.type, such as remi",
                    )
                cells[:] = note.pitch
        if (grid == SILENT).all():
            raise FileRejected("empty", str(path), "all notes are shorter than a step of the grid")
        return grid


class GridClock:
    """Counts steps; bars are counted in four quarter notes from the beginning."""

    def __init__(self, per_beat: int, tempo: float):
        self._per_step, self._tempo = 1 / per_beat, tempo
        self._cells = 0

    def feed(self, token: np.ndarray) -> None:
        """Take the next token [2]."""
        self._cells += bool(token[0] >= FIRST)

    @property
    def quarters(self) -> float:
        """Quarter notes from the beginning to the latest step."""
        return max(self._cells - 1, 0) // VOICES * self._per_step

    @property
    def bars(self) -> int:
        """Bars begun so far."""
        return int(self.quarters // BEATS) + 1 if self._cells else 0

    @property
    def bar_start(self) -> float:
        """Quarter notes from the beginning to the latest bar."""
        return self.quarters // BEATS * BEATS

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the latest step."""
        return self.quarters * 60 / self._tempo


def voices_to_midi(grid: np.ndarray, *, per_beat: int, tempo: float = TEMPO) -> MidiFile:
    """Turn a grid of pitches [S, V], -1 for silence, into music: steps of one pitch are one note.

    Args:
        grid: what each voice sounds in each step.
        per_beat: steps in a quarter note.
        tempo: quarter notes per minute.
    """
    midi = MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    midi.tempo_changes = [TempoChange(tempo, 0)]
    step = TICKS_PER_QUARTER / per_beat
    midi.instruments = [Instrument(0, name=f"Voice {v + 1}") for v in range(grid.shape[1])]
    for v, pitch, a, b in _notes(grid):
        note = Note(VELOCITY, pitch, round(a * step), round(b * step))
        midi.instruments[v].notes.append(note)
    return midi


def _notes(grid: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Yield the notes of a grid [S, V]: voice, pitch, first step, and the one after the last."""
    for v, voice in enumerate(grid.T):
        begins = np.flatnonzero(np.diff(voice, prepend=SILENT - 1)).tolist()
        for a, b in zip(begins, [*begins[1:], len(voice)], strict=True):
            if voice[a] != SILENT:
                yield v, int(voice[a]), a, b
