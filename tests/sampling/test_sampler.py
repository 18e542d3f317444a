"""Draws follow the distribution, each row on its own random series."""

import numpy as np
import pytest
import torch

from seqgen.errors import UserError
from seqgen.sampling import Sampler, Sampling

LOGITS = torch.full((1, 24), -9.0)
LOGITS[0, 5], LOGITS[0, 9], LOGITS[0, 11] = 2.0, 1.0, 0.0


def draws(sampling, vocabulary, n=1, seed=0, logits=LOGITS):
    sampler = Sampler(sampling, vocabulary, seed=seed, n_rows=1)
    return [int(sampler.draw([logits], [0])[0, 0]) for _ in range(n)]


def test_temperature_zero_is_argmax(plain_vocabulary):
    assert draws(Sampling(temperature=0), plain_vocabulary, 5) == [5] * 5


def test_frequencies_follow_the_probabilities(plain_vocabulary):
    drawn = np.array(draws(Sampling(), plain_vocabulary, 4000))
    expected = LOGITS[0].softmax(-1)
    for i in (5, 9, 11):
        assert abs((drawn == i).mean() - float(expected[i])) < 0.03


def test_the_same_seed_draws_the_same_and_another_differs(plain_vocabulary):
    flat = torch.zeros(1, 24)
    first = draws(Sampling(), plain_vocabulary, 30, seed=4, logits=flat)
    assert first == draws(Sampling(), plain_vocabulary, 30, seed=4, logits=flat)
    assert first != draws(Sampling(), plain_vocabulary, 30, seed=5, logits=flat)


def test_a_row_draws_the_same_whoever_is_beside_it(plain_vocabulary):
    flat = torch.zeros(3, 24)
    alone = Sampler(Sampling(), plain_vocabulary, seed=1, n_rows=3)
    crowd = Sampler(Sampling(), plain_vocabulary, seed=1, n_rows=3)
    ours = [int(alone.draw([flat[:1]], [2])[0, 0]) for _ in range(20)]
    theirs = [int(crowd.draw([flat], [0, 1, 2])[2, 0]) for _ in range(20)]
    assert ours == theirs


def test_rows_with_equal_logits_draw_differently(plain_vocabulary):
    sampler = Sampler(Sampling(), plain_vocabulary, seed=1, n_rows=8)
    drawn = [sampler.draw([torch.zeros(8, 24)], range(8))[:, 0] for _ in range(4)]
    assert len({tuple(row) for row in np.stack(drawn, axis=1)}) == 8


def test_bos_and_pad_are_never_drawn_even_freely(plain_vocabulary):
    logits = torch.zeros(1, 24)
    logits[0, [0, 1]] = 50
    drawn = draws(Sampling(grammar=False), plain_vocabulary, 200, logits=logits)
    assert not {0, 1} & set(drawn)


def test_repetition_penalty_sees_prompt_and_draws(plain_vocabulary):
    logits = torch.zeros(1, 24)
    logits[0, 5], logits[0, 9] = 3.0, 2.9
    sampling = Sampling(temperature=0, repetition_penalty=1.5)
    assert draws(sampling, plain_vocabulary, 2, logits=logits) == [5, 9]
    sampler = Sampler(sampling, plain_vocabulary, seed=0, n_rows=1)
    sampler.observe(0, np.array([[1], [5]]))
    assert int(sampler.draw([logits], [0])[0, 0]) == 9


def test_a_special_token_is_special_in_every_field(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    logits[0][0, toy_vocabulary.eos_id] = 50
    sampler = Sampler(Sampling(), toy_vocabulary, seed=0, n_rows=1)
    assert sampler.draw(logits, [0]).tolist() == [[2, 2, 2]]


def test_an_ordinary_token_is_special_in_no_field(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    for field in logits:
        field[0, :3] = 20
    logits[0][0, 2] = -50
    sampler = Sampler(Sampling(), toy_vocabulary, seed=0, n_rows=1)
    for _ in range(50):
        assert sampler.draw(logits, [0]).min() >= 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("top_k", 0),
        ("top_p", 0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("repetition_penalty", 0),
    ],
)
def test_a_senseless_setting_is_named(name, value):
    with pytest.raises(UserError, match=name):
        Sampling(**{name: value})
