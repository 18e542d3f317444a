"""ONNX graphs compute what the reference does at every position, and the prefill is the step."""

import sys

import numpy as np
import pytest
import torch
from decoders import CHOICES
from making import random_tokens

from seqgen.decoding import build_decoder, generate
from seqgen.decoding.onnx import OnnxDecoder, open_graph
from seqgen.decoding.reference import ReferenceDecoder
from seqgen.errors import UserError
from seqgen.sampling import Sampling

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def walk(pool, tokens, slots):
    """Logits [B, T, N] of a pool that takes tokens [B, T, F] in slots."""
    steps = [torch.cat(pool.advance(slots, token), dim=1).clone() for token in tokens.unbind(1)]
    return torch.stack(steps, dim=1)


@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
@pytest.mark.parametrize(
    "choices", CHOICES, ids=lambda c: "-".join(map(str, c.values())) or "plain"
)
def test_every_position_is_the_references(request, tiny, name, choices):
    model = tiny(request.getfixturevalue(name), **choices)
    tokens, slots = random_tokens(model.vocabulary, 3, 12), torch.tensor([4, 0, 2])
    results = []
    for kind in (OnnxDecoder, ReferenceDecoder):
        decoder = kind(model)
        _, state = decoder.prefill(tokens[:, :4], torch.tensor([4, 1, 3]))
        pool = decoder.open(5)
        pool.write(slots, state)
        results.append((walk(pool, tokens[:, 4:], slots), pool.read(slots)))
    (ours, our_state), (theirs, their_state) = results
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-5)
    for part in ("recent", "position", "origin", "held", "S", "Z"):
        torch.testing.assert_close(
            getattr(our_state, part), getattr(their_state, part), atol=2e-5, rtol=2e-5
        )


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("choices", [{}, {"positions": "bars", "decay": "learned"}])
def test_the_prefill_is_the_step_repeated(tiny, toy_vocabulary, weights, choices):
    from seqgen.decoding.onnx_graph import prefill_graph

    model = tiny(toy_vocabulary, **choices)
    tokens, lengths = random_tokens(toy_vocabulary, 3, 9), [9, 1, 4]
    decoder = OnnxDecoder(model, weights)
    session = open_graph(prefill_graph(model, weights).SerializeToString())
    names = [one.name for one in session.get_inputs()][2:]
    state = decoder.initial_state(3)
    given = {name: getattr(state, name).numpy() for name in names}
    given |= {"tokens": tokens.numpy(), "lengths": np.array(lengths)}
    outputs = [one.name for one in session.get_outputs()]
    values = dict(zip(outputs, session.run(outputs, given), strict=True))
    for row, length in enumerate(lengths):
        pool, slot = decoder.open(1), torch.zeros(1, dtype=torch.long)
        pool.write(slot, decoder.initial_state(1))
        logits = walk(pool, tokens[row : row + 1, :length], slot)[0, -1]
        assert np.allclose(values["logits"][row], logits, atol=1e-5)
        after = pool.read(slot)
        for name in names:
            axis = int(name in ("S", "Z"))  # that of rows
            part = values[f"new_{name}"].take(row, axis)
            assert np.allclose(part, getattr(after, name).numpy().take(0, axis), atol=1e-5)


def test_rows_in_8_bits_do_not_depend_on_other_rows(tiny, plain_vocabulary):
    decoder = OnnxDecoder(tiny(plain_vocabulary), "int8")
    tokens = random_tokens(plain_vocabulary, 4, 8)
    pools = decoder.open(4), decoder.open(1)
    slots = torch.arange(4), torch.zeros(1, dtype=torch.long)
    for pool, slot in zip(pools, slots, strict=True):
        pool.write(slot, decoder.initial_state(len(slot)))
    together, alone = walk(pools[0], tokens, slots[0]), walk(pools[1], tokens[2:3], slots[1])
    torch.testing.assert_close(together[2:3], alone, atol=1e-5, rtol=1e-5)


def test_8_bits_stay_near_the_exact_weights(tiny, plain_vocabulary):
    model, tokens = tiny(plain_vocabulary, d_model=64), random_tokens(plain_vocabulary, 20, 10)
    found = []
    for weights in ("float32", "int8"):
        pool, slots = OnnxDecoder(model, weights).open(20), torch.arange(20)
        pool.write(slots, ReferenceDecoder(model).initial_state(20))
        found.append(walk(pool, tokens, slots))
    exact, rounded = found
    assert 0 < (rounded - exact).abs().max() < 0.15 * exact.abs().max()


def test_it_draws_what_the_reference_draws(tiny, plain_vocabulary):
    model, prompt = tiny(plain_vocabulary), np.array([[1], [7]])
    drawn = [
        np.concatenate(
            [
                step.tokens
                for step in generate(
                    build_decoder(model, name),
                    [prompt],
                    sampling=Sampling(temperature=0.9),
                    max_tokens=30,
                    seed=5,
                )
            ]
        )
        for name in ("onnx", "reference")
    ]
    assert drawn[0].tolist() == drawn[1].tolist()


def test_what_it_cannot_do_is_one_sentence(tiny, plain_vocabulary, monkeypatch):
    with pytest.raises(UserError, match="attention=softmax has no ONNX graph"):
        OnnxDecoder(tiny(plain_vocabulary, attention="softmax"))
    model = tiny(plain_vocabulary)
    with pytest.raises(UserError, match="--decay-after"):
        OnnxDecoder(model, decay_after=8)
    with pytest.raises(UserError, match="w8a8"):
        OnnxDecoder(model, "w8a8")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(
        "seqgen.decoding.onnx.find_spec", lambda name: None if name == "onnxruntime" else name
    )
    with pytest.raises(UserError, match=r"onnxruntime is missing: pip install 'seqgen\[onnx\]'"):
        OnnxDecoder(model)
