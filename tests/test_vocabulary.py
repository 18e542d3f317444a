"""A vocabulary refuses what cannot be, and its grammar decides what may follow."""

import json

import numpy as np
import pytest

from seqgen.vocabulary import Field, Grammar, Vocabulary

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
    for v in (vocabulary, toy_vocabulary):
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
