"""Pairs: a source, and a target that a model learns to write given the source.

`data.pairs` says which: parts of one file ("soprano -> alto, tenor, bass"), or what stands in two
(`FILES`, `LINES`). What two files hold is stored as one sequence: BOS source EOS BOS target EOS.

Legend: T tokens, F fields, U tokens of a source.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from seqgen.config import FILES, LINES
from seqgen.errors import FileRejected, UserError
from seqgen.tasks.asking import describe_part, find_parts
from seqgen.tasks.bars import Bar, BarReader, first_bar
from seqgen.tokenizers import Encoded, Shift, Tokenizer

Examine = Callable[[Path, Sequence[Shift]], Encoded]


@dataclass(frozen=True)
class Pair:
    """A source [U, F] and a target [T, F], each from BOS to EOS unless it was too long."""

    source: np.ndarray
    target: np.ndarray


class Pairs(Protocol):
    """How a piece is told as a source and a target.

    Attributes:
        forbidden: ids that no target has.
    """

    forbidden: tuple[int, ...]

    def cut(self, ids: np.ndarray, share: float, room: int) -> Pair | None:
        """Return a window of a stored piece [T, F]; None where it has none.

        Args:
            ids: from the beginning of the piece on.
            share: where the window lies, from 0 (it begins the piece) to 1 (it ends it).
            room: tokens of the source, and of the target, at most.
        """

    def windows(self, ids: np.ndarray, room: int) -> Iterator[Pair]:
        """Return windows, one after the other, that hold all of a stored piece [T, F].

        What cannot be cut has one window, which ends where there is no room.
        """

    def source_of(self, path: Path) -> np.ndarray:
        """Read the source of a target to be written [U, F]; FileRejected where there is none."""

    def join(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the tokens of the file that is written for a source [U, F] and a target [T, F]."""


def open_pairs(pairs: str, tokenizer: Tokenizer) -> Pairs:
    """Return how `data.pairs` tells pieces of a tokenizer.

    Raises:
        UserError: the tokens have no parts, or not those that it names.
    """
    if pairs in (FILES, LINES):
        return StoredPairs(tokenizer)
    return PartPairs(tokenizer, *pairs.split("->"))


class StoredPairs:
    """Pairs of which source and target are stored one after the other."""

    forbidden: tuple[int, ...] = ()

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        vocabulary = tokenizer.vocabulary
        self._bos = vocabulary.special_token(vocabulary.bos_id)[None]
        self._eos = vocabulary.special_token(vocabulary.eos_id)[None]

    def store(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return a piece without its first BOS and its last EOS, as tokenizers return files."""
        return np.concatenate([source, self._eos, self._bos, target])

    def cut(self, ids: np.ndarray, share: float, room: int) -> Pair | None:
        """Return the only window."""
        return next(self.windows(ids, room), None)

    def windows(self, ids: np.ndarray, room: int) -> Iterator[Pair]:
        """Return the pair, of which each side ends where there is no room."""
        ends = np.flatnonzero(ids[:, 0] == self._eos[0, 0])
        if len(ends) and ends[0] + 2 < len(ids):  # else it was cut before the target began
            source, target = ids[: ends[0] + 1], ids[ends[0] + 1 :]
            yield Pair(source[:room], target[: room + 1])

    def source_of(self, path: Path) -> np.ndarray:
        """Return the tokens of a file."""
        return np.concatenate([self._bos, self._tokenizer.encode(path), self._eos])

    def join(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the target alone."""
        return target


class PartPairs:
    """Pairs of which source and target are parts of one file, told bar by bar."""

    def __init__(self, tokenizer: Tokenizer, source: str, target: str):
        """Take the names of parts, as `find_parts` understands them."""
        if not tokenizer.tells_parts or tokenizer.config.bpe_vocab_size is not None:
            raise UserError(
                f"data.pairs={source}->{target} needs tokens that tell a file part by part: set "
                f"tokenizer.type=remi and tokenizer.parts=tracks, without bpe_vocab_size"
            )
        self._tokenizer = tokenizer
        self._reader = BarReader(tokenizer)
        parts = [name[5:] for name in self._reader.id_of if name.startswith("Part_")]
        self._source = find_parts(source, parts, option="data.pairs")
        self._target = find_parts(target, parts, option="data.pairs")
        both = [part for part in self._source if part in self._target]
        if both:
            raise UserError(
                f"data.pairs={source}->{target}: {describe_part(both[0])} is on both sides"
            )
        self.forbidden = tuple(self._name(part) for part in parts if part not in self._target)
        vocabulary = tokenizer.vocabulary
        self._bos, self._eos = vocabulary.bos_id, vocabulary.eos_id

    def cut(self, ids: np.ndarray, share: float, room: int) -> Pair | None:
        """Return bars of a piece, as many as there is room for."""
        sides = self._sides(ids)
        if not sides:
            return None
        begin = first_bar([max(map(len, both)) for both in sides], share, room - 2)
        return self._window(sides, begin, room)[0]

    def windows(self, ids: np.ndarray, room: int) -> Iterator[Pair]:
        """Return bars after bars of a piece."""
        sides, begin = self._sides(ids), 0
        while begin < len(sides):
            pair, begin = self._window(sides, begin, room)
            yield pair

    def source_of(self, path: Path) -> np.ndarray:
        """Return the parts of a file that are a source; its other parts are left out."""
        ids = self._tokenizer.encode(path)
        bars = self._reader.read(ids).bars
        self._check_plays(bars, self._source, path)
        told = [i for bar in bars for i in self._tell(bar, self._source)]
        return _column([self._bos, *told, self._eos])

    def join(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return all parts together, bar by bar: as many bars as the longer side has."""
        bars = [self._reader.read(side).bars for side in (source, target)]
        ids = [self._bos]
        for number in range(max(map(len, bars))):
            both = [side[number] for side in bars if number < len(side)]
            ids += [self._reader.id_of["Bar_None"], *both[0].head]
            ids += [i for bar in both for i in self._music(bar, [*self._source, *self._target])]
        return _column([*ids, self._eos])

    def check(self, ids: np.ndarray, path: Path) -> None:
        """Raise FileRejected where no part of a side plays in a file that has tokens [T, 1]."""
        bars = self._reader.read(ids).bars
        for parts in (self._source, self._target):
            self._check_plays(bars, parts, path)

    def _check_plays(self, bars: Sequence[Bar], parts: Sequence[str], path: Path) -> None:
        if not any(bar.music.get(part) for bar in bars for part in parts):
            named = " or ".join(map(describe_part, parts))
            raise FileRejected("empty", str(path), f"none of its tracks is told as {named}")

    def _sides(self, ids: np.ndarray) -> list[tuple[list[int], list[int]]]:
        """Return each bar as ids of the source and of the target."""
        bars = self._reader.read(ids).bars
        return [(self._tell(bar, self._source), self._tell(bar, self._target)) for bar in bars]

    def _window(
        self, sides: Sequence[tuple[list[int], list[int]]], begin: int, room: int
    ) -> tuple[Pair, int]:
        """Return bars from `begin` on, one at least, and the bar after them."""
        end, size = begin, 2  # BOS and EOS
        while end < len(sides) and (size := size + max(map(len, sides[end]))) <= room:
            end += 1
        end = max(end, begin + 1)
        source, target = (
            _column([self._bos, *(i for both in sides[begin:end] for i in both[k]), self._eos])
            for k in (0, 1)
        )
        return Pair(source[:room], target[: room + 1]), end

    def _tell(self, bar: Bar, parts: Sequence[str]) -> list[int]:
        return [self._reader.id_of["Bar_None"], *bar.head, *self._music(bar, parts)]

    def _music(self, bar: Bar, parts: Sequence[str]) -> list[int]:
        playing = [part for part in parts if bar.music.get(part)]
        return [i for part in playing for i in (self._name(part), *bar.music[part])]

    def _name(self, part: str) -> int:
        return self._reader.id_of[f"Part_{part}"]


def pair_examiner(pairs: str, tokenizer: Tokenizer) -> Examine:
    """Return what reads a file of a corpus of pairs as `Tokenizer.examine` reads any.

    Of two files it is given the source.
    """
    opened = open_pairs(pairs, tokenizer)

    def examine(path: Path, shifts: Sequence[Shift]) -> Encoded:
        if isinstance(opened, PartPairs):
            encoded = tokenizer.examine(path, shifts)
            opened.check(encoded.variants[0], path)
            return encoded
        source, target = (tokenizer.examine(file, shifts) for file in (path, partner_of(path)))
        sides = source.variants, target.variants
        if len(sides[0]) != len(sides[1]):  # a shift does not fit one of them: keep the unchanged
            sides = sides[0][:1], sides[1][:1]
        store = StoredPairs(tokenizer).store
        return Encoded([store(*both) for both in zip(*sides, strict=True)], target.units, {})

    return examine


def partner_of(path: Path) -> Path:
    """Return the file with the other side of a pair; FileRejected where there is none."""
    name, _, side = path.stem.rpartition(".")
    others = {"source": "target", "target": "source"}
    if not name or side not in others:
        reason = f"its name ends neither in .source{path.suffix} nor in .target{path.suffix}"
        raise FileRejected("unsupported", str(path), reason)
    partner = path.with_name(f"{name}.{others[side]}{path.suffix}")
    if not partner.is_file():
        raise FileRejected("empty", str(path), f"it has no partner {partner.name} beside it")
    return partner


def _column(ids: Sequence[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int64)[:, None]
