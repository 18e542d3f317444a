"""A batch of no rows is a batch like any other, for every decoder."""

from functools import partial

import pytest
import torch
from decoders import DECODERS, PAIRS
from tapes import TapeRecorder

from seqgen.decoding.cuda import GraphPool
from seqgen.decoding.fused import TorchDecoder, TorchPool
from seqgen.model.state import State
from seqgen.sampling import Sampler

NONE = torch.zeros(0, dtype=torch.long)


class TapedDecoder(TorchDecoder):
    """What `CudaDecoder` is, with tapes."""

    def open(self, n_slots):
        return GraphPool(TorchPool(self, n_slots), TapeRecorder())


ALL = [
    ("softmax", PAIRS[0][1]),
    *(("causal-linear", build) for build in (*DECODERS, TapedDecoder)),
    ("causal-linear", partial(TorchDecoder, weights="bf16")),
]


def assert_no_rows(logits, sizes):
    assert [tuple(scores.shape) for scores in logits] == [(0, size) for size in sizes]


def assert_equal(state: State, other: State):
    pairs = zip((*state.attention, state.recent), (*other.attention, other.recent), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(state.position, other.position)


@pytest.mark.parametrize(("attention", "build"), ALL)
@pytest.mark.parametrize("choices", [{}, {"positions": "learned"}, {"positions": "bars"}], ids=str)
def test_a_batch_of_no_rows_gives_nothing_and_changes_nothing(
    tiny, toy_vocabulary, attention, build, choices
):
    decoder = build(tiny(toy_vocabulary, attention=attention, **choices))
    sizes, tokens = toy_vocabulary.sizes, torch.zeros(0, 3, dtype=torch.long)
    pool, slots = decoder.open(2), torch.arange(2)
    pool.write(slots, decoder.prefill(torch.full((2, 3, 3), 4), torch.tensor([3, 1]))[1])
    before = pool.read(slots)
    pool.write(NONE, decoder.initial_state(0))
    sampler = Sampler(toy_vocabulary, 2)
    for _ in range(3):  # the third time, a graph would be replayed
        assert_no_rows(pool.advance(NONE, tokens), sizes)
        sampler.prepare([], 2)
        assert pool.run(NONE, tokens, sampler, 2).shape == (2, 0, 3)
    assert pool.read(NONE).n_rows == 0
    assert_equal(pool.read(slots), before)
    assert_no_rows(decoder.open(0).advance(NONE, tokens), sizes)


@pytest.mark.parametrize(("attention", "build"), ALL)
def test_no_rows_are_prefilled_and_stepped(tiny, toy_vocabulary, attention, build):
    decoder = build(tiny(toy_vocabulary, attention=attention))
    prompts = torch.zeros(0, 5, 3, dtype=torch.long)
    logits, state = decoder.prefill(prompts, NONE)
    assert_no_rows(logits, toy_vocabulary.sizes)
    for _ in range(2):
        logits, state = decoder.step(prompts[:, 0], state)
        assert_no_rows(logits, toy_vocabulary.sizes)
        assert_equal(state, decoder.initial_state(0))
