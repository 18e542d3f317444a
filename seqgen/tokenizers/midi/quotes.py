"""Bars that repeat an earlier one: told as quotes of it.

Tokens are plain ones as `parts.tell` combines them: bar by bar, and in a bar part by part. What a
part has in a bar may be told as `Quote_n`: the same as n bars ago in the same part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import inf

import numpy as np

from seqgen.tokenizers.midi.settings import MARKS, SPECIAL, metre

HEAD = ("Bar", "TimeSig", "TempoPosition", "Tempo")  # of a bar
APART = frozenset({*HEAD, "Part", *MARKS, *SPECIAL})  # no music

NO_QUOTES = "these tokens have no quotes: set tokenizer.quotes=true"


def quote(told: Iterable[str], *, most: int) -> list[str]:
    """Tell the music of a part in a bar as a quote wherever it equals that of an earlier bar.

    Equal bars have the same tokens and the same time signature. The quote is as far as the last one
    of the part, if it has told no new bar since then and that bar is equal; else it is of the
    nearest equal bar. A bar in which the part is silent is told as before.

    Args:
        told: tokens without quotes.
        most: the furthest quote, in bars.
    """
    result: list[str] = []
    number, signature, part = 0, "", ""
    music: list[str] = []  # of the part in the bar, so far
    bars: dict[tuple[int, str], tuple[str, ...]] = {}
    nearest: dict[tuple[str, ...], int] = {}
    distances: defaultdict[str, int] = defaultdict(int)  # of each part's last quote

    def finish() -> None:
        """Add the music that is complete, or its quote."""
        if not music:
            return
        content = (part, signature, *music)
        distance = distances[part]
        if not distance or bars.get((number - distance, part)) != content:
            distance = number - nearest.get(content, -most)
        is_quoted = distance <= most
        result.extend([f"Quote_{distance}"] if is_quoted else music)
        distances[part] = distance if is_quoted else 0
        bars[number, part], nearest[content] = content, number
        music.clear()

    for token in told:
        kind, _, value = token.partition("_")
        if kind not in APART:
            music.append(token)
            continue
        finish()
        result.append(token)
        if kind == "Bar":
            number, part = number + 1, ""
        elif kind == "TimeSig":
            signature = value
        elif kind == "Part":
            part = value
    finish()
    return result


def quote_ahead(told: Sequence[str], *, back: int, n_bars: int, begun: int) -> list[str]:
    """Tell so many more bars, each as a quote of the one `back` bars before.

    Time signatures and changes of tempo are those of that bar.

    Args:
        told: tokens, which quotes may be among.
        back: how far each of the bars is from the one that it quotes.
        n_bars: how many bars to tell.
        begun: with how many tokens the first of them has begun already, which are the last ones.
    """
    bars: list[list[str]] = []
    has_music = False  # of the part, or of the bar
    for token in told:
        kind = token.partition("_")[0]
        if kind == "Bar":
            bars.append([])
        if kind in APART:
            has_music = False
        if bars and (kind in APART or not has_music):
            bars[-1].append(token if kind in APART else f"Quote_{back}")
            has_music = kind not in APART
    if begun:
        bars.pop()
    for _ in range(n_bars):
        bars.append(bars[-back])
    quotes = [token for bar in bars[-n_bars:] for token in bar]
    return quotes[begun:]


class Unquoter:
    """Replaces quotes by what they stand for, token by token, from the beginning of a piece.

    A quote of a bar in which the part is silent, or that lies before the beginning, is silence.
    What a quoted bar has beyond the end of a shorter one is left out. So that a piece cannot grow
    without bound, a quote behind other music of the part in the bar is silence, and so is one with
    which the piece would have more than `most_notes`.
    """

    def __init__(self, positions_per_beat: int, most_notes: int):
        self._per_beat, self._most_notes = positions_per_beat, most_notes
        self._n_notes = 0
        self._number, self._part = 0, ""
        self._positions: float = inf  # of the bar; if no bar says how many, all have as many
        self._music: dict[tuple[int, str], tuple[str, ...]] = {}  # by bar and part

    def __copy__(self) -> Unquoter:
        copied = Unquoter(self._per_beat, self._most_notes)
        copied.__dict__ |= {**self.__dict__, "_music": dict(self._music)}
        return copied

    def take(self, token: str) -> tuple[str, ...]:
        """Return what the next plain token stands for."""
        kind, _, value = token.partition("_")
        music: tuple[str, ...] = (token,)
        if kind == "Bar":
            self._number, self._part = self._number + 1, ""
        elif kind == "TimeSig":
            self._positions = metre(value)[0] * self._per_beat
        elif kind == "Part":
            self._part = value
        here = (self._number, self._part)
        if kind == "Quote":
            music = () if self._music.get(here) else self._quoted(int(value))
        if kind not in APART:
            self._music[here] = self._music.get(here, ()) + music
            self._n_notes += _count_notes(music)
        return music

    def _quoted(self, distance: int) -> tuple[str, ...]:
        """Return the part's music of so many bars ago, if there is room for it."""
        music = self._inside(self._music.get((self._number - distance, self._part), ()))
        return music if self._n_notes + _count_notes(music) <= self._most_notes else ()

    def _inside(self, music: tuple[str, ...]) -> tuple[str, ...]:
        """Cut music where a position lies outside the bar."""
        for i, token in enumerate(music):
            kind, _, value = token.partition("_")
            if kind == "Position" and int(value) >= self._positions:
                return music[:i]
        return music


def _count_notes(music: Iterable[str]) -> int:
    return sum(token.startswith("Duration_") for token in music)


def repeated(tokens: Iterable[Sequence[str]]) -> np.ndarray:
    """Tell which tokens have music of a bar that equals an earlier one of its part [T].

    Music is at its positions: those at which only the tempo changes do not matter.

    Args:
        tokens: for each one the plain tokens that it stands for, without quotes.
    """
    place = 0, "", ""  # number and time signature of the bar, and the part
    position = ""
    music: defaultdict[tuple[int, str, str], list[str]] = defaultdict(list)
    places = []
    for plain in tokens:
        has_music = False
        for token in plain:
            kind, _, value = token.partition("_")
            if kind == "Bar":
                place = place[0] + 1, place[1], ""
            elif kind == "TimeSig":
                place = place[0], value, place[2]
            elif kind == "Part":
                place = *place[:2], value
            elif kind == "Position":
                position, has_music = value, True
            elif kind not in APART:
                music[place].append(f"{position} {token}")
                has_music = True
        places.append(place if has_music else None)
    known: set[tuple[str, ...]] = set()
    found: set[tuple[int, str, str] | None] = set()
    for here, content in music.items():
        key = (*here[1:], *content)
        if key in known:
            found.add(here)
        known.add(key)
    return np.array([here in found for here in places], dtype=bool)
