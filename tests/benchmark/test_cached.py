"""The harder opponents: a cache allocated ahead, written in place, at one position for ever."""

import pytest
import torch
from subjects import TWO_FIELDS, patient_clock, tiny_subject
from tapes import TapeRecorder

from seqgen.benchmark.draws import Draws, NoDraws
from seqgen.benchmark.measures import decode
from seqgen.benchmark.peers import full
from seqgen.benchmark.peers.cached import CachedPool, open_cached, preallocate
from seqgen.benchmark.place import Place
from seqgen.decoding.cuda import GraphPool


def opened(subject, tokens):
    prompt = tokens[:, :-1]
    lengths = torch.full((len(tokens),), prompt.shape[1])
    _, state = subject.recurrent.prefill(prompt, lengths)
    cache = preallocate(subject.cache_after(prompt), prompt.shape[1])
    return open_cached(subject.decoder("torch"), cache, state), state


@torch.no_grad()
@pytest.mark.parametrize("position", [1, 70])
def test_a_step_is_that_of_the_whole_computed_again_however_often(position):
    subject = tiny_subject(TWO_FIELDS)
    tokens = subject.random_tokens(3, position + 1)
    pool, state = opened(subject, tokens)
    slots = torch.arange(3)
    keys = pool.keys.clone()
    for _ in range(3):
        pool.write(slots, state)
        logits = pool.advance(slots, tokens[:, -1])
        for ours, whole in zip(logits, subject.recompute(tokens), strict=True):
            assert torch.allclose(ours, whole, atol=1e-5)
    assert torch.equal(pool.keys[:, :, :, :-1], keys[:, :, :, :-1])
    assert not torch.equal(pool.keys[:, :, :, -1], keys[:, :, :, -1])


@torch.no_grad()
def test_a_recorded_step_is_the_same():
    subject = tiny_subject()
    tokens, slots = subject.random_tokens(2, 41), torch.arange(2)
    pool, state = opened(subject, tokens)
    assert isinstance(pool, CachedPool)
    recorder = TapeRecorder()
    graph = GraphPool(pool, recorder)
    for _ in range(4):
        graph.write(slots, state)
        [logits] = graph.advance(slots, tokens[:, -1])
        assert torch.allclose(logits, subject.recompute(tokens)[0], atol=1e-5)
    assert recorder.n_replayed == 3


def test_all_opponents_have_a_row_and_share_what_they_can():
    subject = tiny_subject()
    place = Place(
        subject, subject.random_tokens(2, 65), subject.state_at(64, 2), NoDraws(subject, 2), True
    )
    made = {v.name: v for v in full.variants(place)}
    assert tuple(made) == full.VARIANTS
    assert made["onnx-runtime"].note.startswith("not here")
    assert made["full-preallocated-bf16"].dtype == "bf16"
    for name in (*full.CACHED, "full-cached", "full-recomputed"):
        made[name].run(made[name].prepare())


def test_a_cache_that_memory_cannot_hold_is_a_row_that_says_so(monkeypatch):
    subject = tiny_subject()
    monkeypatch.setattr("seqgen.benchmark.subject.available_bytes", lambda _: 2**20)
    records = decode.measure(subject, patient_clock(), batch=64, position=4096)
    notes = {r.variant: r.note for r in records}
    for name in (*full.CACHED, "full-cached", "full-recomputed"):
        assert notes[name].startswith("skipped: needs"), name
    assert "0.0 are free" in notes["full-cached"]


def test_memory_that_runs_out_after_all_is_a_row_too(monkeypatch):
    subject = tiny_subject()

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(subject, "recompute", fail)
    monkeypatch.setattr(type(subject.decoder("torch")), "open", fail)
    notes = {
        r.variant: r.note
        for r in decode.measure(subject, patient_clock(), batch=1, position=64)
        if r.note
    }
    assert notes["torch"] == notes["full-recomputed"] == "skipped: ran out of memory"
    assert "full-preallocated" not in notes


def test_with_a_draw_a_step_gives_ids_and_without_one_logits():
    subject = tiny_subject()
    for draws, dtype in ((Draws(subject, 2), torch.int64), (NoDraws(subject, 2), torch.float32)):
        pool = subject.decoder("torch").open(2)
        pool.write(draws.slots, subject.state_at(64, 2))
        [out] = draws.advance(pool, subject.random_tokens(2, 1)[:, 0])
        assert out.dtype == dtype


@torch.no_grad()
def test_made_caches_and_states_look_like_real_ones():
    subject = tiny_subject()
    tokens = subject.random_tokens(2, 100)
    real, made = subject.cache_after(tokens), subject.cache_at(100, 2)
    _, state = subject.recurrent.prefill(tokens, torch.tensor([100, 100]))
    assert [[x.shape for x in kv] for kv in made] == [[x.shape for x in kv] for kv in real]
    alike = subject.state_at(100, 2)
    for name in ("S", "Z", "recent", "position"):
        ours, theirs = getattr(alike, name), getattr(state, name)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert torch.allclose(alike.Z.sum(), state.Z.sum(), rtol=0.2)
    assert alike.position.tolist() == [100, 100]
