"""The sampling settings of one stream, and their encoding as rows of numbers.

Legend: F fields.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from seqgen.errors import UserError

# Between these, no setting overflows or vanishes in float32, alone or applied to logits.
SMALL, LARGE = 1e-6, 1e6

TEMPERATURE, TOP_P, MIN_P, TYPICAL_P, REPETITION_PENALTY, FREQUENCY_PENALTY, GRAMMAR = range(7)
NEUTRAL = np.array([1, 1, 0, 1, 1, 0, 1], dtype=np.float32)  # settings that change nothing

ByField = tuple[tuple[str, float], ...]  # names of fields and their numbers
OTHERS = ""  # in place of a name: the fields that are not named

_OPTIONAL = ("top_k", "top_p", "min_p", "typical_p")
_ACCEPTED: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "temperature",
        lambda x: x == 0 or SMALL <= x <= LARGE,
        "0 (greedy) or from 0.000001 to 1000000",
    ),
    (
        "top_k",
        lambda x: isinstance(x, Integral) and 1 <= x <= LARGE,
        "a whole number from 1 to 1000000",
    ),
    ("top_p", lambda x: SMALL <= x <= 1, "from 0.000001 to 1 (1 keeps all)"),
    ("min_p", lambda x: 0 <= x <= 1, "from 0 (which keeps all) to 1"),
    ("repetition_penalty", lambda x: SMALL <= x <= LARGE, "from 0.000001 to 1000000 (1: none)"),
    ("typical_p", lambda x: SMALL <= x <= 1, "from 0.000001 to 1 (1 keeps all)"),
    ("frequency_penalty", lambda x: abs(x) <= LARGE, "from -1000000 to 1000000"),
)


@dataclass(frozen=True)
class Sampling:
    """How the ids of one stream are drawn from logits.

    Each number holds for all fields of a token. Instead of one there may be a mapping from names of
    fields to numbers, or pairs of both: `{"pitch": 0.9, "velocity": 1.2}`. Other fields then have
    the number of `OTHERS`, or the default.

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

    temperature: float | ByField = 1.0
    top_k: int | ByField | None = None
    top_p: float | ByField | None = None
    min_p: float | ByField | None = None
    repetition_penalty: float | ByField = 1.0
    grammar: bool = True
    typical_p: float | ByField | None = None
    frequency_penalty: float | ByField = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, accepts, words in _ACCEPTED:
            value = _by_field(getattr(self, name))
            object.__setattr__(self, name, value)
            for field, number in value if isinstance(value, tuple) else ((OTHERS, value),):
                if number is None and name in _OPTIONAL:
                    continue
                if not isinstance(field, str) or not _is_number(number) or not accepts(number):
                    of_field = f" of field {field}" if field else ""
                    raise UserError(f"{name}{of_field} = {number}: must be {words}")
        if not isinstance(self.grammar, bool):
            raise UserError(f"grammar = {self.grammar}: must be true or false")
        object.__setattr__(self, "logit_bias", _pairs(self.logit_bias))

    def columns(self, fields: Sequence[str]) -> np.ndarray:
        """Return the settings of each field as float32 [F, 7], in the order of the constants above.

        Raises:
            UserError: a setting names a field that is not one of `fields`.
        """
        columns = np.repeat(NEUTRAL[None], len(fields), axis=0)
        for column, name in enumerate(_COLUMNS):
            for row, number in zip(columns, self._numbers(name, fields), strict=True):
                if number is not None:
                    row[column] = number
        return columns

    def top_ks(self, fields: Sequence[str]) -> np.ndarray:
        """Return `top_k` of each field as int64 [F], 0 for all; errors as for `columns`."""
        return np.array([k or 0 for k in self._numbers("top_k", fields)], dtype=np.int64)

    def _numbers(self, name: str, fields: Sequence[str]) -> list[float | None]:
        """Return a setting of each field."""
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return [value] * len(fields)
        given = dict(value)
        unknown = [field for field in given if field not in (*fields, OTHERS)]
        if unknown:
            raise UserError(
                f"{name} is given for {', '.join(unknown)}: the fields of these tokens are "
                f"{', '.join(fields)}"
            )
        others = given.get(OTHERS, getattr(Sampling, name))
        return [given.get(field, others) for field in fields]


_COLUMNS = (
    *("temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "frequency_penalty"),
    "grammar",
)


def parse_setting(text: str, number: Callable[[str], float]) -> float | dict[str, float]:
    """Read a setting as people write it: `0.9`, `pitch=0.9,velocity=1.2` or `0.9,velocity=1.2`.

    Args:
        text: a number for all fields; or for some by name, and perhaps one for all others.
        number: turns the text of a number into it, or raises an error of its own.

    Raises:
        UserError: a field is named twice, or several numbers have no name.
    """
    parts = [part.rpartition("=") for part in text.split(",")]
    given = {name.strip(): number(value.strip()) for name, _, value in parts}
    if len(given) < len(parts):
        raise UserError(f"{text} gives a field two numbers: name each field once")
    return given[OTHERS] if list(given) == [OTHERS] else given


def _by_field(value: Any) -> Any:
    """Turn a mapping, or a list as JSON has it, into pairs; leave numbers and all else alone."""
    if isinstance(value, Mapping):
        return tuple(value.items())
    if isinstance(value, list | tuple) and all(
        isinstance(x, list | tuple) and len(x) == 2 for x in value
    ):
        return tuple(tuple(pair) for pair in value)
    return value


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
