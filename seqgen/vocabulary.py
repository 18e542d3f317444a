"""What the model knows about tokens: fields and sizes, special ids, and which ids may follow.

Legend: B rows, T positions, F fields of one token, N vocabulary of a field, G groups of ids (token
types), R registers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ANY, NEVER = -1, -2  # in `Grammar.needs`: no condition, and one that never holds
RESET, KEEP = -1, -2  # in `Grammar.sets`: below every value, and unchanged
UNBOUNDED = np.iinfo(np.int32).max  # above every value of a register


@dataclass(frozen=True)
class Field:
    """One part of a token: its name and how many ids it has, special ids included."""

    name: str
    size: int


@dataclass(frozen=True)
class Grammar:
    """Which id of the first field may follow which, by the groups that ids begin and end with.

    A plain token begins and ends in the same group; a merged token (BPE) begins with the group of
    first part and ends with that of its last.

    Registers keep an order that groups do not see: positions that rise inside a bar, parts that
    come once in a bar. Each is a number of the stream, `RESET` at its beginning. An id may come
    only if, for each register, its number in `needs` is above the register's; its numbers in `sets`
    are then what the registers hold. So with register 0 for the part and 1 for the position:

        Bar         needs (ANY, ANY)   sets (RESET, RESET)
        Part r      needs (r, ANY)     sets (r, RESET)
        Position p  needs (ANY, p)     sets (KEEP, p)
        others      needs (ANY, ANY)   sets (KEEP, KEEP)

    `join_orders` gives those of a merged id.

    Attributes:
        first, last: group of each id [N], as tuples of ints.
        follows: G rows of G booleans: `follows[a][b]` says that group b may come after group a.
        units: whether an id completes a unit (a note) [N]; a sample may end only after one.
        needs, sets: conditions on the registers and their new values [N, R], as above; empty: R is
            0, and nothing is ordered.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    follows: tuple[tuple[bool, ...], ...]
    units: tuple[bool, ...]
    needs: tuple[tuple[int, ...], ...] = ()
    sets: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        size = len(self.first)
        if (self.needs or self.sets) and (len(self.needs), len(self.sets)) != (size, size):
            raise ValueError(
                f"the grammar has {size} ids, but needs of {len(self.needs)} and sets of "
                f"{len(self.sets)}"
            )
        widths = {len(row) for row in (*self.needs, *self.sets)}
        if len(widths) > 1:
            raise ValueError(f"needs and sets must have one number per register, got rows {widths}")
        if any(x < -2 for row in (*self.needs, *self.sets) for x in row):
            raise ValueError("needs and sets must hold values from 0, or -1 or -2")

    @property
    def n_registers(self) -> int:
        """Registers R."""
        return len(self.needs[0]) if self.needs else 0

    @cached_property
    def bounds(self) -> np.ndarray:
        """What each register must be below for each id: int32 [R, N], `UNBOUNDED` for `ANY`."""
        needs = self._by_register(self.needs)
        return np.where(needs == ANY, np.int32(UNBOUNDED), needs)

    @cached_property
    def changes(self) -> np.ndarray:
        """What each id sets each register to: int32 [R, N], `KEEP` where it does not."""
        return self._by_register(self.sets)

    def _by_register(self, rows: tuple[tuple[int, ...], ...]) -> np.ndarray:
        """Turn rows [N, R] into int32 [R, N]."""
        table = np.reshape(rows, (len(self.first), self.n_registers)).T
        return table.astype(np.int32, order="C")

    def registers_after(self, ids: np.ndarray) -> tuple[int, ...]:
        """Return what the registers hold after ids [T] from the beginning of a stream."""
        registers = []
        for changes in self.changes:
            made = changes[ids]
            made = made[made != KEEP]
            registers.append(int(made[-1]) if len(made) else RESET)
        return tuple(registers)

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
        if self.grammar is not None:
            self._check_grammar(self.grammar)
        outside = [i for i in self.anchors if not 0 <= i < self.fields[0].size]
        if outside:
            raise ValueError(
                f"anchors {outside} are no ids of field {self.fields[0].name!r}, "
                f"which has {self.fields[0].size}"
            )

    def _check_grammar(self, grammar: Grammar) -> None:
        if len(grammar.first) != self.fields[0].size:
            raise ValueError(
                f"the grammar has {len(grammar.first)} ids, "
                f"field {self.fields[0].name!r} has {self.fields[0].size}"
            )
        if grammar.needs and any(need != ANY for need in grammar.needs[self.eos_id]):
            raise ValueError(
                "eos must not need anything of the registers: a stream may have to end"
            )

    @property
    def n_registers(self) -> int:
        """Registers R of the grammar."""
        return 0 if self.grammar is None else self.grammar.n_registers

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

    def allowed(
        self, previous: np.ndarray, *, has_unit: np.ndarray, registers: np.ndarray | None = None
    ) -> np.ndarray:
        """Return which ids of the first field may come after the tokens `previous`.

        BOS and PAD are never generated; with a grammar, EOS only where it says so and only in rows
        that hold a whole unit already. Where nothing is left, EOS is.

        Args:
            previous: the last token of each row [B, F].
            has_unit: whether each row holds a unit already [B].
            registers: of the grammar, of each row [B, R]; None: they forbid nothing.

        Returns:
            Booleans [B, N] with at least one true entry in each row.
        """
        if self.grammar is None:
            mask = np.ones((len(previous), self.sizes[0]), dtype=bool)
        else:
            mask = self.grammar.table[self.grammar.last_group[previous[:, 0]]]
            mask[~has_unit, self.eos_id] = False
            if registers is not None:
                mask &= (self.grammar.bounds > registers[..., None]).all(axis=1)
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
            "needs": self.grammar.needs,
            "sets": self.grammar.sets,
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
            needs=tuple(tuple(row) for row in value["grammar"]["needs"]),
            sets=tuple(tuple(row) for row in value["grammar"]["sets"]),
        )
        return cls(
            fields=tuple(Field(name, size) for name, size in value["fields"]),
            bos_id=value["bos_id"],
            eos_id=value["eos_id"],
            pad_id=value["pad_id"],
            grammar=grammar,
            anchors=tuple(value["anchors"]),
        )


def join_orders(
    needs: Sequence[Sequence[int]], sets: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what an id needs and sets that stands for several plain ones (BPE), as in `Grammar`.

    Args:
        needs, sets: of the plain ids, in their order.
    """
    n_registers = len(needs[0])
    joined, after = [ANY] * n_registers, [KEEP] * n_registers
    for need, new in zip(needs, sets, strict=True):
        for r in range(n_registers):
            if need[r] != ANY and after[r] != KEEP:  # an earlier one of them has set it
                joined[r] = joined[r] if need[r] > after[r] else NEVER
            elif need[r] != ANY:
                joined[r] = need[r] if joined[r] == ANY else min(joined[r], need[r])
            after[r] = after[r] if new[r] == KEEP else new[r]
    return tuple(joined), tuple(after)


def _rows(matrix: Sequence[Sequence[int]]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(bool(x) for x in row) for row in matrix)
