"""Prompts in passes of bounded memory, with sums that decay or not, give what stepping gives."""

import pytest
import torch
from making import random_tokens

from seqgen.attention.kinds import KINDS
from seqgen.errors import UserError
from seqgen.model import recurrent_model
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel

B, T = 4, 60
LENGTHS = torch.tensor([60, 1, 33, 48])
CHOICES = [{}, {"positions": "bars"}, {"positions": "sinusoidal", "conv_width": 1}]


def by_steps(recurrent, tokens, lengths, state=None):
    """Logits after each row's last token, by field, and the states there, row by row."""
    found = []
    for row, length in enumerate(lengths.tolist()):
        own = recurrent.initial_state(1) if state is None else state.rows([row])
        for t in range(length):
            logits, own = recurrent.step(tokens[row : row + 1, t], own)
        found.append((logits, own))
    fields = zip(*(logits for logits, _ in found), strict=True)
    return [torch.cat(field) for field in fields], type(own).join([own for _, own in found])


def assert_same(a, b, tolerance=2e-5):
    (logits, state), (others, other) = a, b
    for x, y in zip(logits, others, strict=True):
        assert (x - y).abs().max() < tolerance
    assert torch.equal(state.position, other.position)
    assert torch.equal(state.origin, other.origin)
    assert torch.equal(state.recent, other.recent)
    for x, y in zip(state.attention, other.attention, strict=True):
        assert ((x - y).abs() / y.abs().clamp(min=1)).max() < tolerance


@pytest.mark.parametrize("choices", [*CHOICES, *({"attention": kind} for kind in KINDS)])
@pytest.mark.parametrize("piece", [1, 7, 59, 60])
def test_passes_of_any_size_equal_one_pass(tiny, toy_vocabulary, monkeypatch, choices, piece):
    recurrent = RecurrentModel(tiny(toy_vocabulary, **choices))
    tokens = random_tokens(toy_vocabulary, B, T + 5)  # more than any row has
    logits, state = recurrent.prefill(tokens, LENGTHS)
    monkeypatch.setattr(recurrent_model, "PASS_TOKENS", piece * B)
    again, end = recurrent.prefill(tokens, LENGTHS)
    for x, y in zip(logits, again, strict=True):
        assert (x - y).abs().max() < 1e-5
    assert torch.equal(state.position, end.position)
    if choices.get("attention") != "softmax":  # whose caches differ in capacity
        assert_same((logits, state), (again, end))


def test_no_pass_holds_more_tokens_than_it_may(tiny, plain_vocabulary, monkeypatch):
    recurrent, sizes = RecurrentModel(tiny(plain_vocabulary)), []
    run = SequenceModel.run

    def watched(model, tokens, *arguments, **options):
        sizes.append(tuple(tokens.shape[:2]))
        return run(model, tokens, *arguments, **options)

    monkeypatch.setattr(SequenceModel, "run", watched)
    monkeypatch.setattr(recurrent_model, "PASS_TOKENS", 50)
    recurrent.prefill(random_tokens(plain_vocabulary, B, T), LENGTHS)
    assert sizes == [(4, 12)] * 5


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("decay_after", [3, 16, 100])
def test_with_decay_prefill_equals_stepping_from_any_state(
    tiny, toy_vocabulary, choices, decay_after
):
    recurrent = RecurrentModel(tiny(toy_vocabulary, **choices), decay_after)
    tokens = random_tokens(toy_vocabulary, B, T + 20)
    stepped = by_steps(recurrent, tokens, LENGTHS)
    prefilled = recurrent.prefill(tokens, LENGTHS)
    assert_same(prefilled, stepped)
    more = torch.tensor([5, 20, 1, 12])
    rest = torch.stack([row[n : n + 20] for row, n in zip(tokens, LENGTHS, strict=True)])
    goes_on = by_steps(recurrent, rest, more, stepped[1])
    assert_same(recurrent.prefill(rest, more, prefilled[1]), goes_on)


def test_decay_changes_nothing_before_its_position_and_something_after(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary)
    tokens = random_tokens(plain_vocabulary, 1, 30)
    plain, decaying = RecurrentModel(model), RecurrentModel(model, decay_after=20)
    assert (plain.decay_after, decaying.decay_after) == (None, 20)
    state = other = plain.initial_state(1)
    for t in range(30):
        before, other_before = state.clone(), other
        a, state = plain.step(tokens[:, t], state)
        b, other = decaying.step(tokens[:, t], other)
        assert torch.equal(a[0], b[0]) == (t < 20)
        assert torch.equal(before.S, plain.initial_state(1).S) == (t == 0)
    assert other_before.S.data_ptr() != other.S.data_ptr()


def test_a_decaying_step_leaves_the_state_it_was_given_alone(tiny, plain_vocabulary):
    recurrent = RecurrentModel(tiny(plain_vocabulary), decay_after=4)
    tokens = random_tokens(plain_vocabulary, 2, 10)
    _, state = recurrent.prefill(tokens[:, :9], torch.tensor([9, 9]))
    before = state.clone()
    recurrent.step(tokens[:, 9], state)
    assert torch.equal(state.S, before.S)
    assert torch.equal(state.Z, before.Z)


def test_softmax_attention_does_not_support_decay(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, attention="softmax")
    with pytest.raises(UserError, match="does not support decay"):
        RecurrentModel(model, decay_after=16)
    with pytest.raises(UserError, match="does not support decay"):
        model.run(random_tokens(plain_vocabulary, 1, 5), decay_after=16)
