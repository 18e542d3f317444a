"""Marks that stay in force: each position knows which of a group came last."""

import torch
from making import random_tokens

from seqgen.model.embedding import HeldMarks
from seqgen.vocabulary import Field, Vocabulary


def loop(vocabulary, tokens, before, boundaries):
    """What is in force at each position, as the rule reads."""
    rows = []
    for row, held, begins in zip(tokens[..., 0].tolist(), before.tolist(), boundaries, strict=True):
        found = []
        for i, begin in zip(row, begins.tolist(), strict=True):
            held = [0] * len(held) if begin else held
            sets = vocabulary.holds[i].tolist()
            held = [h if new < 0 else new for h, new in zip(held, sets, strict=True)]
            found.append(held)
        rows.append(found)
    return torch.tensor(rows)


def test_the_last_mark_of_each_group_is_in_force(plain_vocabulary, toy_vocabulary):
    for vocabulary in (plain_vocabulary, toy_vocabulary):
        marks = HeldMarks(vocabulary, 8)
        tokens = random_tokens(vocabulary, 5, 40)
        numbers = vocabulary.holds.max(axis=0)
        before = torch.stack([torch.randint(int(n) + 1, (5,)) for n in numbers], dim=1)
        boundaries = torch.rand(5, 40) < 0.1
        expected = loop(vocabulary, tokens, before, boundaries)
        assert torch.equal(marks.in_force(tokens, before, boundaries), expected)
        never = torch.zeros(5, 40, dtype=torch.bool)
        expected = loop(vocabulary, tokens, before * 0, never)
        assert torch.equal(marks.in_force(tokens), expected)
        torch.nn.init.normal_(marks.output.weight[1:])
        x = torch.randn(5, 40, 8)
        for add, rows in zip((marks.begin, marks.end), marks.rows(), strict=True):
            torch.testing.assert_close(add(x, expected), x + rows[expected].sum(2))


def test_marks_far_back_weigh_as_much_as_near_ones(tiny, plain_vocabulary):
    """Also where the sums forget: the input of the last position is told of them anew."""
    model = tiny(plain_vocabulary, decay="fixed", decay_range=[0.1, 0.2])
    tokens = torch.full((2, 400, 1), 5)
    tokens[0, 0], tokens[1, 0] = 11, 12
    with torch.no_grad():
        (logits,) = model(tokens)
    assert (logits[0, -1] - logits[1, -1]).abs().max() > 0.1


def test_nothing_is_in_force_until_a_mark_comes_and_after_one_that_ends_it():
    held = ((3, 4, 5),)
    vocabulary = Vocabulary((Field("t", 9),), bos_id=1, eos_id=2, pad_id=0, held=held)
    marks = HeldMarks(vocabulary, 4)
    tokens = torch.tensor([6, 4, 6, 3, 6, 5]).view(1, 6, 1)
    vectors = marks.begin(torch.zeros(1, 6, 4), marks.in_force(tokens))[0]
    _, a, b = marks.rows()[0]
    zero = torch.zeros(4)
    torch.testing.assert_close(vectors, torch.stack([zero, a, a, zero, zero, b]))


def test_without_groups_nothing_is_added_or_stored(tiny, compound_vocabulary):
    model = tiny(compound_vocabulary)
    assert model.held is None
    assert not any(name.startswith("held") for name in model.state_dict())
    assert model.in_force(random_tokens(compound_vocabulary, 2, 5)).shape == (2, 5, 0)
