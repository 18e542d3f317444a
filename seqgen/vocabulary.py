"""What the model knows about tokens: fields and sizes, special ids, and which ids may follow.

Legend: B rows, T positions, F fields of one token, N vocabulary of a field, G groups of ids: token
types in a grammar, or marks that stay in force; R registers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# In `Grammar.needs`: above every value of a register, and below all: no condition, and one that
# never holds.
ANY, NEVER = 2**31 - 1, -(2**31)
# In `Grammar.sets`: the value at the beginning; unchanged; RESET if the id changes an earlier
# register, else KEEP; one less than before.
RESET, KEEP, FOLLOW, LESS = -1, -2, -3, -4
MAX_REGISTERS = 8


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

    Where the same value may come again, the id sets one less. Where bars have numbers that must not
    fall, and positions rise inside them, Bar b needs (b, ANY) and sets (b - 1, FOLLOW). Where bars
    are counted, Bar sets `LESS`: after k bars the register is RESET - k, and an id that needs
    RESET - n may come only after more than n of them. In tokens of several fields, each field's id
    counts before the next one is drawn. `join_orders` gives the rows of a merged id.

    Attributes:
        first, last: group of each id [N], as tuples of ints.
        follows: G rows of G booleans: `follows[a][b]` says that group b may come after group a.
        units: whether an id completes a unit (a note) [N]; a sample may end only after one.
        needs, sets: conditions on the registers and their new values, as above, for the ids of all
            fields side by side [sum of all N, R]; empty: R is 0, and nothing is ordered.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]
    follows: tuple[tuple[bool, ...], ...]
    units: tuple[bool, ...]
    needs: tuple[tuple[int, ...], ...] = ()
    sets: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.needs) != len(self.sets):
            raise ValueError(
                f"needs are given for {len(self.needs)} ids and sets for {len(self.sets)}"
            )
        widths = {len(row) for row in (*self.needs, *self.sets)}
        if len(widths) > 1:
            raise ValueError(f"needs and sets must have one number per register, got rows {widths}")
        if self.n_registers > MAX_REGISTERS:
            raise ValueError(f"a grammar has at most {MAX_REGISTERS} registers")
        if any(not NEVER <= x <= ANY for row in self.needs for x in row):
            raise ValueError(f"needs must be values from {NEVER} (NEVER) to {ANY} (ANY)")
        if any(not LESS <= x < ANY for row in self.sets for x in row):
            raise ValueError(
                "sets must be values from 0, RESET (-1), KEEP (-2), FOLLOW (-3) or LESS (-4)"
            )

    @property
    def n_registers(self) -> int:
        """Registers R."""
        return len(self.needs[0]) if self.needs else 0

    @cached_property
    def bounds(self) -> np.ndarray:
        """What each register must be below for each id of all fields.

        int32 [R, sum of all N]; with no registers [0, N] of the first field.
        """
        return self._by_register(self.needs)

    @cached_property
    def changes(self) -> np.ndarray:
        """What each id sets each register to, shaped as `bounds`."""
        return self._by_register(self.sets)

    def _by_register(self, rows: tuple[tuple[int, ...], ...]) -> np.ndarray:
        table = np.reshape(rows, (len(rows) or len(self.first), self.n_registers)).T
        return table.astype(np.int32, order="C")

    def registers_after(
        self, ids: np.ndarray, before: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """Return what the registers hold after ids [T].

        Args:
            ids: of all fields side by side, as `Vocabulary.side_by_side` gives them.
            before: what they held; None: the ids are the beginning of a stream.
        """
        registers = []
        changed = np.zeros(len(ids), dtype=bool)  # whether each id changes a register before
        for changes, start in zip(self.changes, before or [RESET] * self.n_registers, strict=True):
            made = changes[ids]
            made = np.where(made == FOLLOW, np.where(changed, RESET, KEEP), made)
            places = np.flatnonzero(made != KEEP)
            values = np.array([start, *made[places]])
            is_less = np.array([False, *(made[places] == LESS)])
            lower = np.cumsum(is_less)  # how often so far
            since = np.maximum.accumulate(np.where(is_less, 0, np.arange(len(values))))
            values = values[since] - (lower - lower[since])
            changed[places] |= values[1:] != values[:-1]
            registers.append(int(values[-1]))
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

    The first field decides which later ones mean something. A later field that means nothing holds
    `pad_id` and is neither drawn nor counted. A special token carries its id in every field, and
    all but the first mean nothing.

    Attributes:
        used: for each id of the first field, whether each later field means something with it
            [N, F - 1]; empty: all do. Rows of special ids do not count.
        anchors: ids of the first field from which `model.positions=bars` counts positions; may be
            empty.
        held: groups of ids of the first field that stay in force: the model knows at each position
            which of a group came last, until the first one of the group, which ends that.
        axes: sizes of the axes along which the tokens of a piece lie, the last one fastest: rows
            and columns of an image. Each piece has exactly their product of tokens between BOS and
            EOS. Empty: pieces are of any length.
    """

    fields: tuple[Field, ...]
    bos_id: int
    eos_id: int
    pad_id: int
    grammar: Grammar | None = None
    anchors: tuple[int, ...] = ()
    used: tuple[tuple[bool, ...], ...] = ()
    held: tuple[tuple[int, ...], ...] = ()
    axes: tuple[int, ...] = ()

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
        n, others = self.fields[0].size, len(self.fields) - 1
        if self.used and (len(self.used) != n or {len(row) for row in self.used} != {others}):
            raise ValueError(
                f"used must be {n} rows, one for each id of field {self.fields[0].name!r}, of "
                f"{others} booleans, one for each later field"
            )
        outside = [i for i in self.anchors if not 0 <= i < self.fields[0].size]
        if outside:
            raise ValueError(
                f"anchors {outside} are no ids of field {self.fields[0].name!r}, "
                f"which has {self.fields[0].size}"
            )
        if any(size < 1 for size in self.axes):
            raise ValueError(f"axes {self.axes} must all be 1 or more")
        held = [i for group in self.held for i in group]
        ids = set(range(n)) - set(special)
        if not ids.issuperset(held) or len(set(held)) < len(held):
            raise ValueError(
                f"held must be different ids of field {self.fields[0].name!r}, none of them "
                f"special, got {held}"
            )
        if any(len(group) < 2 for group in self.held):
            raise ValueError("a group of held ids needs one that ends it, and one that holds")

    def _check_grammar(self, grammar: Grammar) -> None:
        if len(grammar.first) != self.fields[0].size:
            raise ValueError(
                f"the grammar has {len(grammar.first)} ids, "
                f"field {self.fields[0].name!r} has {self.fields[0].size}"
            )
        if not grammar.needs:
            return
        if len(grammar.needs) != sum(self.sizes):
            raise ValueError(
                f"the grammar orders {len(grammar.needs)} ids, and all fields together have "
                f"{sum(self.sizes)}"
            )
        if any(need != ANY for need in grammar.needs[self.eos_id]):
            raise ValueError("eos must need nothing of the registers: a stream may have to end")
        for start in self.starts[1:]:
            for i in start + np.array(self.special_ids):
                if set(grammar.needs[i]) != {ANY} or set(grammar.sets[i]) != {KEEP}:
                    raise ValueError(
                        f"special id {i - start} of a later field must need and set nothing"
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
    def length(self) -> int | None:
        """Tokens of every piece between BOS and EOS; None: pieces are of any length."""
        return math.prod(self.axes) if self.axes else None

    @property
    def starts(self) -> tuple[int, ...]:
        """Where each field begins when the ids of all fields stand side by side."""
        return tuple(int(start) for start in np.cumsum([0, *self.sizes[:-1]]))

    def side_by_side(self, tokens: np.ndarray) -> np.ndarray:
        """Turn tokens [T, F] into ids of all fields side by side [T F]."""
        return (tokens + np.array(self.starts)).reshape(-1)

    @cached_property
    def uses(self) -> np.ndarray:
        """Whether each field means something with each id of the first one: booleans [N, F]."""
        uses = np.ones((self.fields[0].size, len(self.fields)), dtype=bool)
        if self.used:
            uses[:, 1:] = self.used
        uses[list(self.special_ids), 1:] = False
        return uses

    @cached_property
    def fills(self) -> np.ndarray:
        """What unused fields hold with each id of the first one: ids [N]."""
        fills = np.full(self.fields[0].size, self.pad_id, dtype=np.int64)
        fills[list(self.special_ids)] = self.special_ids
        return fills

    def fill_unused(self, tokens: np.ndarray) -> np.ndarray:
        """Return tokens [..., F] with what belongs into fields that mean nothing."""
        first = tokens[..., 0]
        return np.where(self.uses[first], tokens, self.fills[first][..., None])

    @cached_property
    def holds(self) -> np.ndarray:
        """What each id of the first field puts in force in each group of `held`: int64 [N, G].

        The ids that hold are numbered from 1 on, over all groups; 0 stands for none of them, and -1
        for what was in force before.
        """
        holds = np.full((self.fields[0].size, len(self.held)), -1, dtype=np.int64)
        n = 1
        for g, (end, *others) in enumerate(self.held):
            holds[end, g] = 0
            holds[others, g] = np.arange(n, n + len(others))
            n += len(others)
        return holds

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
                bounds = self.grammar.bounds[:, : self.sizes[0]]
                mask &= (bounds > registers[..., None]).all(axis=1)
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
            "used": [[int(x) for x in row] for row in self.used],
            "held": self.held,
            "axes": self.axes,
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
            used=_rows(value["used"]),
            held=tuple(tuple(group) for group in value["held"]),
            axes=tuple(value["axes"]),
        )


def join_orders(
    needs: Sequence[Sequence[int]], sets: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what an id needs and sets that stands for several plain ones (BPE), as in `Grammar`.

    Args:
        needs, sets: of the plain ids, in their order.

    Raises:
        ValueError: one of several sets a register to `FOLLOW`, or more than one of them need or set
            one that is set to `LESS`: that depends on the registers.
    """
    if len(sets) == 1:
        return tuple(needs[0]), tuple(sets[0])
    if any(x == FOLLOW for new in sets for x in new):
        raise ValueError("ids that set a register to FOLLOW cannot be merged")
    for needed, made in zip(zip(*needs, strict=True), zip(*sets, strict=True), strict=True):
        used = sum(a != ANY or b != KEEP for a, b in zip(needed, made, strict=True))
        if LESS in made and used > 1:
            raise ValueError("ids that set a register to LESS cannot be merged with others of it")
    n_registers = len(needs[0])
    joined, after = [ANY] * n_registers, [KEEP] * n_registers
    for need, new in zip(needs, sets, strict=True):
        for r in range(n_registers):
            if need[r] != ANY and after[r] != KEEP:  # an earlier one of them has set it
                joined[r] = joined[r] if need[r] > after[r] else NEVER
            elif need[r] != ANY:
                joined[r] = min(joined[r], need[r])
            after[r] = after[r] if new[r] == KEEP else new[r]
    return tuple(joined), tuple(after)


def _rows(matrix: Sequence[Sequence[int]]) -> tuple[tuple[bool, ...], ...]:
    return tuple(tuple(bool(x) for x in row) for row in matrix)
