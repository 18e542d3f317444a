"""A piece of tokens as bars, and each bar as what it holds: what tasks arrange anew.

Legend: T positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from seqgen.tokenizers import Tokenizer

HEAD = frozenset({"TimeSig", "TempoPosition", "Tempo"})
DRUMS = "drums"


@dataclass(frozen=True)
class BarNote:
    """One note; times are in quarter notes.

    Attributes:
        start: from the beginning of its bar.
        length: how long it sounds.
        pitch: MIDI's number.
        velocity: 1 to 127; 0 where tokens have none.
        part: the name of its part, "" for an only one.
    """

    start: float
    length: float
    pitch: int
    velocity: int
    part: str

    @property
    def is_drum(self) -> bool:
        """Whether its pitch is a key of a drum kit."""
        return self.part.partition(".")[0] == DRUMS


@dataclass(frozen=True)
class Bar:
    """One bar of a piece.

    Attributes:
        head: ids of its time signature and changes of tempo.
        told: by part, ids of its music as the piece tells it; parts that are silent have none.
        music: the same, with quotes replaced by what they stand for.
        notes: what is played.
        quarters: its length.
    """

    head: tuple[int, ...]
    told: Mapping[str, tuple[int, ...]]
    music: Mapping[str, tuple[int, ...]]
    notes: tuple[BarNote, ...]
    quarters: float


@dataclass(frozen=True)
class Passage:
    """Bars, and whether the piece begins with the first and ends with the last of them."""

    bars: Sequence[Bar]
    begins: bool
    ends: bool


@dataclass
class _Open:
    """A bar that is being read."""

    head: list[int] = field(default_factory=list)
    told: dict[str, list[int]] = field(default_factory=dict)
    quotes: dict[str, int] = field(default_factory=dict)
    part: str = ""


class BarReader:
    """Reads tokens that are told bar by bar."""

    def __init__(self, tokenizer: Tokenizer):
        """Take the meaning of ids from a tokenizer of MIDI whose `bar` is a token of its own."""
        names = [name.partition("_") for name in tokenizer.names()]
        self._kinds = [kind for kind, _, _ in names]
        self._values = [value for _, _, value in names]
        self._per_beat = tokenizer.config.positions_per_beat or 4
        self.id_of = {name: i for i, name in enumerate(tokenizer.names())}
        self._music = lru_cache(maxsize=65_536)(self._read_music)

    def read(self, ids: np.ndarray) -> Passage:
        """Return the bars of tokens [T, 1] from the beginning of a piece on."""
        kinds, values = self._kinds, self._values
        bars: list[Bar] = []
        metre = "4/4"
        bar: _Open | None = None
        for i in ids[:, 0].tolist():
            kind = kinds[i]
            if kind == "Bar":
                if bar is not None:
                    bars.append(self._close(bar, metre, bars))
                bar = _Open()
            elif bar is None or kind == "EOS":
                continue
            elif kind in HEAD:
                metre = values[i] if kind == "TimeSig" else metre
                bar.head.append(i)
            elif kind == "Part":
                bar.part = values[i]
            elif kind == "Quote":
                bar.told.setdefault(bar.part, []).append(i)
                bar.quotes[bar.part] = int(values[i])
            elif kind not in ("Given", "Held", "Answer", "PAD", "BOS"):
                bar.told.setdefault(bar.part, []).append(i)
        if bar is not None:
            bars.append(self._close(bar, metre, bars))
        first, last = (kinds[int(ids[k, 0])] for k in (0, -1))
        return Passage(bars, first == "BOS", last == "EOS")

    def _close(self, bar: _Open, metre: str, before: Sequence[Bar]) -> Bar:
        numerator, denominator = (int(x) for x in metre.split("/"))
        told = {part: tuple(ids) for part, ids in bar.told.items()}
        music = dict(told)
        for part, n in bar.quotes.items():
            music[part] = before[-n].music.get(part, ()) if n <= len(before) else ()
        notes = (
            note for part, ids in music.items() for note in self._music(part, ids, 4 / denominator)
        )
        quarters = numerator * 4 / denominator
        return Bar(tuple(bar.head), told, music, tuple(notes), quarters)

    def _read_music(self, part: str, ids: tuple[int, ...], beat: float) -> tuple[BarNote, ...]:
        """Return the notes of a part in a bar whose beats have so many quarter notes."""
        notes: list[BarNote] = []
        start, pitch, velocity = 0.0, -1, 0
        for i in ids:
            kind, value = self._kinds[i], self._values[i]
            if kind == "Position":
                start = int(value) / self._per_beat * beat
            elif kind in ("Pitch", "PitchDrum"):
                pitch, velocity = int(value), 0
            elif kind == "Velocity":
                velocity = int(value)
            elif kind == "Duration" and pitch >= 0:
                beats, fraction, resolution = (int(x) for x in value.split("."))
                length = (beats + fraction / resolution) * beat
                notes.append(BarNote(start, length, pitch, velocity, part))
        return tuple(notes)


def first_bar(sizes: Sequence[int], share: float, room: int) -> int:
    """Return the bar with which a window begins, of bars that take so many tokens each.

    Args:
        sizes: tokens of each bar.
        share: where the window lies, from 0 (the first bar is in it) to 1 (the last one is).
        room: tokens of the window.
    """
    behind = np.cumsum(sizes[::-1])[::-1]  # tokens from each bar to the end
    last = max(int(np.searchsorted(-behind, -room)), 0)  # from there on the rest fits
    return round(share * min(last, len(sizes) - 1))
