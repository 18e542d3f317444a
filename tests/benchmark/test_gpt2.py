"""Hugging Face's GPT-2 does what it is timed for, or says why it is not there."""

import importlib.metadata
import importlib.util

import pytest
import torch
from tapes import TapeRecorder

from seqgen.benchmark import gpt2
from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import OutputsDiffer
from seqgen.benchmark.gpt2 import Gpt2Pool, check
from seqgen.benchmark.model import BenchmarkModel
from seqgen.decoding.cuda import GraphPool

OLDEST = "5.23"  # as in setup.py; older ones do not record their steps with every PyTorch


def why_not_transformers() -> str:
    """Return why the library cannot be tested; an empty string where it can."""
    if importlib.util.find_spec("transformers") is None:
        return f"transformers is not installed ({gpt2.INSTALL})"
    version = importlib.metadata.version("transformers")
    is_old = [int(part) for part in version.split(".")[:2]] < [int(x) for x in OLDEST.split(".")]
    return f"transformers {version} is older than {OLDEST}" if is_old else ""


needs_transformers = pytest.mark.skipif(bool(why_not_transformers()), reason=why_not_transformers())


@pytest.fixture
def model(tiny, toy_vocabulary):
    return BenchmarkModel(tiny(toy_vocabulary, dropout=0.0), weights="random weights")


def variants(model, position=20, batch=3):
    last, state = model.random_tokens(batch, 1)[:, 0], model.recurrent.initial_state(batch)
    return gpt2.variants(model, Draws(model, batch), last, state, position=position)


def test_without_transformers_the_row_says_so(model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    [missing] = variants(model)
    assert missing.name == "gpt2-static"
    assert missing.note.startswith("not available: transformers is not installed (")
    assert "pip install -c constraints.txt transformers" in missing.note
    check(model, model.random_tokens(1, 5))  # of nothing


@pytest.mark.parametrize("version", ["4.57.1", "5.9.0", "6.0.0.dev0"])
def test_another_transformers_is_named(model, monkeypatch, version):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "found")
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    assert f"transformers is {version}, 5.23 is needed" in variants(model)[0].note


def test_bfloat16_is_listed_only_where_the_device_has_it(model, monkeypatch):
    monkeypatch.setattr(gpt2, "why_not", lambda: "")
    for has_bfloat16, names in ((False, [gpt2.NAME]), (True, [gpt2.NAME, f"{gpt2.NAME}-bf16"])):
        monkeypatch.setattr(BenchmarkModel, "has_bfloat16", has_bfloat16)
        assert [v.name for v in variants(model)] == names


def test_what_it_will_hold_is_estimated_before_it_is_opened(model, monkeypatch):
    monkeypatch.setattr(gpt2, "why_not", lambda: "")
    near, far = (variants(model, position=position)[0].holds for position in (10**6, 10**9))
    assert far > 900 * near > 10**8


@needs_transformers
@pytest.mark.parametrize("position", [1, 15, 16, 37])
def test_a_step_with_the_cache_is_a_pass_without(model, monkeypatch, position):
    monkeypatch.setattr(BenchmarkModel, "has_bfloat16", True)
    check(model, model.random_tokens(2, position + 1))


@needs_transformers
@pytest.mark.parametrize("part", ["keys", "values"])
def test_a_corrupted_cache_is_found(model, monkeypatch, part):
    fill = Gpt2Pool.fill

    def wrong(self, prompt):
        fill(self, prompt)
        getattr(self.cache.layers[1], part)[:, :, 5] *= -1.0

    monkeypatch.setattr(Gpt2Pool, "fill", wrong)
    with pytest.raises(OutputsDiffer, match="gpt2-static and its own pass"):
        check(model, model.random_tokens(2, 21))


@needs_transformers
def test_a_wrong_position_is_found(model, monkeypatch):
    rewind = Gpt2Pool.rewind

    def wrong(self):
        rewind(self)
        self._at.fill_(self.position - 1)

    monkeypatch.setattr(Gpt2Pool, "rewind", wrong)
    with pytest.raises(OutputsDiffer):
        check(model, model.random_tokens(2, 21))


@needs_transformers
def test_repeats_give_the_same_logits_which_a_draw_may_write_to(model):
    pool = Gpt2Pool(model, 3, position=20, dtype="float32")
    tokens, slots, first = model.random_tokens(3, 1)[:, 0], torch.arange(3), None
    for _ in range(3):
        pool.rewind()
        logits = pool.advance(slots, tokens)
        assert [tuple(scores.shape) for scores in logits] == [(3, 12), (3, 20), (3, 9)]
        assert first is None or torch.equal(logits[0], first)
        first = logits[0].clone()
        logits[0].mul_(2.0)
    assert not torch.equal(pool.advance(slots, tokens)[0], first)  # not put back, it goes on


@needs_transformers
@torch.inference_mode()  # in which alone a tape can write to what GPT-2 gave
def test_a_recorded_step_is_the_same(model):
    """What a GPU replays, without one."""
    pool, recorder = Gpt2Pool(model, 2, position=20, dtype="float32"), TapeRecorder()
    graph, slots = GraphPool(pool, recorder), torch.arange(2)
    for tokens in model.random_tokens(4, 2):
        pool.rewind()
        replayed = torch.cat(graph.advance(slots, tokens), dim=-1).clone()
        pool.rewind()
        assert torch.allclose(replayed, torch.cat(pool.advance(slots, tokens), dim=-1), atol=1e-5)
    assert recorder.n_replayed == 3


@needs_transformers
def test_rewinding_puts_the_cache_back_without_copying_it(model):
    steps = Gpt2Pool(model, 2, position=20, dtype="float32")
    where = steps.cache.layers[0].keys.data_ptr()
    steps.advance(torch.arange(2), model.random_tokens(2, 1)[:, 0])
    assert [int(layer.cumulative_length) for layer in steps.cache.layers] == [21, 21]
    steps.rewind()
    assert [int(layer.cumulative_length) for layer in steps.cache.layers] == [20, 20]
    assert steps.cache.layers[0].keys.data_ptr() == where


@needs_transformers
def test_nothing_is_printed_and_no_random_number_is_taken(model, capfd):
    tokens = model.random_tokens(1, 5)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    check(model, tokens)
    assert torch.equal(torch.rand(1), expected)
    assert capfd.readouterr() == ("", "")


@needs_transformers
def test_sizes_are_the_models(model):
    network, config = Gpt2Pool(model, 1, position=4, dtype="float32").network, model.config
    block = network.transformer.h[0]
    assert len(network.transformer.h) == config.n_layers
    assert block.attn.num_heads == config.n_heads
    assert block.attn.c_proj.weight.shape == (config.d_model, config.d_model)
    assert block.mlp.c_fc.weight.shape == (config.d_model, 4 * config.d_model)
    assert network.lm_head.weight.shape == (12 + 20 + 9, config.d_model)
    assert network.config._attn_implementation == "sdpa"


@needs_transformers
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_recorded_as_a_graph_it_computes_the_same(tiny, toy_vocabulary):
    model = BenchmarkModel(tiny(toy_vocabulary, dropout=0.0).cuda(), weights="random weights")
    check(model, model.random_tokens(2, 21))
