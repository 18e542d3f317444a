"""From ticks to seconds and back without a table of all ticks, and where bars and beats begin."""

from bisect import bisect_right

import numpy as np
from miditoolkit import MidiFile, TimeSignature

DEFAULT_TEMPO = 120.0
NEGLIGIBLE_BEATS = 1 / 32


class TempoMap:
    """The tempo changes of a repaired file as straight lines from ticks to seconds."""

    def __init__(self, midi: MidiFile) -> None:
        self._ticks: list[int] = [0]
        self._seconds: list[float] = [0.0]
        self._seconds_per_tick: list[float] = [60.0 / DEFAULT_TEMPO / midi.ticks_per_beat]
        for change in midi.tempo_changes:
            self._seconds.append(self.to_seconds(change.time))
            self._ticks.append(change.time)
            self._seconds_per_tick.append(60.0 / change.tempo / midi.ticks_per_beat)

    def to_seconds(self, tick: float) -> float:
        i = bisect_right(self._ticks, tick) - 1
        return self._seconds[i] + (tick - self._ticks[i]) * self._seconds_per_tick[i]

    def to_ticks(self, seconds: float) -> float:
        i = bisect_right(self._seconds, seconds) - 1
        return self._ticks[i] + (seconds - self._seconds[i]) / self._seconds_per_tick[i]


def negligible_ticks(ticks_per_beat: int) -> float:
    """Return how many ticks nobody hears as a time of their own: a 32nd of a quarter note.

    That is 16 ms at 120 beats per minute. What comes so little after a note is meant for it.
    """
    return ticks_per_beat * NEGLIGIBLE_BEATS


def first_note_start(midi: MidiFile) -> int:
    """Return the tick at which the first note begins, 0 without notes."""
    return min((note.start for track in midi.instruments for note in track.notes), default=0)


def last_note_end(midi: MidiFile) -> int:
    """Return the tick at which the last note ends, 0 without notes."""
    return max((note.end for track in midi.instruments for note in track.notes), default=0)


def metre_at(midi: MidiFile, tick: int) -> TimeSignature:
    """Return the time signature that holds at a tick: the last one up to it, else 4/4 from tick 0.

    That is what MIDI says where a file declares nothing. In a repaired file, 4/4 also stands for a
    1/4 that was declared from beginning to end: programs that know beats and no bars write that.
    """
    times = [change.time for change in midi.time_signature_changes]
    i = bisect_right(times, tick)
    return midi.time_signature_changes[i - 1] if i else TimeSignature(4, 4, 0)


def bars_and_beats(midi: MidiFile, end_tick: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ticks before `end_tick` at which a bar begins, and those at which a beat does.

    A beat is one unit of the time signature's denominator. A new time signature begins a bar.
    """
    changes = [TimeSignature(4, 4, 0), *midi.time_signature_changes]
    ends = [change.time for change in changes[1:]] + [end_tick]
    bars, beats = [], []
    for change, end in zip(changes, ends, strict=True):
        beat = 4 * midi.ticks_per_beat / change.denominator
        end = min(end, end_tick)
        bars.append(np.arange(change.time, end, beat * change.numerator))
        beats.append(np.arange(change.time, end, beat))
    return np.concatenate(bars), np.concatenate(beats)
