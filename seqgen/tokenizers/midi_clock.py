"""Musical time read off MIDI tokens while they are drawn: bars and seconds."""

from collections.abc import Sequence

import numpy as np


class MidiClock:
    """Follows Bar and Position tokens, or time shifts and rests, time signatures and tempos."""

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
        self._quarters_per_bar, self._quarters_per_beat = 4.0, 1.0
        self._next_bar = 0.0  # onset of the bar after the current one, in quarters
        self._bars = 0.0
        self._counts_bars = False
        self._now = 0.0  # in quarters
        self._seconds = 0.0

    @property
    def bars(self) -> float:
        """Bars begun so far (a whole number where tokens mark bars)."""
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
                self._counts_bars = True
                self._bars += 1
                self._move_to(self._next_bar)
                self._next_bar += self._quarters_per_bar
            elif kind == "Position":
                bar = self._next_bar - self._quarters_per_bar
                self._move_to(bar + int(value) / self._per_beat * self._quarters_per_beat)
            elif kind in ("TimeShift", "Rest"):
                beats, fraction, resolution = (int(x) for x in value.split("."))
                shift = (beats + fraction / resolution) * self._quarters_per_beat
                self._move_to(self._now + shift)
            elif kind == "TimeSig":
                self._change_meter(*(int(x) for x in value.split("/")))
            elif kind == "Tempo":
                self._tempo = float(value)

    def _move_to(self, quarters: float) -> None:
        step = max(quarters - self._now, 0.0)
        self._seconds += step * 60 / self._tempo
        if not self._counts_bars:
            self._bars += step / self._quarters_per_bar
        self._now += step

    def _change_meter(self, numerator: int, denominator: int) -> None:
        old = self._quarters_per_bar
        self._quarters_per_beat = 4 / denominator
        self._quarters_per_bar = numerator * 4 / denominator
        if self._counts_bars:  # the signature stands inside the bar it is for
            self._next_bar += self._quarters_per_bar - old
