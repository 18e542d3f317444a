"""What the model knows about tokens: fields and sizes, special ids, and which ids may follow.

Legend: B rows, F fields of one token, N vocabulary of a field, G groups of ids (token types).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Field:
    """One part of a token: its name and how many ids it has, special ids included."""

    name: str
    size: int


@dataclass(frozen=True)
class Grammar:
    """Which id of the first field may follow which, by the groups that ids begin and end with.

    A plain token begins and ends in the same group; a merged token (BPE) begins with the group of
    its first part and ends with that of its last.

    Attributes:
        first, last: group of each id [N], as tuples of ints.
        follows: G rows of G booleans: `follows[a][b]` says that group b may come after group a.
        units: whether an id completes a unit (a note) [N]; a sample may end only after one.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    follows: tuple[tuple[bool, ...], ...]
    units: tuple[bool, ...]

    @cached_property
    def table(self) -> np.ndarray:
        """Legal next ids by group of the previous one: booleans [G, N]."""
        return np.asarray(self.follows, dtype=bool)[:, np.asarray(self.first)]

    @cached_property
    def last_group(self) -> np.ndarray:
        """Group in which each id ends [N]."""
        return np.asarray(self.last)

    @cached_property
    def completes_unit(self) -> np.ndarray:
        """Whether each id completes a unit [N]."""
        return np.asarray(self.units, dtype=bool)


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a tokenizer as the model sees them.

    A special token carries its id in every field; the first one decides.

    Attributes:
        anchors: ids of the first field from which `model.positions=bars` counts positions; may be
            empty.
    """

    fields: tuple[Field, ...]
    bos_id: int
    eos_id: int
    pad_id: int
    grammar: Grammar | None = None
    anchors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("a vocabulary needs at least one field")
        special = (self.bos_id, self.eos_id, self.pad_id)
        if len(set(special)) != 3:
            raise ValueError(f"bos, eos and pad must be three different ids, got {special}")
        for field in self.fields:
            if not 0 <= min(special) <= max(special) < field.size:
                raise ValueError(f"field {field.name!r} of size {field.size} lacks ids {special}")
        if self.grammar is not None and len(self.grammar.first) != self.fields[0].size:
            raise ValueError(
                f"the grammar has {len(self.grammar.first)} ids, "
                f"field {self.fields[0].name!r} has {self.fields[0].size}"
            )
        outside = [i for i in self.anchors if not 0 <= i < self.fields[0].size]
        if outside:
            raise ValueError(
                f"anchors {outside} are no ids of field {self.fields[0].name!r}, "
                f"which has {self.fields[0].size}"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ids per field."""
        return tuple(field.size for field in self.fields)

    @property
    def special_ids(self) -> tuple[int, int, int]:
        """The ids of the special tokens: bos, eos, pad."""
        return (self.bos_id, self.eos_id, self.pad_id)

    def special_token(self, special_id: int) -> np.ndarray:
        """The token [F] that carries `special_id` in every field."""
        return np.full(len(self.fields), special_id, dtype=np.int64)

    def allowed(self, previous: np.ndarray, *, has_unit: np.ndarray) -> np.ndarray:
        """Return which ids of the first field may come after the tokens `previous`.

        BOS and PAD are never generated; with a grammar, EOS only where it says so and only in rows
        that hold a whole unit already.

        Args:
            previous: the last token of each row [B, F].
            has_unit: whether each row holds a unit already [B].

        Returns:
            Booleans [B, N] with at least one true entry in each row.
        """
        if self.grammar is None:
            mask = np.ones((len(previous), self.sizes[0]), dtype=bool)
        else:
            mask = self.grammar.table[self.grammar.last_group[previous[:, 0]]]
            mask[~has_unit, self.eos_id] = False
        mask[:, [self.bos_id, self.pad_id]] = False
        stuck = ~mask.any(axis=1)
        mask[stuck, self.eos_id] = True
        return mask

    def to_json(self) -> dict:
        """Return a value that `from_json` turns back into this vocabulary."""
        grammar = self.grammar and {
            "first": self.grammar.first,
            "last": self.grammar.last,
            "follows": [[int(x) for x in row] for row in self.grammar.follows],
            "units": [int(x) for x in self.grammar.units],
        }
        return {
            "fields": [[field.name, field.size] for field in self.fields],
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "pad_id": self.pad_id,
            "grammar": grammar,
            "anchors": self.anchors,
        }

    @classmethod
    def from_json(cls, value: dict) -> "Vocabulary":
        """Rebuild a vocabulary from `to_json`'s value; KeyError or TypeError for another value."""
        grammar = value["grammar"] and Grammar(
            first=tuple(value["grammar"]["first"]),
            last=tuple(value["grammar"]["last"]),
            follows=_rows(value["grammar"]["follows"]),
            units=tuple(bool(x) for x in value["grammar"]["units"]),
        )
        return cls(
            fields=tuple(Field(name, size) for name, size in value["fields"]),
            bos_id=value["bos_id"],
            eos_id=value["eos_id"],
            pad_id=value["pad_id"],
            grammar=grammar,
            anchors=tuple(value["anchors"]),
        )


def _rows(matrix: Sequence[Sequence[int]]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(bool(x) for x in row) for row in matrix)
