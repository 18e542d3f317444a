"""A vocabulary refuses what cannot be, and its grammar decides what may follow."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ordered import at_random, bars, compound

from seqgen.vocabulary import (
    ANY,
    FOLLOW,
    KEEP,
    LESS,
    NEVER,
    RESET,
    Field,
    Grammar,
    Vocabulary,
    join_orders,
)

# ids: 0 pad, 1 bos, 2 eos, 3 bar, 4 pitch, 5 duration, 6 a merge of bar and pitch
GROUPS = {"pad": 0, "bos": 1, "eos": 2, "bar": 3, "pitch": 4, "duration": 5}
FOLLOWS = {
    "pad": ["pad"],
    "bos": ["bar"],
    "eos": ["pad"],
    "bar": ["pitch", "bar"],
    "pitch": ["duration"],
    "duration": ["pitch", "bar", "eos"],
}


@pytest.fixture
def vocabulary():
    follows = tuple(tuple(b in FOLLOWS[a] for b in GROUPS) for a in GROUPS)
    grammar = Grammar(
        first=(0, 1, 2, 3, 4, 5, 3),
        last=(0, 1, 2, 3, 4, 5, 4),
        follows=follows,
        units=(False,) * 5 + (True, False),
    )
    return Vocabulary((Field("token", 7),), bos_id=1, eos_id=2, pad_id=0, grammar=grammar)


@pytest.mark.parametrize(
    ("previous", "has_unit", "legal"),
    [
        (1, False, {3, 6}),
        (3, False, {3, 4, 6}),
        (4, False, {5}),
        (6, False, {5}),  # a merge ends in the group of its last part
        (5, True, {2, 3, 4, 6}),
        (5, False, {3, 4, 6}),  # no ending before the first unit
    ],
)
def test_allowed_follows_the_graph(vocabulary, previous, has_unit, legal):
    mask = vocabulary.allowed(np.array([[previous]]), has_unit=np.array([has_unit]))
    assert set(np.flatnonzero(mask[0])) == legal


def test_rows_are_masked_apart(vocabulary):
    mask = vocabulary.allowed(np.array([[1], [4]]), has_unit=np.array([False, True]))
    assert set(np.flatnonzero(mask[0])) == {3, 6}
    assert set(np.flatnonzero(mask[1])) == {5}


def test_without_grammar_all_but_bos_and_pad_may_follow():
    v = Vocabulary((Field("token", 5),), bos_id=1, eos_id=2, pad_id=0)
    mask = v.allowed(np.array([[3]]), has_unit=np.array([False]))
    assert set(np.flatnonzero(mask[0])) == {2, 3, 4}


def test_json_round_trip(vocabulary, toy_vocabulary):
    for v in (vocabulary, toy_vocabulary, bars()[0], compound(), at_random(3, 9, 5, 7)):
        assert Vocabulary.from_json(json.loads(json.dumps(v.to_json()))) == v


@pytest.mark.parametrize(
    ("fields", "special"),
    [
        ((), (1, 2, 0)),
        ((Field("a", 5),), (1, 1, 0)),
        ((Field("a", 5), Field("b", 2)), (1, 2, 0)),
        ((Field("a", 5),), (1, 5, 0)),
    ],
)
def test_impossible_vocabularies_are_refused(fields, special):
    bos, eos, pad = special
    with pytest.raises(ValueError, match=r"field|different"):
        Vocabulary(fields, bos_id=bos, eos_id=eos, pad_id=pad)


def test_a_grammar_of_another_size_is_refused(vocabulary):
    with pytest.raises(ValueError, match="grammar has 7"):
        Vocabulary((Field("t", 9),), bos_id=1, eos_id=2, pad_id=0, grammar=vocabulary.grammar)


@pytest.mark.parametrize("anchor", [-1, 7])
def test_anchors_that_are_no_ids_are_refused(anchor):
    with pytest.raises(ValueError, match=rf"anchors \[{anchor}\] are no ids"):
        Vocabulary((Field("t", 7),), bos_id=1, eos_id=2, pad_id=0, anchors=(3, anchor))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (((3, 7),), "different ids of field 't'"),
        (((3, 1),), "none of them special"),
        (((3, 4), (5, 4)), "different ids"),
        (((3,),), "one that ends it"),
    ],
)
def test_impossible_groups_of_held_ids_are_refused(held, said):
    with pytest.raises(ValueError, match=said):
        Vocabulary((Field("t", 7),), bos_id=1, eos_id=2, pad_id=0, held=held)


def test_held_ids_are_numbered_over_all_groups():
    held = ((3, 6, 4), (8, 5))
    v = Vocabulary((Field("t", 9),), bos_id=1, eos_id=2, pad_id=0, held=held)
    assert v.holds[[3, 6, 4]].tolist() == [[0, -1], [1, -1], [2, -1]]
    assert v.holds[[8, 5]].tolist() == [[-1, 0], [-1, 3]]
    assert (v.holds[[0, 1, 2, 7]] == -1).all()
    assert Vocabulary.from_json(json.loads(json.dumps(v.to_json()))) == v


def names_after(v, parts, tokens):
    """What may follow plain tokens, in a piece that may end."""
    ids = np.array([parts.index([token]) for token in tokens])
    registers = np.array([v.grammar.registers_after(ids)])
    mask = v.allowed(ids[None, -1:], has_unit=np.array([True]), registers=registers)[0]
    return {"+".join(parts[i]) for i in np.flatnonzero(mask)}


def test_registers_forbid_what_would_go_back():
    v, parts = bars([["position 1", "note"], ["note", "bar", "part 1"]])
    note = ["bos", "bar", "part 1", "position 1", "note"]
    merged = "note+bar+part 1"
    later = {"note", "bar", "eos", "part 2", "position 2", "position 3", merged}
    assert names_after(v, parts, note) == later
    assert names_after(v, parts, [*note, "part 2"]) >= {"position 0", "position 1+note"}
    assert names_after(v, parts, [*note, "part 2", "position 3", "note"]) == {
        *("note", "bar", "eos", merged)
    }
    assert "part 0" in names_after(v, parts, [*note, "bar"])


@pytest.mark.parametrize(
    ("needs", "sets", "expected"),
    [
        (((3,),), ((3,),), ((3,), (3,))),
        (((ANY,), (3,)), ((KEEP,), (3,)), ((3,), (3,))),
        (((2,), (5,)), ((2,), (5,)), ((2,), (5,))),
        (((ANY,), (1,)), ((RESET,), (1,)), ((ANY,), (1,))),  # a bar, then a position in it
        (((4,), (ANY,), (1,)), ((4,), (RESET,), (1,)), ((4,), (1,))),
        (((5,), (2,)), ((5,), (2,)), ((NEVER,), (2,))),  # which goes back by itself
        (((5,), (2,)), ((KEEP,), (KEEP,)), ((2,), (KEEP,))),
        (((1, ANY), (ANY, 2)), ((KEEP, 0), (3, KEEP)), ((1, ANY), (3, 0))),
    ],
)
def test_a_merged_id_needs_what_its_parts_need_and_sets_what_they_set(needs, sets, expected):
    assert join_orders(needs, sets) == expected


def test_a_merged_id_may_come_exactly_where_its_parts_may():
    rng = np.random.default_rng(0)
    for _ in range(500):
        n, R = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        needs, sets = rng.integers(-1, 5, (n, R)), rng.integers(-2, 5, (n, R))
        needs[rng.random(needs.shape) < 0.4] = ANY
        joined, after = join_orders(needs.tolist(), sets.tolist())
        registers = start = rng.integers(-1, 5, R)
        possible = True
        for need, new in zip(needs, sets, strict=True):
            possible &= bool(((need == ANY) | (need > registers)).all())
            registers = np.where(new == KEEP, registers, new)
        assert possible == all(a == ANY or a > b for a, b in zip(joined, start, strict=True))
        assert [b if a == KEEP else a for a, b in zip(after, start, strict=True)] == list(registers)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"needs": ((0,),) * 7}, "needs are given for 7 ids and sets for 0"),
        ({"needs": ((0,),) * 7, "sets": ((0,),) * 6}, "for 7 ids and sets for 6"),
        ({"needs": ((0,),) * 7, "sets": ((0, 1),) * 7}, "one number per register"),
        ({"needs": ((0,) * 9,) * 7, "sets": ((0,) * 9,) * 7}, "at most 8"),
        ({"needs": ((2**31,),) * 7, "sets": ((0,),) * 7}, "needs must be"),
        ({"needs": ((0,),) * 7, "sets": ((-5,),) * 7}, "sets must be"),
    ],
)
def test_registers_that_do_not_fit_are_refused(vocabulary, changes, said):
    with pytest.raises(ValueError, match=said):
        replace(vocabulary.grammar, **changes)


def test_an_ending_that_waits_for_a_register_is_refused():
    grammar = at_random(0).grammar
    needs = [list(row) for row in grammar.needs]
    needs[2][0] = 3
    grammar = replace(grammar, needs=tuple(map(tuple, needs)))
    with pytest.raises(ValueError, match="eos must need nothing"):
        Vocabulary((Field("token", 24),), bos_id=1, eos_id=2, pad_id=0, grammar=grammar)


def test_the_first_field_says_what_the_others_hold():
    v = compound()
    tokens = np.array([[1, 1, 1, 1], [3, 4, 5, 3], [4, 5, 6, 4], [5, 6, 7, 5], [7, 4, 4, 4]])
    wanted = [[1, 1, 1, 1], [3, 0, 0, 0], [4, 5, 0, 0], [5, 0, 7, 5], [7, 0, 0, 0]]
    assert v.fill_unused(tokens).tolist() == wanted
    for special in v.special_ids:
        assert v.fill_unused(v.special_token(special)).tolist() == [special] * 4
        assert v.uses[special].tolist() == [True, False, False, False]


def test_all_fields_are_used_unless_something_is_said(toy_vocabulary):
    assert toy_vocabulary.uses[3:].all()
    assert not toy_vocabulary.uses[:3, 1:].any()


@pytest.mark.parametrize("used", [((True, True),) * 8, ((True, True, True),) * 7])
def test_uses_of_another_size_are_refused(used):
    v = compound()
    with pytest.raises(ValueError, match=r"used must be 8 rows.*of 3 booleans"):
        replace(v, used=used)


def test_registers_of_another_number_of_ids_are_refused():
    v = compound()
    grammar = replace(v.grammar, needs=v.grammar.needs[:8], sets=v.grammar.sets[:8])
    with pytest.raises(ValueError, match="orders 8 ids, and all fields together have 29"):
        replace(v, grammar=grammar)


def test_special_ids_of_later_fields_keep_out_of_the_order():
    v = compound()
    sets = [list(row) for row in v.grammar.sets]
    sets[8 + 2] = [1]
    with pytest.raises(ValueError, match="special id 2 of a later field"):
        replace(v, grammar=replace(v.grammar, sets=tuple(map(tuple, sets))))


def test_numbered_bars_never_fall_and_positions_start_anew_only_with_a_new_one():
    """Octuple: each token names its bar, then its position."""
    bar = [((b, ANY), (b - 1, FOLLOW)) for b in range(4)]
    position = [((ANY, p), (KEEP, p - 1)) for p in range(3)]
    rows = [*bar, *position]
    grammar = Grammar(
        first=(0,) * 4,
        last=(0,) * 4,
        follows=((True,),),
        units=(True,) * 4,
        needs=tuple(needs for needs, _ in rows),
        sets=tuple(sets for _, sets in rows),
    )

    def may_follow(*ids):
        registers = np.array(grammar.registers_after(np.array(ids, dtype=np.int64)))
        return set(np.flatnonzero((grammar.bounds > registers[:, None]).all(0)))

    assert may_follow() == {0, 1, 2, 3, 4, 5, 6}
    assert may_follow(1, 5) & {0, 1, 2, 3} == {1, 2, 3}
    assert may_follow(1, 5, 1) & {4, 5, 6} == {5, 6}
    assert may_follow(1, 6, 1, 6, 2) & {4, 5, 6} == {4, 5, 6}
    assert may_follow(0, 6) & {4, 5, 6} == {6}


def test_ids_that_follow_registers_cannot_be_merged():
    with pytest.raises(ValueError, match="FOLLOW cannot be merged"):
        join_orders([(1, ANY), (ANY, 1)], [(0, FOLLOW), (KEEP, 1)])


def test_counted_bars_are_merged_with_ids_that_do_not_ask_for_them():
    assert join_orders([(ANY, ANY), (2, ANY)], [(RESET, LESS), (2, KEEP)]) == (
        (ANY, ANY),
        (2, LESS),
    )
    with pytest.raises(ValueError, match="LESS cannot be merged"):
        join_orders([(ANY,), (-2,)], [(LESS,), (KEEP,)])


def test_what_lies_so_many_bars_back_may_be_named_once_there_are_more_bars():
    n_back = [((RESET - n,), (KEEP,)) for n in (1, 2, 3)]
    rows = [((ANY,), (LESS,)), *n_back]  # a bar; one, two and three bars back
    grammar = Grammar(
        first=(0,) * 4,
        last=(0,) * 4,
        follows=((True,),),
        units=(True,) * 4,
        needs=tuple(needs for needs, _ in rows),
        sets=tuple(sets for _, sets in rows),
    )
    for n_bars in range(6):
        ids = [0] * n_bars + [1] * (n_bars > 1)
        (bars,) = grammar.registers_after(np.array(ids, dtype=np.int64))
        assert bars == RESET - n_bars
        back = [n for n in (1, 2, 3) if grammar.bounds[0, n] > bars]
        assert back == [n for n in (1, 2, 3) if n < n_bars]


def test_registers_go_on_from_what_they_held():
    rng = np.random.default_rng(0)
    made = [RESET, KEEP, FOLLOW, LESS, 0, 1, 5]
    sets = tuple(tuple(int(x) for x in rng.choice(made, 3)) for _ in range(12))
    grammar = Grammar(
        first=(0,) * 12,
        last=(0,) * 12,
        follows=((True,),),
        units=(True,) * 12,
        needs=((ANY,) * 3,) * 12,
        sets=sets,
    )
    for _ in range(50):
        ids = rng.integers(12, size=20)
        cut = int(rng.integers(21))
        before = grammar.registers_after(ids[:cut])
        assert grammar.registers_after(ids[cut:], before) == grammar.registers_after(ids)
