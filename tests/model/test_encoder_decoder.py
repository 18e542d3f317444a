"""An encoder-decoder computes the same in both forms, and its source is two sums for each layer."""

from functools import partial

import pytest
import torch
from fast_transformers.builders import RecurrentDecoderBuilder, TransformerDecoderBuilder
from fast_transformers.masking import LengthMask, TriangularCausalMask
from making import random_tokens

from seqgen.attention.kinds import KINDS
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.stack import sum_source
from seqgen.model.state import State

B, T, U = 3, 14, 11
LENGTHS = torch.tensor([U, 1, 6])  # of the sources
TOLERANCE = 2e-5
CHOICES = [
    {"positions": "sinusoidal"},
    {"positions": "bars", "conv_width": 0, "feature_map": "hedgehog"},
    {"positions": "learned", "conv_width": 2, "max_positions": 40, "activation": "relu"},
    {"decay": "learned", "decay_range": [1.0, 6.0], "positions": "bar-numbers"},
]
linear_and_softmax = pytest.mark.parametrize("attention", list(KINDS))


@pytest.fixture
def pair(tiny):
    return partial(tiny, kind="encoder-decoder")


@pytest.fixture(params=["plain_vocabulary", "toy_vocabulary"])
def vocabulary(request):
    return request.getfixturevalue(request.param)


def sources(vocabulary, seed=1):
    return random_tokens(vocabulary, B, U, seed)


def by_steps(recurrent, tokens, state):
    logits = []
    for t in range(tokens.shape[1]):
        scores, state = recurrent.step(tokens[:, t], state)
        logits.append(scores)
    return [torch.stack(field, dim=1) for field in zip(*logits, strict=True)], state


def whole(model, tokens, state):
    with torch.no_grad():
        return model.lm_head(model.run(tokens, state=state)[0])


def assert_same(a, b, tolerance=TOLERANCE):
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert (x - y).abs().max() < tolerance


@pytest.mark.parametrize("choices", [*CHOICES, {"attention": "softmax", "positions": "bars"}])
def test_steps_equal_the_pass_at_every_position(pair, vocabulary, choices):
    model = pair(vocabulary, **choices)
    recurrent = RecurrentModel(model)
    tokens = random_tokens(vocabulary, B, T)
    state = recurrent.begin(sources(vocabulary), LENGTHS)
    expected = whole(model, tokens, model.begin(sources(vocabulary), LENGTHS))
    assert_same(expected, by_steps(recurrent, tokens, state)[0])
    other = recurrent.begin(sources(vocabulary, seed=2), LENGTHS)
    assert (expected[0] - whole(model, tokens, other)[0]).abs().amax(-1).min() > 1e-3


@linear_and_softmax
def test_prefill_then_steps_equal_steps_alone(pair, plain_vocabulary, attention):
    recurrent = RecurrentModel(pair(plain_vocabulary, attention=attention))
    tokens = random_tokens(plain_vocabulary, B, T)
    begun = recurrent.begin(sources(plain_vocabulary), LENGTHS)
    stepped, _ = by_steps(recurrent, tokens, begun)
    logits, state = recurrent.prefill(tokens[:, :9], torch.tensor([9, 4, 1]), begun)
    assert_same(
        logits,
        [torch.stack([field[b, n - 1] for b, n in enumerate((9, 4, 1))]) for field in stepped],
    )
    rest, _ = by_steps(recurrent, tokens[:1, 9:], state.rows([0]))
    assert_same(rest, [field[:1, 9:] for field in stepped])


def test_the_parallel_form_is_the_librarys_decoder_over_the_encoded_source(pair, plain_vocabulary):
    """Its own stacks, with its own attentions and masks, see the source and not our sums."""
    model = pair(plain_vocabulary, activation="relu", feature_map="relu", positions="sinusoidal")
    source, tokens = sources(plain_vocabulary), random_tokens(plain_vocabulary, B, T)
    shape = {"n_layers": 2, "n_heads": 4, "query_dimensions": 8, "value_dimensions": 8}
    shape |= {"feed_forward_dimensions": 128, "activation": "relu"}
    shape["feature_map"] = model.stack.built_from["cross_attention.feature_map"]
    library = TransformerDecoderBuilder.from_kwargs(
        self_attention_type="causal-linear", cross_attention_type="linear", **shape
    ).get()
    library.load_state_dict(model.stack.state_dict(), strict=True)
    stepping = RecurrentDecoderBuilder.from_kwargs(
        self_attention_type="linear", cross_attention_type="linear", **shape
    ).get()
    stepping.load_state_dict(model.stack.state_dict(), strict=True)
    mask = LengthMask(LENGTHS, max_len=U)
    with torch.no_grad():
        memory = model.encode(source, LENGTHS)
        x, _ = model.embed(tokens, torch.arange(T), in_force=model.in_force(tokens))
        lengths = LengthMask(torch.full((B,), T))
        expected = library.eval()(
            *(x, memory),
            x_mask=TriangularCausalMask(T),
            x_length_mask=lengths,
            memory_length_mask=mask,
        )
        expected = model.finish(expected, model.in_force(tokens))
        ours, _ = model.run(tokens, state=model.begin(source, LENGTHS))
        assert_same([ours], [expected])
        _, states = stepping.eval()(x[:, 0], memory, memory_length_mask=mask)
        S, Z = sum_source(model.stack, memory, LENGTHS)
    assert_same([S.mT, Z], [torch.stack([cross[i] for _, cross in states]) for i in (0, 1)])


@linear_and_softmax
def test_pads_of_both_sides_change_nothing(pair, plain_vocabulary, attention):
    model = pair(plain_vocabulary, attention=attention)
    source, tokens = sources(plain_vocabulary), random_tokens(plain_vocabulary, B, T)
    lengths = [T, 3, 8]
    alone = [
        whole(model, tokens[b : b + 1, :t], model.begin(source[b : b + 1, :n], LENGTHS[b : b + 1]))
        for b, (n, t) in enumerate(zip(LENGTHS.tolist(), lengths, strict=True))
    ]
    for b, (n, t) in enumerate(zip(LENGTHS.tolist(), lengths, strict=True)):
        source[b, n:] = tokens[b, t:] = 5
    with torch.no_grad():
        hidden, _ = model.run(tokens, torch.tensor(lengths), state=model.begin(source, LENGTHS))
        together = model.lm_head(hidden)
    for b, t in enumerate(lengths):
        assert_same([field[b : b + 1, :t] for field in together], alone[b])


def test_the_encoder_sees_what_comes_later(pair, plain_vocabulary):
    model, source = pair(plain_vocabulary), sources(plain_vocabulary)
    with torch.no_grad():
        before = model.encode(source, torch.full((B,), U))
        source[:, -1] = 9
        after = model.encode(source, torch.full((B,), U))
    assert (before[:, 0] - after[:, 0]).abs().amax(-1).min() > 1e-3


def test_the_state_has_one_size_and_branches_as_a_value(pair, plain_vocabulary):
    recurrent = RecurrentModel(pair(plain_vocabulary))
    source, tokens = sources(plain_vocabulary), random_tokens(plain_vocabulary, B, T)
    begun = recurrent.begin(source, torch.full((B,), U))
    short = recurrent.begin(source[:, :1], torch.ones(B, dtype=torch.long))
    _, end = by_steps(recurrent, tokens, begun)
    assert begun.nbytes == short.nbytes == end.nbytes == recurrent.initial_state(B).nbytes
    assert all(torch.equal(x, y) for x, y in zip(begun.source, end.source, strict=True))
    mixed = State.join([end.rows([2, 0]), begun.rows([1])])
    logits, _ = recurrent.step(tokens[[2, 0, 1], 5], mixed)
    apart = [
        recurrent.step(tokens[[b], 5], s.rows([b]))[0][0]
        for b, s in ((2, end), (0, end), (1, begun))
    ]
    assert_same(logits, [torch.cat(apart)])


@linear_and_softmax
def test_gradients_reach_every_parameter_also_through_the_source(pair, toy_vocabulary, attention):
    model = pair(toy_vocabulary, attention=attention, positions="learned", max_positions=40)
    model.train()
    for recompute in (False, True):
        model.recompute = recompute
        model.zero_grad()
        tokens = random_tokens(toy_vocabulary, B, T + 1)
        hidden, _ = model.run(tokens[:, :-1], state=model.begin(sources(toy_vocabulary), LENGTHS))
        sum(x.square().mean() for x in model.lm_head(hidden, tokens[:, 1:])).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("key_projection.bias"), name


@linear_and_softmax
def test_a_model_without_encoder_takes_the_source_as_a_prefix(tiny, plain_vocabulary, attention):
    model = tiny(plain_vocabulary, attention=attention, positions="bars")
    source, tokens = sources(plain_vocabulary), random_tokens(plain_vocabulary, B, T)
    ours = whole(model, tokens, model.begin(source, LENGTHS))
    for b, n in enumerate(LENGTHS.tolist()):
        joined = torch.cat([source[b : b + 1, :n], tokens[b : b + 1]], dim=1)
        with torch.no_grad():
            assert_same([x[b : b + 1] for x in ours], [x[:, n:] for x in model(joined)])


def test_bars_of_a_target_have_the_numbers_of_those_of_its_source(tiny, plain_vocabulary):
    """Counted from each BOS (1), at anchors (5, 9), in one pass and from any state."""
    model = tiny(plain_vocabulary, positions="bar-numbers")
    ids = [1, 5, 7, 9, 2, 1, 8, 5, 5, 7]
    tokens = torch.tensor(ids)[None, :, None]
    numbers = [0, 1, 1, 2, 2, 0, 0, 1, 2, 2]
    places = torch.arange(len(ids))
    whole = places - model.positions.origins(tokens, places[None])
    assert whole[0].tolist() == numbers
    before = torch.zeros(1, dtype=torch.long)
    for t in range(len(ids)):
        origin = model.positions.origins(tokens[:, t : t + 1], places[None, t : t + 1], before)
        assert t - int(origin) == numbers[t]
        before = origin[:, 0]
    stepped, _ = by_steps(RecurrentModel(model), tokens, RecurrentModel(model).initial_state(1))
    with torch.no_grad():
        assert_same(stepped, model(tokens))
