"""Softmax attention: both forms against their formula and the library's, and the KV cache."""

import pytest
import torch
from fast_transformers.builders import RecurrentEncoderBuilder, TransformerEncoderBuilder
from fast_transformers.masking import LengthMask, TriangularCausalMask
from making import random_tokens

from seqgen.attention.cache import FIRST_CAPACITY
from seqgen.attention.naive import softmax_loop
from seqgen.attention.rows import PassRows
from seqgen.attention.softmax import (
    ATTENTION_TYPE,
    SoftmaxAttention,
    cache_after,
    softmax_attention,
)
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.state import State

B, T, H, K, V, C = 4, 23, 3, 8, 5, 9

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ],
    ),
]
LENGTHS = torch.tensor([T, 0, 1, 14])
STARTS = torch.zeros(B, T, dtype=torch.bool)
STARTS[0, 5] = STARTS[0, 17] = STARTS[1, 3] = STARTS[2, 0] = STARTS[3, 20] = True
WITHIN = STARTS & (torch.arange(T) < LENGTHS[:, None])
N_VALID = torch.tensor([C, 4, 2, 0])


def normal(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everything(attend, options, with_cache, device="cpu"):
    """Valid outputs, each row's keys and values after it, and the gradients of all inputs."""
    sizes = [(B, T, H, K), (B, T, H, K), (B, T, H, V), (B, H, C, K), (B, H, C, V)]
    leaves = [normal(*s, seed=i).to(device).requires_grad_() for i, s in enumerate(sizes)]
    q, k, v, *cache = leaves
    options = {name: x if x is None else x.to(device) for name, x in options.items()}
    if with_cache:
        options["cache"] = (*cache, N_VALID.to(device))
    out, left = attend(q, k, v, **options)
    results = [out[b, : options["lengths"][b]] for b in range(B)]
    results += [x for pair in left for x in pair]
    loss = sum((x * normal(*x.shape, seed=9).to(device)).sum() for x in results)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [x.detach().cpu() for x in (*results, *gradients)]


def fast(q, k, v, *, lengths, boundaries, cache=None):
    out = softmax_attention(q, k, v, boundaries=boundaries, cache=cache)
    keys, values, count = cache_after(k, v, lengths=lengths, boundaries=boundaries, cache=cache)
    return out, [(keys[b, :, :n], values[b, :, :n]) for b, n in enumerate(count.tolist())]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.parametrize("boundaries", [None, WITHIN], ids=["one segment", "segments"])
@pytest.mark.parametrize("lengths", [torch.full((B,), T), LENGTHS], ids=["full", "padded"])
def test_outputs_gradients_and_cache_are_those_of_the_formula(
    lengths, boundaries, with_cache, device
):
    options = {"lengths": lengths, "boundaries": boundaries}
    wanted = everything(softmax_loop, options, with_cache)
    got = everything(fast, options, with_cache, device)
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=1e-10)


def test_a_cache_that_was_left_continues_the_rows():
    q, k, v = (normal(B, T, H, K, seed=i) for i in range(3))
    whole = softmax_attention(q, k, v)
    left = cache_after(k[:, :9], v[:, :9])
    rest = softmax_attention(q[:, 9:], k[:, 9:], v[:, 9:], cache=left)
    assert torch.allclose(rest, whole[:, 9:], atol=1e-10)


def test_what_stands_past_the_valid_part_of_a_cache_does_not_matter():
    q, k, v = (normal(B, T, H, K, seed=i) for i in range(3))
    cache = (normal(B, H, C, K), normal(B, H, C, K), N_VALID)
    out, left = softmax_attention(q, k, v, cache=cache), cache_after(k, v, cache=cache)
    past = (torch.arange(C) >= N_VALID[:, None])[:, None, :, None]
    other = (*(x.masked_fill(past, 7.0) for x in cache[:2]), N_VALID)
    assert torch.equal(out, softmax_attention(q, k, v, cache=other))
    for b, n in enumerate(left[2].tolist()):
        for x, y in zip(left[:2], cache_after(k, v, cache=other)[:2], strict=True):
            assert torch.equal(x[b, :, :n], y[b, :, :n])


def attend(layer, x, rows):
    mask = TriangularCausalMask(x.shape[1])
    return layer(x, x, x, mask, rows, rows)


def test_weights_drop_out_in_training_alone():
    x, rows = normal(B, T, H, K).float(), PassRows(B, T, device=torch.device("cpu"))
    layer, none = SoftmaxAttention(0.5), SoftmaxAttention(0.0)
    assert (attend(layer, x, rows) - attend(none, x, rows)).abs().max() > 0.1
    assert torch.equal(attend(layer.eval(), x, rows), attend(none.eval(), x, rows))
    average = sum(attend(layer.train(), x, rows) for _ in range(4000)) / 4000
    assert (average - attend(none, x, rows)).abs().max() < 0.2


def test_under_autocast_the_cache_is_in_float32():
    x = normal(B, T, H, K)
    rows = PassRows(B, T, device=torch.device("cpu"), keep=True)
    exact = attend(SoftmaxAttention(0.0), x, rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend(SoftmaxAttention(0.0), x.bfloat16(), rows)
    assert out.dtype == torch.bfloat16
    assert (out - exact).abs().max() < 3e-2
    assert [part.dtype for part in rows.states[0]] == [torch.float32, torch.float32, torch.int64]


def test_a_mask_that_is_not_causal_is_refused():
    x, mask = normal(2, 5, H, K), LengthMask(torch.tensor([5, 5]), max_len=5)
    with pytest.raises(ValueError, match="TriangularCausalMask"):
        SoftmaxAttention()(x, x, x, mask, mask, mask)


def test_the_stack_is_the_librarys_full_attention_on_the_same_weights():
    sizes = {
        "n_layers": 2,
        "n_heads": 2,
        "query_dimensions": 8,
        "value_dimensions": 8,
        "feed_forward_dimensions": 32,
    }
    build = lambda builder, kind: builder.from_kwargs(attention_type=kind, **sizes).get().eval()  # noqa: E731
    ours = build(TransformerEncoderBuilder, ATTENTION_TYPE)
    others = [build(TransformerEncoderBuilder, "full"), build(RecurrentEncoderBuilder, "full")]
    for other in others:
        other.load_state_dict(ours.state_dict(), strict=True)
    x, mask, lengths = torch.randn(2, 40, 16), TriangularCausalMask(40), torch.tensor([40, 13])
    with torch.no_grad():
        rows = PassRows(2, 40, device=x.device, lengths=lengths)
        out = ours(x, attn_mask=mask, length_mask=rows)
        whole = others[0](x, attn_mask=mask, length_mask=LengthMask(lengths, max_len=40))
        steps, state = [], None
        for t in range(40):
            y, state = others[1](x[:, t], state)
            steps.append(y)
    for b, n in enumerate(lengths):
        assert (out - whole)[b, :n].abs().max() < 1e-5
        assert (out - torch.stack(steps, dim=1))[b, :n].abs().max() < 1e-5


@pytest.fixture
def recurrent(tiny, plain_vocabulary):
    return RecurrentModel(tiny(plain_vocabulary, attention="softmax"))


def by_steps(recurrent, tokens, state):
    logits = []
    for t in range(tokens.shape[1]):
        scores, state = recurrent.step(tokens[:, t], state)
        logits.append(scores[0])
    return torch.stack(logits, dim=1), state


def capacity(state):
    keys, values, written = state.attention
    assert keys.shape == values.shape
    assert keys.shape[:2] == written.shape
    return keys.shape[3]


def test_the_cache_grows_by_doubling_and_nothing_is_lost(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, attention="softmax")
    recurrent = RecurrentModel(model)
    tokens = random_tokens(plain_vocabulary, 2, 4 * FIRST_CAPACITY + 1)
    state, logits, capacities = recurrent.initial_state(2), [], []
    for t in range(tokens.shape[1]):
        scores, state = recurrent.step(tokens[:, t], state)
        logits.append(scores[0])
        capacities.append(capacity(state))
    assert sorted(set(capacities)) == [FIRST_CAPACITY * n for n in (1, 2, 4, 8)]
    assert capacities.count(2 * FIRST_CAPACITY) == FIRST_CAPACITY
    with torch.no_grad():
        assert (torch.stack(logits, dim=1) - model(tokens)[0]).abs().max() < 2e-5


def test_a_step_writes_in_place_and_a_second_one_copies(recurrent, plain_vocabulary):
    tokens = random_tokens(plain_vocabulary, 2, 6)
    _, state = by_steps(recurrent, tokens[:, :4], recurrent.initial_state(2))
    where = state.attention[0].data_ptr()
    _, first = recurrent.step(tokens[:, 4], state)
    _, second = recurrent.step(tokens[:, 5], state)
    assert first.attention[0].data_ptr() == where
    assert second.attention[0].data_ptr() != where
    _, third = recurrent.step(tokens[:, 5], first)  # the copy left the buffer to the first
    assert third.attention[0].data_ptr() == where


@pytest.mark.parametrize("before", [1, 5, FIRST_CAPACITY])
def test_branches_from_one_state_do_not_meet(recurrent, plain_vocabulary, before):
    tokens = random_tokens(plain_vocabulary, 2, before)
    branches = [random_tokens(plain_vocabulary, 2, 8, seed=seed) for seed in (1, 2, 3)]
    start = by_steps(recurrent, tokens, recurrent.initial_state(2))[1]
    wanted = [by_steps(recurrent, branch, start.clone())[0] for branch in branches]
    states, got = [start] * 3, [[], [], []]
    for t in range(8):  # all at the same time, and the state they share stays usable
        for i, branch in enumerate(branches):
            logits, states[i] = by_steps(recurrent, branch[:, t : t + 1], states[i])
            got[i].append(logits)
    for logits, whole in zip(got, wanted, strict=True):
        assert torch.equal(torch.cat(logits, dim=1), whole)
    assert torch.equal(by_steps(recurrent, branches[0], start.detach())[0], wanted[0])


def test_a_prefill_from_a_state_that_was_stepped_on_sees_none_of_it(recurrent, plain_vocabulary):
    tokens, lengths = random_tokens(plain_vocabulary, 2, 30), torch.tensor([20, 11])
    _, state = by_steps(recurrent, tokens[:, :10], recurrent.initial_state(2))
    saved = state.clone()
    by_steps(recurrent, tokens[:, :3], state)
    (logits,), end = recurrent.prefill(tokens[:, 10:], lengths, state)
    (wanted,), _ = recurrent.prefill(tokens[:, 10:], lengths, saved)
    assert torch.equal(logits, wanted)
    assert end.attention[2].tolist() == [[30, 21]] * 2  # positions, not slots ever written
    (alone,), _ = recurrent.prefill(tokens[1:, :21], torch.tensor([21]))
    assert (alone[0] - logits[1]).abs().max() < 2e-5


def test_joined_rows_at_different_positions_go_on_as_each_alone(recurrent, plain_vocabulary):
    lengths = [3, FIRST_CAPACITY - 2, 100]
    tokens = random_tokens(plain_vocabulary, 3, 140)
    prefix = [
        by_steps(recurrent, tokens[b : b + 1, :n], recurrent.initial_state(1))[1]
        for b, n in enumerate(lengths)
    ]
    joined = State.join(prefix)
    assert capacity(joined) == max(capacity(state) for state in prefix)
    rest = torch.stack([tokens[b, n : n + 40] for b, n in enumerate(lengths)])
    together, end = by_steps(recurrent, rest, joined)
    assert end.position.tolist() == [n + 40 for n in lengths]
    for b, state in enumerate(prefix):
        alone, _ = by_steps(recurrent, rest[b : b + 1], state)
        assert (together[b] - alone[0]).abs().max() < 2e-5


def test_bytes_are_those_of_the_whole_capacity(recurrent):
    state = recurrent.initial_state(3)
    L, width = recurrent.config.n_layers, recurrent.config.d_model
    places = state.position.nbytes + state.origin.nbytes + state.held.nbytes
    rest = state.recent.nbytes + places + 8 * L * 3
    assert state.nbytes - rest == 2 * L * 3 * FIRST_CAPACITY * width * 4


def test_the_kernel_of_the_other_attention_changes_nothing(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, attention="softmax")
    tokens = random_tokens(plain_vocabulary, 2, 10)
    with torch.no_grad():
        before = model(tokens)[0]
        model.use_kernel("naive")
        assert torch.equal(before, model(tokens)[0])


def test_recomputing_draws_the_same_dropout_and_leaves_the_same_cache(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, attention="softmax", dropout=0.3).train()
    tokens = random_tokens(plain_vocabulary, 2, 30)
    results = []
    for recompute in (False, True):
        model.recompute = recompute
        torch.manual_seed(5)
        hidden, end = model.run(tokens, keep_state=True)
        hidden.square().sum().backward()
        results.append((hidden, *end.attention, model.embedding.tables[0].weight.grad.clone()))
        model.zero_grad()
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
