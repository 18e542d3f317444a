"""How bars are told to a model: with what is given, and what is to be written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqgen.tasks.bars import Bar, BarReader, Passage
from seqgen.tasks.controls import CONTROLS, HELD, MARK, MEASURED_BARS, Controls, Wish, held_marks
from seqgen.tasks.harmony import CHORDS, chord_of
from seqgen.tokenizers import Tokenizer

NO_CONTROLS = 0.2  # share of training windows without any; the others have any number of them
LEFT_OPEN = 0.1  # share of bars that have no chord, or no density, where others of a window have
MOST_BARS = 32  # of a hole that have a mark of their own; longer ones have that of 32
# What is told now: bars after a hole, those before it, what is written into it, added parts.
NO_TASK, AFTER, BEFORE, FILL, ADD = held_marks("task", ("after", "before", "fill", "add"))
ANSWER = "Answer_None"
# In a hole: how many bars are left of it, and what it leads to: the chord of the first bar behind
# it, and the highest and the lowest of the notes with which that begins.
HOLE = f"{HELD}hole."
LEADS_TO = {"chord": CHORDS, "top": range(128), "bass": range(128)}
HOLE_MARKS = [
    *held_marks("hole", map(str, range(1, MOST_BARS + 1))),
    *(m for name, of in LEADS_TO.items() for m in held_marks(f"next-{name}", map(str, of))),
]


@dataclass
class Told:
    """Tokens, and which of them are given and not learned: marks, and what stands behind them.

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
        metres: the ids of time signatures, by their names, such as "3/4"; none where tokens tell
            none.
    """

    def __init__(self, tokenizer: Tokenizer):
        """Take ids from a tokenizer of MIDI that has marks."""
        self.tokenizer = tokenizer
        self.reader = BarReader(tokenizer)
        self.id_of = self.reader.id_of
        self.controls = Controls(tokenizer.config, self.id_of)
        self.parts = [name[5:] for name in self.id_of if name.startswith("Part_")] or [""]
        self.metres = {
            name.partition("_")[2]: i
            for name, i in self.id_of.items()
            if name.startswith("TimeSig_")
        }
        self.bar = self.id_of["Bar_None"]
        vocabulary = tokenizer.vocabulary
        self.bos, self.eos = vocabulary.bos_id, vocabulary.eos_id

    def size(self, bar: Bar) -> int:
        """Return how many tokens a bar takes, without controls."""
        names = len(bar.music) * (self.parts != [""])
        return 1 + len(bar.head) + names + sum(map(len, bar.music.values()))

    def music(
        self, bar: Bar, parts: Sequence[str] | None = None, *, quoted: bool = False
    ) -> list[int]:
        """Return the ids of parts of a bar, all by default, with quotes or not."""
        ids: list[int] = []
        source: Mapping[str, tuple[int, ...]] = bar.told if quoted else bar.music
        for part in self.parts if parts is None else parts:
            if source.get(part):
                ids += [self.id_of[f"Part_{part}"]] if part else []
                ids += source[part]
        return ids

    def plain(self, bar: Bar) -> list[int]:
        """Return the ids of a bar without controls and quotes."""
        return [self.bar, *bar.head, *self.music(bar)]

    def hole(self, n_bars: int) -> list[int]:
        """Return the mark of a hole that has so many bars left."""
        return [self.id_of[f"{HOLE}{min(n_bars, MOST_BARS)}"]]

    def leads_to(self, bar: Bar) -> list[int]:
        """Return the marks of what comes behind a hole; none where nothing with a pitch sounds."""
        notes = [note for note in bar.notes if not note.is_drum]
        if not notes:
            return []
        first = min(note.start for note in notes)
        pitches = [note.pitch for note in notes if note.start == first]
        values = {"chord": chord_of(notes), "top": max(pitches), "bass": min(pitches)}
        return [self.id_of[f"{HELD}next-{name}.{values[name]}"] for name in LEADS_TO]

    def asked(self, parts: Sequence[str], mark: str = FILL) -> list[int]:
        """Return the mark that what is to be written follows, and the marks of its parts."""
        of_parts = [self.id_of[f"{MARK}part.{part}"] for part in parts if part]
        return [self.id_of[mark], *(of_parts if len(parts) < len(self.parts) else [])]

    def answer(self, bar: Bar, marks: Sequence[int], parts: Sequence[str]) -> Told:
        """Tell a bar after its first token, where `parts` are to be written.

        The others come first. They are learned too: what is there is music like any other.
        """
        told = Told()
        told.give(marks)
        told.write(bar.head)
        if len(parts) < len(self.parts):
            told.write(self.music(bar, [part for part in self.parts if part not in parts]))
            told.give([self.id_of[ANSWER]])
        told.write(self.music(bar, parts))
        return told

    def opening(self, bar: Bar, marks: Sequence[int], parts: Sequence[str]) -> list[int]:
        """Return what of a bar is given after its first token, where `parts` are to be written."""
        ids = self.answer(bar, marks, parts).ids
        return ids[: len(ids) - len(self.music(bar, parts))]

    def marks_of(self, wish: Wish, number: int) -> list[int]:
        """Return the marks of bar `number` of those that something is asked of, from 0 on."""
        return self.controls.marks(wish(number), wish(number - 1) if number else {})

    def review(self, wish: Wish, number: int, ids: np.ndarray) -> float:
        """Return how far the last bar of tokens [T, 1] is what is asked of bar `number`.

        That is a share from 0 to 1 of what is measured bar by bar; 1 where nothing is asked.
        """
        wanted = {name: values for name in MEASURED_BARS if (values := wish(number).get(name))}
        if not wanted:
            return 1.0
        bar = self.reader.read(ids).bars[-1]
        met = [self.controls.of(name, [bar]) == values for name, values in wanted.items()]
        return sum(met) / len(met)

    def other_parts(self, parts: Sequence[str]) -> list[int]:
        """Return the names of all parts but some."""
        return [self.id_of[f"Part_{part}"] for part in self.parts if part not in parts]

    def not_asked(self, parts: Sequence[str]) -> list[int]:
        """Return what must not be drawn where only `parts` are written.

        That is other parts, quotes, and tempos: those of a bar are given with its beginning.
        """
        kinds = ("Quote_", "TempoPosition_", "Tempo_")
        never = [i for name, i in self.id_of.items() if name.startswith(kinds)]
        return never + self.other_parts(parts)

    def fitting(self, piece: Passage, begin: int, room: int) -> int:
        """Return the bar before which `room` tokens from bar `begin` on end; one bar at least."""
        stop = begin
        while stop < len(piece.bars) and (room := room - self.size(piece.bars[stop])) >= 0:
            stop += 1
        return max(stop, begin + 1)

    def drawn_marks(
        self, piece: Passage, begin: int, stop: int, rng: np.random.Generator
    ) -> list[list[int]]:
        """Return for each bar its marks in training: of some of the controls, or of none.

        Any number of controls is equally likely, since a person may ask for one of them or all.
        """
        share = rng.random() if rng.random() >= NO_CONTROLS else 0.0
        names = [name for name in CONTROLS if rng.random() < share]
        values = self.controls.measure(piece, begin, stop, names)
        for bar, name in ((bar, name) for bar in values for name in MEASURED_BARS):
            if rng.random() < LEFT_OPEN:
                bar.pop(name, None)
        return [self.marks_of(values.__getitem__, number) for number in range(len(values))]
