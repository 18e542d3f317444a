"""The softmax peers: a cache allocated ahead, written in place, full or filling up."""

import pytest
import torch
from tapes import TapeRecorder
from tiny_models import TWO_FIELDS, tiny_model

from seqgen.benchmark import softmax
from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import OutputsDiffer
from seqgen.benchmark.softmax import StaticCachePool
from seqgen.decoding.cuda import GraphPool


def filled(model, tokens):
    """A pool after all but the last of tokens [B, T, F]; it makes the next step for ever."""
    B, T, _ = tokens.shape
    pool, slots = (
        StaticCachePool(model, "softmax-preallocated", n_rows=B, capacity=T, grows=True),
        torch.arange(B),
    )
    for token in tokens[:, :-1].unbind(1):
        pool.advance(slots, token)
    pool.grows = False
    _, state = model.recurrent.prefill(tokens[:, :-1], torch.full((B,), T - 1))
    return pool, state


@torch.no_grad()
@pytest.mark.parametrize("position", [1, 70])
def test_a_step_is_that_of_the_whole_computed_again_however_often(model, position):
    tokens = model.random_tokens(3, position + 1)
    pool, state = filled(model, tokens)
    slots, keys = torch.arange(3), pool.keys.clone()
    for _ in range(3):
        pool.write(slots, state)
        logits = pool.advance(slots, tokens[:, -1])
        for ours, whole in zip(logits, model.recompute(tokens), strict=True):
            assert torch.allclose(ours, whole, atol=1e-5)
    assert torch.equal(pool.keys[:, :, :, :-1], keys[:, :, :, :-1])
    assert not torch.equal(pool.keys[:, :, :, -1], keys[:, :, :, -1])


@torch.no_grad()
def test_a_recorded_step_is_the_same():
    model = tiny_model()
    tokens, slots = model.random_tokens(2, 41), torch.arange(2)
    pool, state = filled(model, tokens)
    recorder = TapeRecorder()
    graph = GraphPool(pool, recorder)
    for _ in range(4):
        graph.write(slots, state)
        [logits] = graph.advance(slots, tokens[:, -1])
        assert torch.allclose(logits, model.recompute(tokens)[0], atol=1e-5)
    assert recorder.n_replayed == 3


def test_a_cache_begins_anew(model):
    pool = StaticCachePool(model, "softmax-preallocated", n_rows=1, capacity=5, grows=True)
    slots, tokens = torch.tensor([0]), model.random_tokens(1, 5)[0]

    def write():
        pool.write(slots, model.recurrent.initial_state(1))
        return [pool.advance(slots, token[None])[0].clone() for token in tokens]

    first, again = write(), write()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_variants_estimate_what_they_allocate():
    model = tiny_model()
    draws, last, state = Draws(model, 2), model.random_tokens(2, 1)[:, 0], model.state_at(64, 2)
    made = softmax.variants(model, draws, last, state, position=64)
    assert [v.name for v in made] == [*softmax.static_names(model), softmax.RECOMPUTED]
    pool = StaticCachePool(model, "softmax-preallocated", n_rows=2, capacity=65)
    assert made[0].holds == pool.keys.nbytes + pool.values.nbytes
    assert made[-1].needs > 3 * 4 * 2 * 2 * 65**2
    for variant in made:
        call = variant.open()
        call.prepare()
        call.run(call.length)


def test_a_rounded_cache_is_listed_only_where_the_device_multiplies_in_bfloat16():
    model = tiny_model()
    found = [n for n in softmax.static_names(model) if n.endswith("bf16")]
    assert bool(found) == model.has_bfloat16
    assert softmax.static_names(tiny_model(quick=True)) == ["softmax-preallocated"]


def test_a_cache_that_forgets_a_token_is_found(model, monkeypatch):
    forget = StaticCachePool.advance

    def advance(self, slots, tokens):
        logits = forget(self, slots, tokens)
        self.at -= self.at == 4
        return logits

    monkeypatch.setattr(StaticCachePool, "advance", advance)
    with pytest.raises(OutputsDiffer, match="softmax-preallocated and softmax-recomputed"):
        softmax.check(model, model.random_tokens(2, 9))


@torch.no_grad()
def test_a_made_state_looks_like_a_real_one():
    model = tiny_model(TWO_FIELDS)
    tokens = model.random_tokens(2, 100)
    _, state = model.recurrent.prefill(tokens, torch.tensor([100, 100]))
    alike = model.state_at(100, 2)
    for name in ("S", "Z", "recent", "position"):
        ours, theirs = getattr(alike, name), getattr(state, name)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert torch.allclose(alike.Z.sum(), state.Z.sum(), rtol=0.2)
    assert alike.position.tolist() == [100, 100]
