"""Tasks: what a model can be asked to do, each a way to tell a piece in another order.

The model, the samplers and the engine know nothing of them.
"""

from collections.abc import Callable, Mapping

import numpy as np

from seqgen.config import DataConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.tasks import accompany, continuation, infill
from seqgen.tasks.bars import BarReader, Passage, first_bar
from seqgen.tasks.controls import (
    CONTROLS,
    MARK,
    chosen_controls,
    control_marks,
    control_values,
    level_borders,
)
from seqgen.tasks.pairs import Pair, Pairs, open_pairs, pair_examiner
from seqgen.tasks.telling import (
    ADD,
    AFTER,
    ANSWER,
    BEFORE,
    FILL,
    HOLE_MARKS,
    NO_TASK,
    Teller,
    Told,
)
from seqgen.tokenizers import settled

Arrange = Callable[[Teller, Passage, int, int, np.random.Generator], Told | None]
CONTINUE = "continue"
TASKS: dict[str, Arrange] = {
    CONTINUE: continuation.arrange,
    "infill": infill.arrange,
    "accompany": accompany.arrange,
}


__all__ = [
    "TASKS",
    "Arranger",
    "BarReader",
    "Pair",
    "Pairs",
    "Passage",
    "Teller",
    "check_known",
    "check_possible",
    "has_tasks",
    "known_tasks",
    "learned",
    "level_borders",
    "open_pairs",
    "pair_examiner",
    "with_marks",
]


def has_tasks(config: DataConfig) -> bool:
    """Whether training is more than windows of pieces as they are."""
    return bool(config.controls or set(config.tasks) - {CONTINUE})


def with_marks(tokens: TokenizerConfig, data: DataConfig) -> TokenizerConfig:
    """Return settled tokens with the marks that the tasks and controls of some data need.

    Raises:
        UserError: a task or a control is unknown, or the tokens cannot tell what it needs.
    """
    settled(tokens.model_copy(update={"marks": [ANSWER]}))  # refuses tokens that have no marks
    unknown = [name for name in data.tasks if name not in TASKS]
    if unknown:
        raise UserError(f"data.tasks: {unknown[0]!r} is none of {', '.join(TASKS)}")
    values = control_values(tokens)
    marks = [
        mark
        for name in chosen_controls(data.controls, tokens)
        for mark in control_marks(name, values[name])
    ]
    if set(data.tasks) - {CONTINUE}:
        marks.append(NO_TASK)
        if tokens.parts == "tracks":
            marks += [f"{MARK}part.{name}" for name in tokens.part_names or []] + [ANSWER]
        elif "accompany" in data.tasks:
            raise UserError(
                "data.tasks: accompany needs several parts, and these tokens tell all tracks as "
                "one: set tokenizer.parts=tracks, or leave it out"
            )
    if "accompany" in data.tasks:
        marks.append(ADD)
    if "infill" in data.tasks:
        marks += [AFTER, BEFORE, FILL, *HOLE_MARKS]
    return tokens.model_copy(update={"marks": marks})


def check_possible(tokens: TokenizerConfig, data: DataConfig) -> None:
    """Raise UserError where no tokens that fill what a configuration leaves open tell the tasks."""
    if has_tasks(data) or set(data.tasks) - set(TASKS):
        most = {"parts": "tracks", "use_velocities": True}
        left = {key: value for key, value in most.items() if getattr(tokens, key) is None}
        with_marks(settled(tokens.model_copy(update=left)), data)


def known_tasks(tokens: TokenizerConfig) -> list[str]:
    """Return the tasks that a run with these tokens has learned."""
    known = [CONTINUE]
    if FILL in tokens.marks:
        known.append("infill")
    if ADD in tokens.marks:
        known.append("accompany")
    return known


def check_known(tokens: TokenizerConfig, data: DataConfig) -> None:
    """Raise UserError where tokens lack marks that tasks and controls of some data need."""
    lacking = set(with_marks(tokens, data).marks) - set(tokens.marks) if has_tasks(data) else set()
    if lacking:
        names = {mark.partition("_")[2].partition(".")[0] for mark in lacking}
        raise UserError(
            f"data.tasks and data.controls need tokens that the run to start from lacks "
            f"({', '.join(sorted(names))}): leave them out, or train a new run"
        )


def learned(tokens: TokenizerConfig) -> dict:
    """Return `data.tasks` and `data.controls` with which a run goes on learning all that it has."""
    others = [name for name in known_tasks(tokens) if name != CONTINUE]
    shares = dict.fromkeys(others, 0.5 / len(others)) if others else {}
    marked = {mark.partition("_")[2].partition(".")[0] for mark in tokens.marks}
    controls = [name for name in CONTROLS if name in marked]
    return {"tasks": {CONTINUE: 1.0 - sum(shares.values()), **shares}, "controls": controls}


class Arranger:
    """Tells windows of training pieces as the tasks need them, each drawn by its share."""

    def __init__(self, teller: Teller, shares: Mapping[str, float]):
        """Take the share of each task; without any, all windows are continued."""
        self._teller = teller
        self._names = list(shares) or [CONTINUE]
        weights = np.array([shares.get(name, 1.0) for name in self._names])
        self._weights = weights / weights.sum()

    def read(self, ids: np.ndarray) -> Passage:
        """Return the bars of a piece [T, 1]."""
        return self._teller.reader.read(ids)

    def arrange(
        self, piece: Passage, share: float, room: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tell a window of a piece, by a task that is drawn.

        Args:
            piece: in bars.
            share: where the window lies, from 0 (the first bar is in it) to 1 (the last one is).
            room: tokens at most.
            rng: for the task, and what it leaves open.

        Returns:
            ids [T, 1], and which of them are given [T].
        """
        name = self._names[rng.choice(len(self._names), p=self._weights)]
        begin = first_bar([self._teller.size(bar) for bar in piece.bars], share, room)
        told = TASKS[name](self._teller, piece, begin, room, rng)
        if told is None or all(told.given[:room]):
            told = continuation.arrange(self._teller, piece, begin, room, rng)
        ids = np.array(told.ids[:room], dtype=np.int64)[:, None]
        return ids, np.array(told.given[:room], dtype=bool)
