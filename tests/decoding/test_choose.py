"""The decoder that is taken is the fastest one that can be had, and it is said why."""

from types import SimpleNamespace

import pytest
import torch
from making import random_tokens

from seqgen.decoding import build_decoder, choose_decoder
from seqgen.decoding.agreement import agree, score
from seqgen.errors import UserError
from seqgen.native import why_missing


def test_without_compiled_operators_it_is_torch_and_says_so(tiny, plain_vocabulary, monkeypatch):
    model = tiny(plain_vocabulary)
    monkeypatch.setattr("seqgen.decoding.native.why_missing", lambda: "nothing was built")
    assert choose_decoder(model) == ("torch", "not native: nothing was built")
    assert build_decoder(model).name == "torch"
    for decoder, weights in (("native", "float32"), ("auto", "w8a8")):
        with pytest.raises(UserError, match="nothing was built"):
            build_decoder(model, decoder, weights=weights)


@pytest.mark.skipif(bool(why_missing()), reason=why_missing())
def test_with_them_it_is_native(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    assert build_decoder(model, weights="w8a8").name == choose_decoder(model)[0] == "native"


def test_on_a_gpu_it_is_cuda_where_its_weights_are_supported(tiny, plain_vocabulary, monkeypatch):
    model = tiny(plain_vocabulary)
    on_a_gpu = [SimpleNamespace(device=torch.device("cuda"))]
    monkeypatch.setattr(model, "parameters", lambda: iter(on_a_gpu))
    assert choose_decoder(model)[0] == choose_decoder(model, "bf16")[0] == "cuda"
    assert choose_decoder(model, "int8") == ("torch", "not cuda: it does not support weights=int8")


def test_full_attention_has_the_reference_alone(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, attention="softmax")
    assert build_decoder(model).name == "reference"
    for name in ("torch", "native"):
        with pytest.raises(UserError, match="softmax"):
            build_decoder(model, name)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"decoder": "fast"}, "no decoder fast; known are auto, reference, torch, native, cuda"),
        ({"weights": "int4"}, "weights = int4: known are float32"),
        (
            {"decoder": "reference", "weights": "bf16"},
            "weights = bf16: the reference decoder does not support",
        ),
        (
            {"decoder": "torch", "weights": "w8a8"},
            "weights = w8a8: the torch decoder does not support",
        ),
        ({"decoder": "cuda"}, "the model is on cpu"),
        ({"prefill": "int8"}, "prefill = int8: must be one of float32, bf16"),
    ],
)
def test_what_is_not_available_is_named(tiny, plain_vocabulary, choice, said):
    with pytest.raises(UserError, match=said):
        build_decoder(tiny(plain_vocabulary), **choice)


def test_prompts_read_in_bfloat16_leave_nearly_the_same_state(tiny, toy_vocabulary):
    model = tiny(toy_vocabulary, positions="bars")
    tokens, lengths = random_tokens(toy_vocabulary, 3, 40), torch.tensor([40, 7, 21])
    exact, rounded = (
        build_decoder(model, "reference", decay_after=9, prefill=prefill).prefill(tokens, lengths)
        for prefill in ("float32", "bf16")
    )
    for ours, theirs in zip(
        (*rounded[0], *rounded[1].attention), (*exact[0], *exact[1].attention), strict=True
    ):
        assert ours.dtype == torch.float32
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        assert 0 < difference < 2e-2
    assert torch.equal(rounded[1].position, exact[1].position)
    assert torch.equal(rounded[1].origin, exact[1].origin)


def test_agreement_is_whole_for_the_exact_decoder_and_not_for_another_model(tiny, toy_vocabulary):
    model, tokens = tiny(toy_vocabulary), random_tokens(toy_vocabulary, 4, 30)
    exact = score(model, tokens)
    same = agree(build_decoder(model, "reference"), tokens, exact)
    assert same.top1 == 1
    assert same.targets == 4 * 29
    assert same.bits == pytest.approx(same.exact_bits, abs=1e-5)
    other = agree(build_decoder(tiny(toy_vocabulary), "reference"), tokens, exact)
    assert other.top1 < 0.5
    assert abs(other.bits - other.exact_bits) > 0.01
