"""How bars are told to a model: with what is given, and what is to be written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqgen.tasks.bars import Bar, BarReader, Piece
from seqgen.tasks.controls import CONTROLS, Controls, Values
from seqgen.tokenizers import Tokenizer

NO_CONTROLS = 0.2  # share of training windows without any
KEPT = 0.7  # share of the others that have a control
MOST_BARS = 32  # of a hole that have a mark of their own; longer ones have that of 32
FILL, ADD, HOLE, ANSWER = "Given_fill", "Given_add", "Given_hole.", "Answer_None"


@dataclass
class Told:
    """Tokens, and which of them are given: nobody learns to draw those.

    Attributes:
        ids: of the tokens.
        given: for each of them.
    """

    ids: list[int] = field(default_factory=list)
    given: list[bool] = field(default_factory=list)

    def give(self, ids: Iterable[int]) -> None:
        """Add tokens that are given."""
        self._add(ids, True)

    def write(self, ids: Iterable[int]) -> None:
        """Add tokens that are to be written."""
        self._add(ids, False)

    def go_on(self, other: "Told") -> None:
        """Add what another has."""
        self.ids += other.ids
        self.given += other.given

    def _add(self, ids: Iterable[int], given: bool) -> None:
        n = len(self.ids)
        self.ids.extend(ids)
        self.given.extend([given] * (len(self.ids) - n))


class Teller:
    """Turns bars into tokens, with the marks that a tokenizer has.

    Attributes:
        reader: reads tokens into bars.
        controls: what can be asked for.
        parts: names of all parts in the order in which bars tell them; "" is an only one.
    """

    def __init__(self, tokenizer: Tokenizer):
        """Take ids from a tokenizer of MIDI that has marks."""
        self.tokenizer = tokenizer
        self.reader = BarReader(tokenizer)
        self.id_of = self.reader.id_of
        self.controls = Controls(tokenizer.config, self.id_of)
        self.parts = [name[5:] for name in self.id_of if name.startswith("Part_")] or [""]
        self.bar = self.id_of["Bar_None"]
        vocabulary = tokenizer.vocabulary
        self.bos, self.eos = vocabulary.bos_id, vocabulary.eos_id

    def size(self, bar: Bar) -> int:
        """Return how many tokens a bar takes, without controls."""
        names = len(bar.music) * (self.parts != [""])
        return 1 + len(bar.head) + names + sum(map(len, bar.music.values()))

    def music(
        self,
        bar: Bar,
        parts: Sequence[str] | None = None,
        *,
        values: Values | None = None,
        quoted: bool = False,
    ) -> Told:
        """Tell parts of a bar, all by default, with hints of some values, with quotes or not."""
        told, hints = Told(), self.controls.hints(values or {})
        source: Mapping[str, tuple[int, ...]] = bar.told if quoted else bar.music
        for part in self.parts if parts is None else parts:
            if source.get(part):
                told.write([self.id_of[f"Part_{part}"]] if part else [])
                told.give(hints if part else [])
                told.write(source[part])
        return told

    def plain(self, bar: Bar) -> list[int]:
        """Return the ids of a bar without controls and quotes."""
        return [self.bar, *bar.head, *self.music(bar).ids]

    def hole(self, n_bars: int) -> list[int]:
        """Return the mark of a hole of so many bars."""
        return [self.id_of[f"{HOLE}{min(n_bars, MOST_BARS)}"]]

    def asked(self, parts: Sequence[str], mark: str = FILL) -> list[int]:
        """Return the mark that what is to be written follows, and the marks of its parts."""
        of_parts = [self.id_of[f"Given_part.{part}"] for part in parts if part]
        return [self.id_of[mark], *(of_parts if len(parts) < len(self.parts) else [])]

    def opening(self, bar: Bar, values: Values, parts: Sequence[str]) -> list[int]:
        """Return what of a bar is given after its first token, where `parts` are to be written."""
        given = [*self.controls.marks(values), *bar.head]
        if len(parts) < len(self.parts):
            others = [part for part in self.parts if part not in parts]
            given += [*self.music(bar, others).ids, self.id_of[ANSWER]]
        return given

    def not_asked(self, parts: Sequence[str]) -> list[int]:
        """Return what must not be drawn where only `parts` are written.

        That is other parts, quotes, and tempos: those of a bar are given with its beginning.
        """
        kinds = ("Quote_", "TempoPosition_", "Tempo_")
        never = [i for name, i in self.id_of.items() if name.startswith(kinds)]
        return never + [self.id_of[f"Part_{part}"] for part in self.parts if part not in parts]

    def fitting(self, piece: Piece, begin: int, room: int) -> int:
        """Return the bar before which `room` tokens from bar `begin` on end; one bar at least."""
        stop = begin
        while stop < len(piece.bars) and (room := room - self.size(piece.bars[stop])) >= 0:
            stop += 1
        return max(stop, begin + 1)

    def drawn_controls(
        self, piece: Piece, begin: int, stop: int, rng: np.random.Generator
    ) -> list[Values]:
        """Return for each bar what is said of it in training: some of the controls, or none."""
        names: list[str] = []
        if rng.random() >= NO_CONTROLS:
            names = [name for name in CONTROLS if rng.random() < KEPT]
        return self.controls.measure(piece, begin, stop, names)
