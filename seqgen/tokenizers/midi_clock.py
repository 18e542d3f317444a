"""Musical time read off MIDI tokens while they are drawn: bars and seconds."""

from collections.abc import Sequence

import numpy as np


class MidiClock:
    """Follows Bar and Position tokens, or time shifts, time signatures and tempos."""

    def __init__(self, parts: Sequence[Sequence[str]], *, tempo: float, positions_per_beat: int):
        """Start at zero.

        Args:
            parts: for each id, the plain tokens it stands for, as `Type_Value`.
            tempo: quarter notes per minute until a Tempo token says otherwise.
            positions_per_beat: what one Position counts.
        """
        self._parts = parts
        self._tempo = tempo
        self._per_beat = positions_per_beat
        self._marks_bars = any(part.startswith("Bar_") for kinds in parts for part in kinds)
        self._quarters_per_bar, self._quarters_per_beat = 4.0, 1.0
        self._bar_start, self._now = 0.0, 0.0  # in quarters
        self._bars, self._seconds = 0, 0.0

    @property
    def bars(self) -> int:
        """Bars begun so far."""
        return self._bars

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the present onset."""
        return self._seconds

    def feed(self, token: np.ndarray) -> None:
        """Take the next token [1]."""
        for part in self._parts[int(token[0])]:
            kind, _, value = part.partition("_")
            if kind == "Bar":
                self._begin_bar()
            elif kind == "Position":
                beats = int(value) / self._per_beat
                self._move_to(self._bar_start + beats * self._quarters_per_beat)
            elif kind == "TimeShift":
                beats, fraction, resolution = (int(x) for x in value.split("."))
                shift = (beats + fraction / resolution) * self._quarters_per_beat
                self._move_to(self._now + shift)
            elif kind == "TimeSig":
                numerator, denominator = (int(x) for x in value.split("/"))
                self._quarters_per_beat = 4 / denominator
                self._quarters_per_bar = numerator * self._quarters_per_beat
            elif kind == "Tempo":
                self._tempo = float(value)
            elif not self._marks_bars and self._bars == 0 and kind not in ("PAD", "BOS", "EOS"):
                self._bars = 1  # the first note begins the first bar

    def _begin_bar(self) -> None:
        """A Bar token; the signature of the bar before it says how long that one was."""
        if self._bars > 0:
            self._bar_start += self._quarters_per_bar
            self._move_to(self._bar_start)
        self._bars += 1

    def _move_to(self, quarters: float) -> None:
        step = max(quarters - self._now, 0.0)
        self._now += step
        self._seconds += step * 60 / self._tempo
        while not self._marks_bars and self._now >= self._bar_start + self._quarters_per_bar:
            self._bar_start += self._quarters_per_bar
            self._bars = max(self._bars, 1) + 1
