"""Vocabularies whose grammar has registers."""

from collections.abc import Sequence

import numpy as np

from seqgen.vocabulary import ANY, KEEP, RESET, Field, Grammar, Vocabulary, join_orders

KINDS = ["pad", "bos", "eos", "bar", "part", "position", "note"]
FOLLOWS = {
    "bos": {"bar"},
    "bar": {"part", "bar"},
    "part": {"position", "part", "bar"},
    "position": {"note"},
    "note": {"note", "position", "part", "bar", "eos"},
}
MERGED = [
    ["bar", "part 0", "position 1"],
    ["position 1", "note"],
    ["note", "position 2", "note"],
    ["position 2", "note", "part 2"],
    ["note", "bar"],
]


def bars(merged: Sequence[Sequence[str]] = MERGED) -> tuple[Vocabulary, list[list[str]]]:
    """Bars that hold up to three parts in order, and parts that hold positions in order.

    Returns:
        The vocabulary, and the plain tokens that each id stands for; `merged` ones come last.
    """
    plain = ["pad", "bos", "eos", "bar", *(f"part {r}" for r in range(3))]
    plain += [*(f"position {p}" for p in range(4)), "note"]
    needs, sets = {}, {}
    for token in plain:
        kind, _, value = token.partition(" ")
        needs[token], sets[token] = (ANY, ANY), (KEEP, KEEP)
        if kind == "bar":
            sets[token] = (RESET, RESET)
        elif kind == "part":
            needs[token], sets[token] = (int(value), ANY), (int(value), RESET)
        elif kind == "position":
            needs[token], sets[token] = (ANY, int(value)), (KEEP, int(value))
    parts = [[token] for token in plain] + [list(tokens) for tokens in merged]
    orders = [join_orders([needs[t] for t in ts], [sets[t] for t in ts]) for ts in parts]
    groups = [[KINDS.index(token.split()[0]) for token in tokens] for tokens in parts]
    grammar = Grammar(
        first=tuple(kinds[0] for kinds in groups),
        last=tuple(kinds[-1] for kinds in groups),
        follows=tuple(tuple(b in FOLLOWS.get(a, ()) for b in KINDS) for a in KINDS),
        units=tuple("note" in tokens for tokens in parts),
        needs=tuple(order[0] for order in orders),
        sets=tuple(order[1] for order in orders),
    )
    fields = (Field("token", len(parts)),)
    return Vocabulary(fields, bos_id=1, eos_id=2, pad_id=0, grammar=grammar), parts


def goes_forward(tokens: Sequence[str]) -> bool:
    """Whether plain tokens of `bars` are in order: parts inside a bar, positions inside a part."""
    part = position = -1
    for token in tokens:
        kind, _, value = token.partition(" ")
        before = {"part": part, "position": position}.get(kind, -1)
        if value and int(value) <= before:
            return False
        if kind == "bar":
            part = position = -1
        elif kind == "part":
            part, position = int(value), -1
        elif kind == "position":
            position = int(value)
    return True


def compound() -> Vocabulary:
    """Bars, times with a position, and notes of three kinds; positions rise in a bar."""
    fields = (Field("kind", 8), Field("position", 7), Field("pitch", 8), Field("length", 6))
    kinds = ["pad", "bos", "eos", "bar", "position", "note"]
    groups = (*range(6), 5, 5)
    follows = {**FOLLOWS, "bar": {"position", "bar"}, "note": {"note", "position", "bar", "eos"}}
    n_ids = sum(field.size for field in fields)
    needs, sets = [(ANY,)] * n_ids, [(KEEP,)] * n_ids
    sets[3] = (RESET,)
    for p in range(4):
        needs[8 + 3 + p] = sets[8 + 3 + p] = (p,)
    grammar = Grammar(
        first=groups,
        last=groups,
        follows=tuple(tuple(b in follows.get(a, ()) for b in kinds) for a in kinds),
        units=(False,) * 5 + (True,) * 3,
        needs=tuple(needs),
        sets=tuple(sets),
    )
    notes = ((False, True, True), (False, True, False), (False, False, False))
    used = ((False,) * 3,) * 4 + ((True, False, False), *notes)
    ids = {"bos_id": 1, "eos_id": 2, "pad_id": 0}
    return Vocabulary(fields, **ids, grammar=grammar, used=used, anchors=(3,))


def at_random(seed: int, *sizes: int) -> Vocabulary:
    """Fields of these sizes with any groups, uses, and conditions on up to three registers."""
    rng = np.random.default_rng(seed)
    sizes = sizes or (24,)
    n_ids, n_first = sum(sizes), sizes[0]
    n_groups, n_registers = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    group = rng.integers(n_groups, size=(2, n_first))
    needs = rng.integers(-4, 5, size=(n_ids, n_registers))
    needs[rng.random(needs.shape) < 0.5] = ANY
    sets = rng.integers(-4, 4, size=(n_ids, n_registers))
    needs[2] = ANY
    for start in np.cumsum(sizes)[:-1]:
        needs[start : start + 3], sets[start : start + 3] = ANY, KEEP
    grammar = Grammar(
        first=tuple(group[0].tolist()),
        last=tuple(group[1].tolist()),
        follows=tuple(tuple(row) for row in (rng.random((n_groups, n_groups)) < 0.7).tolist()),
        units=tuple((rng.random(n_first) < 0.3).tolist()),
        needs=tuple(tuple(row) for row in needs.tolist()),
        sets=tuple(tuple(row) for row in sets.tolist()),
    )
    return Vocabulary(
        tuple(Field(f"field {f}", size) for f, size in enumerate(sizes)),
        bos_id=1,
        eos_id=2,
        pad_id=0,
        grammar=grammar,
        used=tuple(tuple(row) for row in (rng.random((n_first, len(sizes) - 1)) < 0.6).tolist()),
    )
