"""From files to MidiTok's scores and back.

Here the two MIDI libraries meet: miditoolkit's files, which the gate has checked, and symusic's
scores, which MidiTok works on. Times are in ticks; a quarter is a quarter note.
"""

import heapq
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import symusic

from seqgen.config import TokenizerConfig
from seqgen.midi import (
    DEFAULT_LIMITS,
    ControlChange,
    Instrument,
    MidiFile,
    Note,
    Pedal,
    PitchBend,
    TempoChange,
    TimeSignature,
    program_name,
)
from seqgen.midi.bends import bend, semitones_of
from seqgen.tokenizers.midi.continuation import SUSTAIN
from seqgen.tokenizers.midi.metres import metres_of
from seqgen.tokenizers.midi.parts import Part
from seqgen.tokenizers.midi.settings import accepted_metres, told_by_bars

TICKS_PER_QUARTER = 480  # of written files; MidiTok itself decodes to its own coarse grid
SHORT_FORMS = frozenset({"i", "ii", "iii", "iv", "v", "vi", "lh", "rh"})  # in names of tracks


def to_score(
    midi: MidiFile,
    assigned: Sequence[int],
    parts: Sequence[Part],
    config: TokenizerConfig,
    *,
    velocity: int = 0,
) -> tuple[symusic.Score, list[int]]:
    """Return a score with one track for each part that plays, and the indexes of these parts.

    Its times are on the grid that MidiTok would choose, and rounded to the nearest.

    Args:
        midi: a file that was read through the gate.
        assigned: the part of each of its tracks, -1 for those left out.
        parts: all parts.
        config: what the tokens can hold.
        velocity: added to that of each note.
    """
    metres = [(0, 4, 4)]
    if config.use_time_signatures:
        metres, _ = metres_of(midi, accepted_metres(config))
    finest = max(denominator for _, _, denominator in metres)
    grid = (config.positions_per_beat or 4) * finest // 4
    scale = grid / midi.ticks_per_beat
    places = _Places(metres, scale, finest)
    score = symusic.Score(grid)
    playing = sorted(set(assigned) - {-1})
    for k in playing:
        tracks = [t for t, part in zip(midi.instruments, assigned, strict=True) if part == k]
        score.tracks.append(_track(parts[k], tracks, config, scale, places, velocity))
    for change in midi.tempo_changes:
        score.tempos.append(symusic.Tempo(round(change.time * scale), change.tempo))
    for tick, numerator, denominator in metres:
        score.time_signatures.append(
            symusic.TimeSignature(round(tick * scale), numerator, denominator)
        )
    return score, playing


class _Places:
    """The positions of tokens in a score: further apart under metres that have longer beats."""

    def __init__(self, metres: Sequence[tuple[int, int, int]], scale: float, finest: int):
        self._scale = scale
        self._starts = [round(tick * scale) for tick, _, _ in metres]
        self._steps = [finest // denominator for _, _, denominator in metres]

    def nearest(self, tick: int) -> tuple[int, int]:
        """Return the place in the score for a tick of the file, and how far the next one is."""
        time = tick * self._scale
        i = max(bisect(self._starts, time) - 1, 0)
        start, step = self._starts[i], self._steps[i]
        return start + round((time - start) / step) * step, step


def _track(
    part: Part,
    tracks: Sequence[Instrument],
    config: TokenizerConfig,
    scale: float,
    places: _Places,
    velocity: int,
) -> symusic.Track:
    # Where each track is told by itself, MidiTok has tokens for the pedal of program 0 alone.
    program = part.program if config.parts == "tracks" and not told_by_bars(config) else 0
    track = symusic.Track(name=part.name, program=program, is_drum=part.is_drum)
    start, end, pitch, loudness = np.array(
        [(n.start, n.end, n.pitch, n.velocity) for one in tracks for n in one.notes]
    ).T
    time = np.rint(start * scale).astype(np.int32)
    duration = np.maximum(np.rint((end - start) * scale), 1).astype(np.int32)
    # A note that ends before its key is struck again does so when rounded, too: its release would
    # end the next one.
    of_key = np.lexsort([start, pitch])
    now, later = of_key[:-1], of_key[1:]
    apart = (pitch[now] == pitch[later]) & (end[now] <= start[later])
    room = np.where(apart, np.maximum(time[later] - time[now], 1), duration[now])
    duration[now] = np.minimum(duration[now], room)
    loudness = np.clip(loudness + velocity, 1, 127)
    order = np.lexsort([loudness, duration, pitch, time])
    track.notes = symusic.Note.from_numpy(
        time=time[order],
        duration=duration[order],
        pitch=pitch[order].astype(np.int8),
        velocity=loudness[order].astype(np.int8),
    )
    if config.use_sustain_pedals and not part.is_drum:
        for start, end in _pedals(tracks, places):
            track.pedals.append(symusic.Pedal(start, end - start))
    # Compound words of one stream have no program for drums, and so no bends of drums.
    if config.use_pitch_bends and (told_by_bars(config) or not part.is_drum):
        bends = [
            (change.time, bend(semitones))
            for one in tracks
            for change, semitones in zip(one.pitch_bends, semitones_of(one), strict=True)
        ]
        # Of several at one place the last holds; MidiTok would keep the furthest.
        kept = {places.nearest(tick)[0]: value for tick, value in sorted(bends, key=itemgetter(0))}
        for place, value in kept.items():
            track.pitch_bends.append(symusic.PitchBend(place, value))
    return track


def _pedals(tracks: Sequence[Instrument], places: _Places) -> list[tuple[int, int]]:
    """Return from which place to which the pedal is down in any of some tracks.

    MidiTok takes a pedal that is released and pressed at one place for one that stays down. So a
    press comes a place after the release; it is left out where the pedal is up again by then.
    """
    pressed: list[tuple[int, int]] = []
    for begin, stop in sorted((p.start, p.end) for one in tracks for p in one.pedals):
        if pressed and begin < pressed[-1][1]:
            pressed[-1] = pressed[-1][0], max(pressed[-1][1], stop)
        else:
            pressed.append((begin, stop))
    placed: list[tuple[int, int]] = []
    for begin, stop in pressed:
        (start, step), (end, _) = places.nearest(begin), places.nearest(stop)
        end = max(end, start + step)
        if placed:
            start = max(start, placed[-1][1] + step)
        if start < end:
            placed.append((start, end))
    return placed


def to_midi(score: symusic.Score) -> MidiFile:
    """Return a decoded score as a file of miditoolkit's, in time order."""
    score = score.resample(TICKS_PER_QUARTER)
    midi = MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    midi.tempo_changes = [TempoChange(t.tempo, t.time) for t in _sorted(score.tempos)]
    midi.time_signature_changes = [
        TimeSignature(t.numerator, t.denominator, t.time) for t in _sorted(score.time_signatures)
    ]
    for track in score.tracks:
        instrument = Instrument(track.program, is_drum=track.is_drum, name=track.name)
        instrument.notes = [Note(n.velocity, n.pitch, n.start, n.end) for n in track.notes]
        instrument.pitch_bends = [PitchBend(b.value, b.time) for b in _sorted(track.pitch_bends)]
        instrument.pedals = [Pedal(p.time, p.end) for p in _sorted(track.pedals)]
        instrument.control_changes = _pedal_controls(instrument.pedals)
        midi.instruments.append(instrument)
    return midi


def title(part: Part) -> str:
    """Name a part for people: "Violin", "Violin 2", "Melody"."""
    if part.label and not part.label.isdecimal():
        return " ".join(
            word.upper() if word in SHORT_FORMS else word.capitalize()
            for word in part.label.split()
        )
    name = program_name(part.program, is_drum=part.is_drum)
    return f"{name} {part.label}".strip()


def thin(midi: MidiFile) -> None:
    """Leave out notes on a key that already sounds as often as the gate accepts."""
    sounding: dict[int, list[int]] = defaultdict(list)  # by pitch: a heap of the notes' ends
    kept: list[list[Note]] = [[] for _ in midi.instruments]
    notes = [(n.start, i, n) for i, track in enumerate(midi.instruments) for n in track.notes]
    for start, i, note in sorted(notes, key=lambda entry: entry[:2]):
        ends = sounding[note.pitch]
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        if len(ends) < DEFAULT_LIMITS.max_notes_on_one_key:
            heapq.heappush(ends, note.end)
            kept[i].append(note)
    for track, of_track in zip(midi.instruments, kept, strict=True):
        track.notes = of_track


def _pedal_controls(pedals: Sequence[Pedal]) -> list[ControlChange]:
    return [
        ControlChange(SUSTAIN, value, tick)
        for pedal in pedals
        for tick, value in ((pedal.start, 127), (pedal.end, 0))
    ]


def _sorted(events: Any) -> list:
    return sorted(events, key=lambda event: event.time)
