"""What can be asked of a piece: computed from the music in training, given by a person later.

Controls are marks after the beginning of a bar. Those of a block are measured over eight bars and
stay in force, so each is told where its value changes; instruments, which are several, are told
again in every eighth bar. The others are measured bar by bar, and told in each.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from seqgen.config import TokenizerConfig
from seqgen.errors import UserError
from seqgen.tasks.bars import Bar, BarNote, Passage
from seqgen.tasks.harmony import CHORDS, KEYS, chord_of, key_of

BLOCK = 8  # bars
MOST_LEFT = 64  # bars that are counted down; more of them have no mark
LEVELS = ("lowest", "low", "medium", "high", "highest")
ALL = "all"
OPEN = "-"  # the value of a bar for which nothing is asked
MARK, HELD = "Given_", "Held_"  # of one place, and in force from there on
Values = dict[str, list[str]]  # of a bar, by control
Wish = Callable[[int], Values]  # the values of bars, counted from 0


def _density(bars: Sequence[Bar]) -> float:
    """Notes per quarter note."""
    return sum(len(bar.notes) for bar in bars) / sum(bar.quarters for bar in bars)


def _polyphony(bars: Sequence[Bar]) -> float:
    """How many notes of a part begin together, on average."""
    onsets = [(i, note.part, note.start) for i, bar in enumerate(bars) for note in _pitched(bar)]
    return len(onsets) / max(len(set(onsets)), 1)


def _register(bars: Sequence[Bar]) -> float:
    """The mean pitch."""
    pitches = [note.pitch for bar in bars for note in _pitched(bar)]
    return float(np.mean(pitches)) if pitches else 0.0


def _loudness(bars: Sequence[Bar]) -> float:
    """The mean velocity."""
    return float(np.mean([note.velocity for bar in bars for note in bar.notes]))


def _pitched(bar: Bar) -> list[BarNote]:
    return [note for note in bar.notes if not note.is_drum]


MEASURES: dict[str, Callable[[Sequence[Bar]], float]] = {
    "density": _density,
    "polyphony": _polyphony,
    "register": _register,
    "loudness": _loudness,
}
OF_BLOCKS = ("key", "polyphony", "register", "loudness", "instruments")
MEASURED_BARS = ("chords", "density")
OF_BARS = ("bars", *MEASURED_BARS)
CONTROLS = (*OF_BLOCKS, *OF_BARS)


def control_values(config: TokenizerConfig) -> dict[str, list[str]]:
    """Return the controls that settled tokens can have, and the values of each."""
    values: dict[str, list[str]] = {
        "key": KEYS,
        "polyphony": [*LEVELS],
        "register": [*LEVELS],
        "bars": [str(n) for n in range(1, MOST_LEFT + 1)],
        "chords": CHORDS,
        "density": [*LEVELS],
    }
    if config.use_velocities:
        values["loudness"] = [*LEVELS]
    if config.parts == "tracks":
        values["instruments"] = config.part_names or []
    return values


def control_marks(name: str, values: Iterable[str]) -> list[str]:
    """Return the names of the marks of a control."""
    if name == "instruments":
        return [f"{MARK}{name}.{value}" for value in values]
    return held_marks(name, values)


def held_marks(name: str, values: Iterable[str]) -> list[str]:
    """Return the names of marks of which one at a time is in force; the first ends that."""
    return [f"{HELD}{name}.{value}" for value in (OPEN, *values)]


def chosen_controls(names: Sequence[str], config: TokenizerConfig) -> list[str]:
    """Return the controls that are named, or all that the tokens can have; UserError."""
    possible = control_values(config)
    known = ", ".join((*CONTROLS, ALL))
    for name in names:
        if name not in (*CONTROLS, ALL):
            raise UserError(f"data.controls: {name!r} is none of {known}")
    if ALL in names:
        return [name for name in CONTROLS if name in possible]
    lacking = {"loudness": "tokenizer.use_velocities=true", "instruments": "tokenizer.parts=tracks"}
    for name in names:
        if name not in possible:
            raise UserError(f"data.controls: {name} needs {lacking[name]}")
    return [name for name in CONTROLS if name in names]


class Controls:
    """The controls that a run's tokens know."""

    def __init__(self, config: TokenizerConfig, id_of: Mapping[str, int]):
        """Take them from the marks of a tokenizer; `id_of` gives the id of each token by name."""
        self._ids: dict[str, dict[str, int]] = defaultdict(dict)
        for mark in config.marks:
            name, _, value = mark.partition("_")[2].partition(".")
            levels = config.levels.get(name, [0.0, 1.0])
            if name in CONTROLS and levels[0] < levels[-1]:  # with one level there is no choice
                self._ids[name][value] = id_of[mark]
        self._borders = config.levels

    @property
    def names(self) -> list[str]:
        """What can be asked for."""
        return list(self._ids)

    def values(self, name: str) -> list[str]:
        """What can be asked of a control."""
        return [value for value in self._ids[name] if value != OPEN]

    def marks(self, values: Values, before: Values) -> list[int]:
        """Return the ids that stand behind the beginning of a bar, in the order of training.

        Args:
            values: of the bar; those without a mark are left out.
            before: of the bar before it: what stays in force is not told again.
        """
        ids: list[int] = []
        for name, of in self._ids.items():
            told, was = (
                [of[value] for value in bar.get(name, ()) if value in of]
                for bar in (values, before)
            )
            if OPEN not in of:
                ids += told
            elif told != was or (told and name in OF_BARS):
                ids += told or [of[OPEN]]
        return ids

    def measure(self, piece: Passage, begin: int, stop: int, names: Iterable[str]) -> list[Values]:
        """Return what the bars begin … stop of a piece are, by bar, in some of the controls."""
        names = [name for name in names if name in self._ids]
        found: list[Values] = []
        of_block = Values()
        for number in range(begin, stop):
            bar = piece.bars[number]
            if (number - begin) % BLOCK == 0:
                block = piece.bars[number : min(number + BLOCK, stop)]
                of_block = {name: self.of(name, block) for name in names if name in OF_BLOCKS}
            else:
                of_block.pop("instruments", None)  # they are many
            values = of_block | {name: self.of(name, [bar]) for name in names if name in OF_BARS}
            if "bars" in names and piece.ends:
                values["bars"] = [str(len(piece.bars) - number)]
            found.append(values)
        return found

    def of(self, name: str, bars: Sequence[Bar]) -> list[str]:
        """Return the values of a control that bars have as a whole; none where it means nothing."""
        notes = [note for bar in bars for note in bar.notes]
        if not notes or name == "bars":
            return []
        if name == "instruments":
            playing = {note.part for note in notes}
            return [part for part in self._ids[name] if part in playing]
        if name in MEASURES:
            return [LEVELS[int(np.searchsorted(self._borders[name], MEASURES[name](bars)))]]
        value = key_of(notes) if name == "key" else chord_of(notes)
        return [] if value is None else [value]


def level_borders(pieces: Iterable[Passage]) -> dict[str, list[float]]:
    """Return the borders between five levels of each measure, equally common in some pieces."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for piece in pieces:
        for name in MEASURES:
            size = BLOCK if name in OF_BLOCKS else 1
            for begin in range(0, len(piece.bars), size):
                block = piece.bars[begin : begin + size]
                if any(bar.notes for bar in block):
                    found[name].append(MEASURES[name](block))
    shares = np.arange(1, len(LEVELS)) / len(LEVELS)
    return {
        name: [round(float(x), 6) for x in np.quantile(values, shares)] if values else [0.0] * 4
        for name, values in found.items()
    }
