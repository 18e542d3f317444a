"""Draws follow the distribution, the settings and the grammar."""

import numpy as np
import pytest
import torch
from sampling_cases import bos, draw, draws, grammatical, random_logits

from seqgen.errors import UserError
from seqgen.sampling import Flags, Sampler, Sampling
from seqgen.vocabulary import Field, Vocabulary

LOGITS = torch.full((1, 24), -9.0)
LOGITS[0, 5], LOGITS[0, 9], LOGITS[0, 11] = 2.0, 1.0, 0.0
FLAT = torch.zeros(1, 24)


def firsts(*args, **options):
    return draws(*args, **options)[:, 0].tolist()


def test_temperature_zero_is_argmax(plain_vocabulary):
    assert firsts(plain_vocabulary, Sampling(temperature=0), logits=[LOGITS], n=5) == [5] * 5


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), {5: 0.665, 9: 0.245, 11: 0.09}),
        (Sampling(temperature=2), {5: 0.506, 9: 0.307, 11: 0.186}),
        (Sampling(top_k=2), {5: 0.731, 9: 0.269, 11: 0}),
        (Sampling(top_p=0.7), {5: 0.731, 9: 0.269, 11: 0}),
        (Sampling(top_p=0.6), {5: 1, 9: 0, 11: 0}),
        (Sampling(min_p=0.2), {5: 0.731, 9: 0.269, 11: 0}),
        # Surprises 0.41, 1.41 and 2.41 around an entropy of 0.83: 5, 9, 11 in this order.
        (Sampling(typical_p=0.6), {5: 1, 9: 0, 11: 0}),
        (Sampling(logit_bias={5: -100, 11: 1}), {5: 0, 9: 0.5, 11: 0.5}),
    ],
)
def test_frequencies_follow_the_probabilities(plain_vocabulary, sampling, expected):
    logits = torch.full((1, 24), -30.0)
    logits[0, [5, 9, 11]] = torch.tensor([2.0, 1.0, 0.0])
    sampler = Sampler(plain_vocabulary, 100)
    for slot in range(100):
        sampler.enter(slot, sampling, seed=(7, slot), prompt=bos(plain_vocabulary))
    logits = [logits.repeat(100, 1)]
    drawn = torch.stack([draw(sampler, logits, range(100)) for _ in range(40)]).flatten()
    for i, share in expected.items():
        assert abs((drawn == i).float().mean() - share) < (0.03 if 0 < share < 1 else 1e-9)


def test_the_same_seed_draws_the_same_and_another_differs(plain_vocabulary):
    first = firsts(plain_vocabulary, Sampling(), logits=[FLAT], n=30, seed=(4, 0))
    for seed, same in (((4, 0), True), ((5, 0), False), ((4, 1), False)):
        again = firsts(plain_vocabulary, Sampling(), logits=[FLAT], n=30, seed=seed)
        assert (first == again) == same


def test_bos_and_pad_are_never_drawn_even_freely(plain_vocabulary):
    logits = torch.zeros(1, 24)
    logits[0, [0, 1]] = 50
    for grammar in (False, True):
        sampling = Sampling(grammar=grammar)
        assert not {0, 1} & set(firsts(plain_vocabulary, sampling, logits=[logits], n=100))


def test_a_special_token_is_special_in_every_field(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    logits[0][0, toy_vocabulary.eos_id] = 50
    assert draws(toy_vocabulary, Sampling(), logits=logits).tolist() == [[2, 2, 2]]


def test_an_ordinary_token_is_special_in_no_field(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    for field in logits:
        field[0, :3] = 20
    logits[0][0, 2] = -50
    assert draws(toy_vocabulary, Sampling(), logits=logits, n=50).min() >= 3


def test_fields_of_all_sizes_are_drawn_to_their_ends(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    logits[0][0, 2] = -50
    drawn = draws(toy_vocabulary, Sampling(), logits=logits, n=250)
    for f, size in enumerate(toy_vocabulary.sizes):
        assert set(drawn[:, f].tolist()) == set(range(3, size))


def test_a_short_field_stays_in_its_bounds_whichever_ids_are_special():
    v = Vocabulary((Field("long", 9), Field("short", 6)), bos_id=4, eos_id=2, pad_id=5)
    logits = [torch.zeros(1, size) for size in v.sizes]
    logits[0][0, 2] = -50
    drawn = draws(v, Sampling(), logits=logits, n=100)
    assert set(drawn[:, 1].tolist()) == {0, 1, 3}
    assert set(drawn[:, 0].tolist()) == {0, 1, 3, 6, 7, 8}


def test_the_grammar_is_followed_id_by_id():
    v = grammatical()
    ends = set()
    for seed in range(30):
        drawn = draws(v, Sampling(), seed=(seed,), n=12)[:, 0].tolist()
        previous, has_unit = v.bos_id, False
        for i in drawn:
            allowed = v.allowed(np.array([[previous]]), has_unit=np.array([has_unit]))[0]
            assert allowed[i]
            previous, has_unit = i, has_unit or i in (5, 6)
            if i == v.eos_id:
                ends.add(previous)
                break
    assert ends == {2}


def test_a_unit_in_the_prompt_lets_a_piece_end():
    v = grammatical()
    logits = torch.zeros(1, 8)
    logits[0, 2] = 50
    assert firsts(v, Sampling(), logits=[logits], prompt=[[1], [5], [3]]) == [2]
    assert firsts(v, Sampling(), logits=[logits], prompt=[[1], [3]]) == [5]
    assert firsts(v, Sampling(), logits=[logits], prompt=[[1], [3]], n=2) == [5, 2]


def test_a_drawn_unit_is_not_forgotten():
    v, drawn = grammatical(), []
    sampler = Sampler(v, 1)
    sampler.enter(0, Sampling(temperature=0), seed=(0,), prompt=bos(v))
    for wanted in (3, 5, 4, 2):
        drawn.append(int(draw(sampler, [50 * torch.eye(8)[[wanted]]], [0])))
    assert drawn == [3, 5, 4, 2]


def test_a_stuck_stream_ends_and_a_free_one_goes_on():
    v = grammatical()
    logits = torch.zeros(1, 8)
    logits[0, 7], logits[0, 2] = 50, -50
    assert firsts(v, Sampling(), logits=[logits], prompt=[[1], [7]]) == [2]
    assert firsts(v, Sampling(grammar=False), logits=[logits], prompt=[[1], [7]]) == [7]


def test_repetition_penalty_sees_prompt_and_draws(plain_vocabulary):
    logits = torch.zeros(1, 24)
    logits[0, 5], logits[0, 9] = 3.0, 2.9
    sampling = Sampling(temperature=0, repetition_penalty=1.5)
    assert firsts(plain_vocabulary, sampling, logits=[logits], n=2) == [5, 9]
    assert firsts(plain_vocabulary, sampling, logits=[logits], prompt=[[1], [5]]) == [9]


def test_frequency_penalty_counts_draws_and_not_the_prompt(plain_vocabulary):
    logits = torch.zeros(1, 24)
    logits[0, 5], logits[0, 9] = 3.0, 1.5
    sampling = Sampling(temperature=0, frequency_penalty=1)
    prompt = [[1], [5], [5], [5]]
    drawn = firsts(plain_vocabulary, sampling, logits=[logits], n=4, prompt=prompt)
    assert drawn == [5, 5, 9, 5]  # 3, 2, then 1 against 1.5, then 1 against 0.5


def test_penalties_reach_every_field(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    for field in logits:
        field[0, 5], field[0, 7] = 3.0, 2.0
    for sampling in (
        Sampling(temperature=0, repetition_penalty=2),
        Sampling(temperature=0, frequency_penalty=2),
    ):
        assert draws(toy_vocabulary, sampling, logits=logits, n=2).tolist() == [[5] * 3, [7] * 3]
    sampling, prompt = Sampling(temperature=0, repetition_penalty=2), [[1, 1, 1], [3, 5, 4]]
    drawn = draws(toy_vocabulary, sampling, logits=logits, prompt=prompt)
    assert drawn.tolist() == [[5, 7, 5]]


def test_a_bias_forbids_and_asks_for_ids_of_the_first_field(toy_vocabulary):
    logits = [torch.zeros(1, size) for size in toy_vocabulary.sizes]
    logits[0][0, 5] = logits[1][0, 7] = 5.0
    sampling = Sampling(temperature=0, logit_bias={5: -10, 8: 1, 7: 0.5})
    assert draws(toy_vocabulary, sampling, logits=logits).tolist() == [[8, 7, 3]]
    with pytest.raises(UserError, match="id 12: the first field has ids 0 to 11"):
        draws(toy_vocabulary, Sampling(logit_bias={12: 1.0}))


def test_a_bias_cannot_break_the_grammar():
    assert firsts(grammatical(), Sampling(logit_bias={7: 1e6})) != [7]


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("value", [float("nan"), float("-inf"), float("inf"), 3e38, -3e38])
def test_senseless_logits_still_draw_something_allowed(value, temperature):
    settings = {"top_k": 2, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9}
    settings |= {"repetition_penalty": 1e6, "frequency_penalty": 1e6}
    logits = [torch.full((1, 8), value)]
    for filters in ({}, settings):
        sampling = Sampling(temperature=temperature, **filters)
        assert set(firsts(grammatical(), sampling, logits=logits, n=2)) <= {2, 3, 4, 5, 6, 7}
        assert firsts(grammatical(), sampling, logits=logits)[0] in (3, 4, 6)


def test_an_id_that_is_no_number_is_left_out(plain_vocabulary):
    logits = FLAT.clone()
    logits[0, 4:20] = float("nan")
    logits[0, 20:] = float("-inf")
    assert set(firsts(plain_vocabulary, Sampling(), logits=[logits], n=40)) == {2, 3}


def test_log_likelihood_is_the_log_softmax_of_raw_logits_in_all_fields(toy_vocabulary):
    sampler = Sampler(toy_vocabulary, 2, scored=True)
    sampling = Sampling(temperature=0.7, top_k=3, repetition_penalty=2)
    for slot in range(2):
        sampler.enter(slot, sampling, seed=(1, slot), prompt=bos(toy_vocabulary))
    expected = torch.zeros(2, dtype=torch.float64)
    for step in range(5):
        logits = random_logits(toy_vocabulary, 2, step)
        tokens = draw(sampler, logits, [1, 0])
        for f, field in enumerate(logits):
            scores = field.double().log_softmax(-1).gather(1, tokens[:, f : f + 1])
            if f > 0:  # after EOS, the other fields follow from it
                scores[tokens[:, 0] == toy_vocabulary.eos_id] = 0
            expected += scores[:, 0].flip(0)
    assert torch.allclose(sampler.log_likelihood, expected, rtol=1e-9)
    sampler.enter(0, sampling, seed=(1,), prompt=bos(toy_vocabulary))
    assert sampler.log_likelihood[0] == 0


def test_logits_are_left_as_they_were_and_may_be_of_reduced_precision(toy_vocabulary):
    sampling = Sampling(repetition_penalty=2, logit_bias={4: 1.0})
    logits = [field.bfloat16() for field in random_logits(toy_vocabulary, 1, 0)]
    before = [field.clone() for field in logits]
    reduced = draws(toy_vocabulary, sampling, logits=logits)
    assert all(torch.equal(a, b) for a, b in zip(before, logits, strict=True))
    full = draws(toy_vocabulary, sampling, logits=[field.float() for field in logits])
    assert torch.equal(full, reduced)


def test_flags_hold_what_the_streams_in_slots_ask_for(plain_vocabulary):
    sampler = Sampler(plain_vocabulary, 3)
    greedy = Sampling(temperature=0, top_p=0.5)  # which a greedy stream has no use for
    for slot, sampling in enumerate((greedy, Sampling(top_k=5), Sampling(min_p=0.1))):
        sampler.enter(slot, sampling, seed=(0,), prompt=bos(plain_vocabulary))
    nothing = Flags(*[0] * len(Flags._fields))
    assert sampler.flags == nothing._replace(greedy=1, random=1, top_k=8, min_p=1)
    sampler.leave(1)
    sampler.enter(2, greedy, seed=(0,), prompt=bos(plain_vocabulary))
    assert sampler.flags == nothing._replace(greedy=1)


def test_an_empty_prompt_is_refused(plain_vocabulary):
    with pytest.raises(ValueError, match="BOS"):
        draws(plain_vocabulary, Sampling(), prompt=np.zeros((0, 1), dtype=np.int64))
