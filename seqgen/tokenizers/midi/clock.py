"""Musical time read off MIDI tokens while they are drawn: bars and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np

from seqgen.tokenizers.midi.quotes import Unquoter


class MidiClock:
    """Follows Bar and Position tokens, or time shifts, time signatures and tempos.

    Several parts may be told one after the other in a bar: the present is the latest onset so far.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[str]],
        *,
        tempo: float,
        positions_per_beat: int,
        unquoter: Unquoter | None = None,
    ):
        """Start at zero.

        Args:
            parts: for each id, the plain tokens it stands for, as `Type_Value`.
            tempo: quarter notes per minute until a Tempo token says otherwise.
            positions_per_beat: what one Position counts.
            unquoter: a new one, if tokens quote bars.
        """
        self._parts = parts
        self._per_beat = positions_per_beat
        self._unquoter = unquoter
        self._marks_bars = any(part.startswith("Bar_") for kinds in parts for part in kinds)
        self._quarters_per_bar, self._quarters_per_beat = 4.0, 1.0
        self._bar_start, self._now, self._onset = 0.0, 0.0, 0.0  # in quarters
        self._bars = 0
        self._tempos: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, tempo),)

    def __copy__(self) -> MidiClock:
        copied = MidiClock.__new__(MidiClock)
        copied.__dict__ |= {**self.__dict__, "_unquoter": copy(self._unquoter)}
        return copied

    @property
    def bars(self) -> int:
        """Bars begun so far."""
        return self._bars

    @property
    def quarters(self) -> float:
        """Quarter notes from the beginning to the latest onset or bar."""
        return self._now

    @property
    def bar_start(self) -> float:
        """Quarter notes from the beginning to the latest bar."""
        return self._bar_start

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the latest onset or bar."""
        return self._seconds_at(self._now)

    def feed(self, token: np.ndarray) -> None:
        """Take the next token [1]."""
        for _ in self.follow(token):
            pass

    def follow(self, token: np.ndarray) -> Iterator[tuple[str, float]]:
        """Take the next token [1]; yield the plain tokens that it stands for.

        With each comes its onset, in quarter notes from the beginning.
        """
        for part in self._parts[int(token[0])]:
            for plain in (part,) if self._unquoter is None else self._unquoter.take(part):
                self._take(plain)
                yield plain, self._onset

    def _take(self, plain: str) -> None:
        kind, _, value = plain.partition("_")
        if kind == "Bar":
            self._begin_bar()
        elif kind == "Position":
            self._onset = self._at(int(value))
            self._move_to(self._onset)
        elif kind == "TempoPosition":
            self._onset = self._at(int(value))
        elif kind == "TimeShift":
            beats, fraction, resolution = (int(x) for x in value.split("."))
            shift = (beats + fraction / resolution) * self._quarters_per_beat
            self._onset = self._now + shift
            self._move_to(self._onset)
        elif kind == "TimeSig":
            numerator, denominator = (int(x) for x in value.split("/"))
            self._quarters_per_beat = 4 / denominator
            self._quarters_per_bar = numerator * self._quarters_per_beat
        elif kind == "Tempo":
            self._change_tempo(float(value))
        elif not self._marks_bars and self._bars == 0 and kind not in ("PAD", "BOS", "EOS"):
            self._bars = 1  # the first note begins the first bar

    def _at(self, position: int) -> float:
        return self._bar_start + position / self._per_beat * self._quarters_per_beat

    def _begin_bar(self) -> None:
        """A Bar token; the signature of the bar before it says how long that one was."""
        if self._bars > 0:
            self._bar_start += self._quarters_per_bar
            self._onset = self._bar_start
            self._move_to(self._bar_start)
        self._bars += 1

    def _change_tempo(self, tempo: float) -> None:
        """A tempo that holds from the latest position on."""
        at = max(self._onset, self._tempos[-1][0])
        entry = (at, self._seconds_at(at), tempo)
        past = sum(start <= self._bar_start for start, _, _ in self._tempos)
        self._tempos = (*self._tempos[max(past - 1, 0) :], entry)

    def _seconds_at(self, quarters: float) -> float:
        past = [entry for entry in self._tempos if entry[0] <= quarters]
        start, seconds, tempo = past[-1]
        return seconds + max(quarters - start, 0.0) * 60 / tempo

    def _move_to(self, quarters: float) -> None:
        self._now = max(self._now, quarters)
        while not self._marks_bars and self._now >= self._bar_start + self._quarters_per_bar:
            self._bar_start += self._quarters_per_bar
            self._bars = max(self._bars, 1) + 1
