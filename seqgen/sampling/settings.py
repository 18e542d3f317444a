"""The sampling settings of one stream, and their encoding as a row of numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from seqgen.errors import UserError

# Between these, no setting overflows or vanishes in float32, alone or applied to logits.
SMALL, LARGE = 1e-6, 1e6

TEMPERATURE, TOP_P, MIN_P, TYPICAL_P, REPETITION_PENALTY, FREQUENCY_PENALTY, GRAMMAR = range(7)
NEUTRAL = np.array([1, 1, 0, 1, 1, 0, 1], dtype=np.float32)  # settings that change nothing

_OPTIONAL = ("top_k", "top_p", "min_p", "typical_p")
_ACCEPTED: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "temperature",
        lambda x: x == 0 or SMALL <= x <= LARGE,
        "0 (greedy) or from 0.000001 to 1000000",
    ),
    ("top_k", lambda x: isinstance(x, Integral) and x >= 1, "a whole number, 1 or more"),
    ("top_p", lambda x: SMALL <= x <= 1, "from 0.000001 to 1 (1 keeps all)"),
    ("min_p", lambda x: 0 <= x <= 1, "from 0 (which keeps all) to 1"),
    ("repetition_penalty", lambda x: SMALL <= x <= LARGE, "from 0.000001 to 1000000 (1: none)"),
    ("typical_p", lambda x: SMALL <= x <= 1, "from 0.000001 to 1 (1 keeps all)"),
    ("frequency_penalty", lambda x: abs(x) <= LARGE, "from -1000000 to 1000000"),
)


@dataclass(frozen=True)
class Sampling:
    """How the ids of one stream are drawn from logits.

    Attributes:
        temperature: 0 means greedy: the most likely id after penalties, bias and grammar.
        top_k: keep the k most likely ids; None: all.
        top_p: keep the most likely ids, up to this probability mass; None: all.
        min_p: keep ids at least this share as likely as the most likely; None: all.
        repetition_penalty: weakens ids of the prompt and of what was drawn; 1 for none.
        grammar: allow only ids that the vocabulary's grammar allows.
        typical_p: keep the ids closest to the expected surprise, up to this probability; None: all.
        frequency_penalty: taken off an id's logit for each time it was drawn; 0 for none.
        logit_bias: pairs of an id of the first field and what is added to its logit; a mapping is
            turned into pairs, in order of the ids.

    Raises:
        UserError: a value is out of its range or not a number.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    grammar: bool = True
    typical_p: float | None = None
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, accepts, words in _ACCEPTED:
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if not _is_number(value) or not accepts(value):
                raise UserError(f"{name} = {value}: must be {words}")
        if not isinstance(self.grammar, bool):
            raise UserError(f"grammar = {self.grammar}: must be true or false")
        object.__setattr__(self, "logit_bias", _pairs(self.logit_bias))

    def columns(self) -> np.ndarray:
        """Return the settings as float32 [7], in the order of the constants above."""
        values = [
            self.temperature,
            1 if self.top_p is None else self.top_p,
            0 if self.min_p is None else self.min_p,
            1 if self.typical_p is None else self.typical_p,
            self.repetition_penalty,
            self.frequency_penalty,
            self.grammar,
        ]
        return np.array(values, dtype=np.float32)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _pairs(bias: Any) -> tuple[tuple[int, float], ...]:
    try:
        entries = bias.items() if isinstance(bias, Mapping) else [(i, b) for i, b in bias]
        # Keys of JSON objects are text; int() of a fraction would silently take another id.
        pairs = {i if isinstance(i, Integral) else int(str(i)): b for i, b in entries}
    except (TypeError, ValueError):
        raise UserError(f"logit_bias = {bias}: must hold pairs of an id and a number") from None
    for i, b in pairs.items():
        if i < 0 or not _is_number(b) or not abs(b) <= LARGE:
            raise UserError(
                f"logit_bias of id {i} = {b}: must be from -1000000 (never drawn) to 1000000, "
                "for an id of the first field"
            )
    return tuple(sorted((int(i), float(b)) for i, b in pairs.items()))
