"""A stream draws the same wherever and beside whomever it is, and however its draws are grouped."""

import contextlib

import numpy as np
import pytest
import torch
from sampling_cases import bos, draw, draws, grammatical, random_logits

from seqgen.sampling import Sampler, Sampling
from seqgen.sampling.series import BLOCK

SETTINGS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0.7, top_k=3),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(top_k=5, top_p=0.9, min_p=0.05),
    Sampling(typical_p=0.7),
    Sampling(repetition_penalty=1.3, frequency_penalty=0.4),
    Sampling(temperature=0, repetition_penalty=1.3, frequency_penalty=0.4),
    Sampling(logit_bias={5: 2.0, 4: -3.0}, grammar=False),
    Sampling(temperature=1e-6, top_k=1),
]


def test_streams_of_all_settings_draw_in_one_batch_what_each_draws_alone(toy_vocabulary):
    n, steps = len(SETTINGS), 12
    crowd = Sampler(toy_vocabulary, n)
    for slot, sampling in enumerate(SETTINGS):
        crowd.enter(slot, sampling, seed=(3, slot), prompt=bos(toy_vocabulary))
    logits = [random_logits(toy_vocabulary, n, step) for step in range(steps)]
    together = torch.stack([draw(crowd, step, range(n)) for step in logits])
    for row, sampling in enumerate(SETTINGS):
        alone = Sampler(toy_vocabulary, 4)
        alone.enter(2, sampling, seed=(3, row), prompt=bos(toy_vocabulary))
        rows = [[field[row : row + 1] for field in step] for step in logits]
        expected = torch.cat([draw(alone, step, [2]) for step in rows])
        assert torch.equal(together[:, row], expected), sampling


def test_neighbours_that_come_and_go_change_nothing(toy_vocabulary):
    sampling = Sampling(top_k=6, repetition_penalty=1.2)
    expected = draws(toy_vocabulary, sampling, n=40, seed=(1, 7))
    sampler = Sampler(toy_vocabulary, 4)
    sampler.enter(1, sampling, seed=(1, 7), prompt=bos(toy_vocabulary))
    rng = np.random.default_rng(0)
    for step in range(40):
        for slot in (0, 2, 3):
            if step == 0 or rng.random() < 0.3:
                other = SETTINGS[rng.integers(len(SETTINGS))]
                sampler.enter(slot, other, seed=(2, step), prompt=bos(toy_vocabulary))
        slots = [1, *rng.permutation([0, 2, 3])[: rng.integers(4)]]
        drawn = draw(sampler, random_logits(toy_vocabulary, len(slots), step), slots)
        assert torch.equal(drawn[0], expected[step])


def test_a_greedy_stream_takes_the_first_of_equals_beside_random_ones(plain_vocabulary):
    sampler = Sampler(plain_vocabulary, 2)
    for slot, temperature in enumerate((0.0, 1.0)):
        sampling = Sampling(temperature=temperature)
        sampler.enter(slot, sampling, seed=(1, slot), prompt=bos(plain_vocabulary))
    drawn = [draw(sampler, [torch.zeros(2, 24)], range(2))[:, 0].tolist() for _ in range(9)]
    assert {row[0] for row in drawn} == {2}
    assert len({row[1] for row in drawn}) > 1


def test_streams_with_equal_logits_draw_differently(plain_vocabulary):
    sampler = Sampler(plain_vocabulary, 8)
    for slot in range(8):
        sampler.enter(slot, Sampling(), seed=(1, slot), prompt=bos(plain_vocabulary))
    drawn = [draw(sampler, [torch.zeros(8, 24)], range(8))[:, 0] for _ in range(4)]
    assert len({tuple(row.tolist()) for row in torch.stack(drawn, dim=1)}) == 8


def test_nothing_of_an_earlier_stream_remains_in_a_slot():
    v = grammatical()
    strong = Sampling(repetition_penalty=5, frequency_penalty=3, logit_bias={3: 9.0}, top_k=1)
    sampler = Sampler(v, 1, scored=True)
    sampler.enter(0, strong, seed=(9,), prompt=np.array([[1], [3], [5]]))
    for step in range(9):
        draw(sampler, random_logits(v, 1, step), [0])
    sampling = Sampling(logit_bias={4: 0.1})
    sampler.enter(0, sampling, seed=(2,), prompt=bos(v))
    again = [draw(sampler, random_logits(v, 1, step), [0]) for step in range(9)]
    assert torch.equal(torch.cat(again), draws(v, sampling, n=9, seed=(2,)))


def test_random_numbers_follow_from_seed_and_draw_alone(toy_vocabulary):
    sampler = Sampler(toy_vocabulary, 2)
    sampler.enter(1, Sampling(), seed=(5, 3), prompt=bos(toy_vocabulary))
    blocks = [np.random.default_rng([5, 3, b]).random((BLOCK, 3)) for b in range(3)]
    expected = np.concatenate(blocks)
    for n in range(0, 3 * BLOCK, 48):
        sampler.prepare([1], 48)
        for step in range(n, n + 48):
            ring = step % sampler.numbers.shape[1]
            assert np.array_equal(sampler.numbers[1, ring], expected[step])


def test_draws_do_not_depend_on_how_steps_are_grouped(plain_vocabulary):
    flat, n = [torch.zeros(1, 24)], 3 * BLOCK
    drawn = {}
    for size in (1, 7, 100, BLOCK):
        sampler = Sampler(plain_vocabulary, 1)
        sampler.enter(0, Sampling(), seed=(6,), prompt=bos(plain_vocabulary))
        ids = []
        for start in range(0, n, size):
            steps = min(size, n - start)
            sampler.prepare([0], steps)
            ids += [sampler.draw(flat, torch.tensor([0])) for _ in range(steps)]
        drawn[size] = torch.cat(ids).flatten().tolist()
    assert drawn[1] == drawn[7] == drawn[100] == drawn[BLOCK]
    assert drawn[1][:BLOCK] != drawn[1][BLOCK : 2 * BLOCK] != drawn[1][2 * BLOCK :]


@pytest.mark.parametrize("n", [0, 5, BLOCK - 1, BLOCK, 2 * BLOCK + 1])
def test_a_restored_stream_goes_on_in_any_slot(n):
    v = grammatical()
    never_ends = {2: -1e6, 7: -1e6}
    sampling = Sampling(repetition_penalty=1.2, frequency_penalty=0.1, logit_bias=never_ends)
    first = Sampler(v, 1, scored=True)
    first.enter(0, sampling, seed=(8, 1), prompt=bos(v))
    for step in range(n):
        draw(first, random_logits(v, 1, step % 5), [0])
    state = first.state(0)
    seen, counts = state.seen.clone(), state.counts.clone()
    expected = [draw(first, random_logits(v, 1, step), [0]) for step in range(9)]
    assert torch.equal(state.seen, seen)
    assert torch.equal(state.counts, counts)
    assert state.drawn == n == int(counts.sum())
    second = Sampler(v, 3, scored=True)
    for slot in (2, 0):
        second.restore(slot, state)
        actual = [draw(second, random_logits(v, 1, step), [slot]) for step in range(9)]
        assert torch.equal(torch.cat(actual), torch.cat(expected))
        assert second.log_likelihood[slot] == first.log_likelihood[0]
        ours, theirs = second.state(slot), first.state(0)
        assert (ours.previous, ours.has_unit) == (theirs.previous, theirs.has_unit)
        assert (ours.seed, ours.sampling, ours.drawn) == ((8, 1), sampling, n + 9)


def test_a_draw_that_was_not_prepared_is_refused(plain_vocabulary):
    sampler, logits = Sampler(plain_vocabulary, 2), [torch.zeros(1, 24)]
    sampler.enter(0, Sampling(), seed=(0,), prompt=bos(plain_vocabulary))
    with pytest.raises(ValueError, match="not prepared"):
        sampler.draw(logits, torch.tensor([0]))
    sampler.prepare([0], 2)
    for _ in range(2):
        sampler.draw(logits, torch.tensor([0]))
    with pytest.raises(ValueError, match="not prepared"):
        sampler.draw(logits, torch.tensor([0]))
    sampler.prepare([0], 1)
    with pytest.raises(ValueError, match="draw of 2 rows"):
        sampler.draw([torch.zeros(2, 24)], torch.tensor([0, 1]))


def test_preparing_is_refused_without_a_stream_or_beyond_the_ring(plain_vocabulary):
    sampler = Sampler(plain_vocabulary, 2)
    with pytest.raises(ValueError, match=r"slots \{1\}"):
        sampler.prepare([1], 1)
    sampler.enter(1, Sampling(), seed=(0,), prompt=bos(plain_vocabulary))
    for n_steps in (0, BLOCK + 1):
        with pytest.raises(ValueError, match=f"n_steps = {n_steps}"):
            sampler.prepare([1], n_steps)
    sampler.leave(1)
    with pytest.raises(ValueError, match=r"slots \{1\}"):
        sampler.prepare([1], 1)


def test_draw_reads_no_number_back(toy_vocabulary):
    """On the meta device there are no numbers to read: whoever tries fails."""
    sampler = Sampler(toy_vocabulary, len(SETTINGS), device="meta", scored=True)
    for slot, sampling in enumerate(SETTINGS):
        sampler.enter(slot, sampling, seed=(0,), prompt=bos(toy_vocabulary))
    slots = torch.arange(len(SETTINGS), device="meta")
    logits = [torch.zeros(len(slots), n, device="meta") for n in toy_vocabulary.sizes]
    sampler.prepare(range(len(slots)), 1)
    assert all((sampler.flags.greedy, sampler.flags.bias, sampler.flags.typical))
    assert sampler.draw(logits, slots).shape == (len(slots), 3)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_gradients_are_neither_needed_nor_kept(plain_vocabulary, mode):
    sampler = Sampler(plain_vocabulary, 1, scored=True)
    sampler.enter(0, Sampling(top_k=4), seed=(0,), prompt=bos(plain_vocabulary))
    with mode() if mode is torch.inference_mode else contextlib.nullcontext():
        draw(sampler, [torch.zeros(1, 24, requires_grad=True)], [0])
    draw(sampler, [torch.zeros(1, 24, requires_grad=True)], [0])
    assert not sampler.log_likelihood.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_draw_draws_what_a_called_one_does(toy_vocabulary):
    n, steps = len(SETTINGS), 6
    samplers = [Sampler(toy_vocabulary, n, device="cuda", scored=True) for _ in range(2)]
    slots = torch.arange(n, device="cuda")
    logits = [field.cuda() for field in random_logits(toy_vocabulary, n, 0)]

    def enter(sampler):
        for slot, sampling in enumerate(SETTINGS):
            sampler.enter(slot, sampling, seed=(3, slot), prompt=bos(toy_vocabulary))

    for sampler in samplers:
        enter(sampler)
        sampler.prepare(range(n), 1)
        sampler.draw(logits, slots)  # warms up
    graph = torch.cuda.CUDAGraph()
    samplers[1].prepare(range(n), 1)
    with torch.cuda.graph(graph):
        captured = samplers[1].draw(logits, slots)
    for sampler in samplers:
        enter(sampler)
    for _ in range(steps):
        for sampler in samplers:
            sampler.prepare(range(n), 1)
        graph.replay()
        assert torch.equal(samplers[0].draw(logits, slots), captured)
    assert torch.equal(samplers[0].drawn, samplers[1].drawn)
