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


def at_random(seed: int, n_ids: int = 24) -> Vocabulary:
    """Any groups, and any conditions on up to three registers."""
    rng = np.random.default_rng(seed)
    n_groups, n_registers = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    group = rng.integers(n_groups, size=(2, n_ids))
    needs = rng.integers(-2, 5, size=(n_ids, n_registers))
    needs[rng.random(needs.shape) < 0.5] = ANY
    needs[2] = ANY
    sets = rng.integers(-2, 4, size=(n_ids, n_registers))
    grammar = Grammar(
        first=tuple(group[0].tolist()),
        last=tuple(group[1].tolist()),
        follows=tuple(tuple(row) for row in (rng.random((n_groups, n_groups)) < 0.7).tolist()),
        units=tuple((rng.random(n_ids) < 0.3).tolist()),
        needs=tuple(tuple(row) for row in needs.tolist()),
        sets=tuple(tuple(row) for row in sets.tolist()),
    )
    return Vocabulary((Field("token", n_ids),), bos_id=1, eos_id=2, pad_id=0, grammar=grammar)
