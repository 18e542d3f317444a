"""Hugging Face's GPT-2 does what it is timed for, or says why it is not there."""

import gc
import importlib.metadata
import importlib.util
import shutil
import weakref

import pytest
import torch

from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, OutputsDiffer
from seqgen.benchmark.peers import hugging_face
from seqgen.benchmark.peers.hugging_face import Stream, check, check_in, variant
from seqgen.benchmark.subject import Subject

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason=f"transformers is not installed ({hugging_face.INSTALL})",
)


@pytest.fixture
def subject(tiny, toy_vocabulary):
    return Subject(tiny(toy_vocabulary, dropout=0.0), weights="random weights")


def one_step(subject, position=20, batch=3, **choices):
    last = subject.random_tokens(batch, 1)[:, 0]
    return variant(subject, last, position=position, finish=lambda logits: logits, **choices)


def test_without_transformers_the_row_says_so(subject, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    missing = one_step(subject)
    assert missing.name == "gpt2-static"
    assert missing.run is None
    assert missing.note.startswith("not here: transformers is not installed (")
    assert "pip install -c constraints.txt transformers" in missing.note
    check(subject, batch=1, position=4)  # of nothing


@pytest.mark.parametrize("version", ["4.57.1", "5.9.0", "6.0.0.dev0"])
def test_another_transformers_is_named(subject, monkeypatch, version):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "found")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    assert f"transformers is {version}, 5.23 is needed" in one_step(subject).note


def test_bfloat16_is_only_where_the_processor_has_it(subject, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "found")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "5.23.0")
    monkeypatch.setattr(hugging_face, "has_bfloat16", lambda: False)
    step = one_step(subject, dtype="bf16")
    assert (step.name, step.dtype) == ("gpt2-static-bf16", "bf16")
    assert step.note == "not here: this CPU has no bfloat16 instructions"


@needs_transformers
def test_what_does_not_fit_into_memory_says_so(subject):
    assert "GiB" in one_step(subject, position=10**12).note


@needs_transformers
@pytest.mark.parametrize("position", [1, 15, 16, 37])
def test_a_step_with_the_cache_is_a_pass_without(subject, position):
    check(subject, batch=2, position=position)


@needs_transformers
def test_so_it_is_in_bfloat16(subject):
    check_in(subject, "bf16", batch=2, position=37, tolerance=BFLOAT16_TOLERANCE)


@needs_transformers
@pytest.mark.parametrize("part", ["keys", "values"])
def test_a_corrupted_cache_is_found(subject, monkeypatch, part):
    fill = Stream.fill

    def wrong(self, prompt):
        fill(self, prompt)
        getattr(self.cache.layers[1], part)[:, :, 5] *= -1.0

    monkeypatch.setattr(Stream, "fill", wrong)
    with pytest.raises(OutputsDiffer, match="gpt2-static and its own pass"):
        check(subject, batch=2, position=20)


@needs_transformers
def test_a_wrong_position_is_found(subject, monkeypatch):
    rewind = Stream.rewind

    def wrong(self):
        rewind(self)
        self._at.fill_(self.position - 1)

    monkeypatch.setattr(Stream, "rewind", wrong)
    with pytest.raises(OutputsDiffer):
        check(subject, batch=2, position=20)


@needs_transformers
def test_repeats_give_the_same_logits_by_field(subject):
    step = one_step(subject)
    first, again = (step.run(step.prepare()) for _ in range(2))
    assert [logits.shape for logits in first] == [(3, 12), (3, 20), (3, 9)]
    assert all(logits.dtype == torch.float32 and logits.isfinite().all() for logits in first)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    # Not put back, it goes on.
    assert not torch.equal(step.run(None)[0], first[0])


@needs_transformers
def test_prepare_puts_the_cache_back_without_copying_it(subject):
    stream = Stream(subject, 2, position=20)
    where = stream.cache.layers[0].keys.data_ptr()
    stream.step()
    assert [int(layer.cumulative_length) for layer in stream.cache.layers] == [21, 21]
    stream.rewind()
    assert [int(layer.cumulative_length) for layer in stream.cache.layers] == [20, 20]
    assert stream.cache.layers[0].keys.data_ptr() == where


@needs_transformers
def test_the_cache_is_full_of_usual_numbers(subject):
    stream = Stream(subject, 2, position=150)
    stream.fill_at_random()
    for layer in stream.cache.layers:
        for part in (layer.keys, layer.values):
            assert part[:, :, :150].abs().min() > 1e-30
            assert 0.8 < part[:, :, :150].std() < 1.2


@needs_transformers
def test_draws_may_write_to_the_logits(subject):
    step = one_step(subject)
    step.run(step.prepare())[0].mul_(2.0)


@needs_transformers
def test_one_network_serves_all_places_and_disturbs_no_random_numbers(subject):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    near = Stream(subject, 1, position=20)
    assert torch.equal(torch.rand(1), expected)
    assert Stream(subject, 2, position=4000).network is near.network
    assert Stream(subject, 2, position=5000).network is not near.network


@needs_transformers
def test_a_place_that_is_over_leaves_no_cache_behind(subject):
    step = one_step(subject)
    step.run(step.prepare())
    cache = weakref.ref(step.prepare.__self__.cache.layers[0].keys)
    del step
    gc.collect()
    assert cache() is None


@needs_transformers
def test_nothing_is_printed(subject, capfd):
    step = one_step(subject)
    step.run(step.prepare())
    check(subject, batch=1, position=4)
    assert capfd.readouterr() == ("", "")


@needs_transformers
def test_sizes_are_the_subjects(subject):
    network, config = Stream(subject, 1, position=4).network, subject.config
    block = network.transformer.h[0]
    assert len(network.transformer.h) == config.n_layers
    assert block.attn.num_heads == config.n_heads
    assert block.attn.c_proj.weight.shape == (config.d_model, config.d_model)
    assert block.mlp.c_fc.weight.shape == (config.d_model, 4 * config.d_model)
    assert network.lm_head.weight.shape == (12 + 20 + 9, config.d_model)
    assert network.config._attn_implementation == "sdpa"


@needs_transformers
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_it_computes_the_same(subject):
    check_in(subject, "float32", batch=2, position=20, compiled=True)


@needs_transformers
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
def test_recorded_as_a_graph_it_computes_the_same(tiny, toy_vocabulary, compiled):
    subject = Subject(tiny(toy_vocabulary, dropout=0.0).cuda(), weights="random weights")
    for dtype, tolerance in (("float32", None), ("bf16", BFLOAT16_TOLERANCE)):
        check_in(subject, dtype, batch=2, position=20, tolerance=tolerance, compiled=compiled)
    step = one_step(subject, compiled=compiled)
    first, again = ([x.clone() for x in step.run(step.prepare())] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
