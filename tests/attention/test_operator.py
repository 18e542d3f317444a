"""All implementations of the operator mean the same: outputs, gradients and state."""

import itertools
from functools import cache

import pytest
import torch

from seqgen.attention.chunked import chunked
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.naive import masked_product, position_loop
from seqgen.attention.operator import causal_linear_attention
from seqgen.native import why_missing

needs_native = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "built")
KERNELS = ["naive", "chunked", pytest.param("native", marks=needs_native)]
FAST = KERNELS[1:]
NAMES = ("out", "S", "Z", "dq", "dk", "dv", "dS", "dZ")
# B, T, H, K, V: single positions, single heads, chunks that fit and that do not, K ≠ V
SHAPES = [
    (2, 150, 3, 8, 5),
    (1, 1, 1, 3, 70),
    (3, 64, 2, 16, 16),
    (1, 33, 1, 40, 1),
    (2, 97, 2, 2, 9),
]


def draw(shape, seed=0, *, scale=1.0):
    """Queries, keys, values, initial sums, and a weight for each result; float64, no zeros."""
    B, T, H, K, V = shape
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    inputs = [normal(B, T, H, K).exp(), normal(B, T, H, K).exp(), normal(B, T, H, V)]
    inputs = [x * scale for x in inputs]
    state = [normal(B, H, K, V), normal(B, H, K).exp()]
    return [*inputs, *state], [normal(B, T, H, V), normal(B, H, K, V), normal(B, H, K)]


def lengths_and_boundaries(shape, seed=0):
    B, T, *_ = shape
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, T + 1, (B,), generator=generator)
    lengths[0] = 0 if B > 1 else T
    return lengths, torch.rand(B, T, generator=generator) < 0.07


@cache
def reference(shape, seed, with_boundaries):
    """Everything by the loop over positions, which is slow, once for all kernels."""
    lengths, boundaries = lengths_and_boundaries(shape, seed)
    options = {"lengths": lengths, "boundaries": boundaries if with_boundaries else None}
    return everything(position_loop, *draw(shape, seed), **options)


def everything(attend, inputs, weights, **options):
    """Outputs, state, and the gradients of all five inputs."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    q, k, v, S, Z = inputs
    out, (S, Z) = attend(q, k, v, initial_state=(S, Z), **options)
    results = (out, S, Z)
    loss = sum((x * w.to(x.dtype)).sum() for x, w in zip(results, weights, strict=True))
    return [x.detach() for x in (*results, *torch.autograd.grad(loss, inputs))]


def assert_close(got, wanted, tolerance):
    """Each result relative to the largest value it should have."""
    for name, a, b in zip(NAMES, got, wanted, strict=True):
        assert a.shape == b.shape, name
        a, b = a.detach().double(), b.detach()
        error = float((a - b).abs().max() / b.abs().max().clamp(min=1e-30))
        assert error < tolerance, f"{name} is {error:.1e} off"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("with_boundaries", [False, True])
def test_the_two_references_are_the_same_formula(shape, with_boundaries):
    inputs, weights = draw(shape)
    lengths, boundaries = lengths_and_boundaries(shape)
    options = {"lengths": lengths, "boundaries": boundaries if with_boundaries else None}
    got = everything(masked_product, inputs, weights, **options)
    assert_close(got, reference(shape, 0, with_boundaries), 1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("with_boundaries", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("kernel", FAST)
def test_fast_kernels_equal_the_reference(kernel, dtype, tolerance, with_boundaries, shape):
    for seed in range(3):
        inputs, weights = draw(shape, seed)
        lengths, boundaries = lengths_and_boundaries(shape, seed)
        options = {"lengths": lengths, "boundaries": boundaries if with_boundaries else None}
        inputs = [x.to(dtype) for x in inputs]
        got = everything(causal_linear_attention, inputs, weights, kernel=kernel, **options)
        assert_close(got, reference(shape, seed, with_boundaries), tolerance)


@cache
def bfloat16_case():
    """Inputs, weights, and the exact results for the rounded inputs."""
    inputs, weights = draw((2, 700, 2, 16, 16))
    inputs = [x.bfloat16() if i < 3 else x.float() for i, x in enumerate(inputs)]
    weights = [weights[0].bfloat16(), *weights[1:]]
    return inputs, weights, everything(position_loop, [x.double() for x in inputs], weights)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bfloat16_is_summed_in_float32(kernel):
    """Only what is handed out is rounded."""
    inputs, weights, wanted = bfloat16_case()
    got = everything(causal_linear_attention, inputs, weights, kernel=kernel)
    assert [x.dtype for x in got[:3]] == [torch.bfloat16, torch.float32, torch.float32]
    assert_close(got, wanted, 8e-3)
    for a, b in zip(got[1:3], wanted[1:3], strict=True):
        assert float((a - b).abs().max() / b.abs().max()) < 2e-6


@pytest.mark.parametrize("kernel", KERNELS)
def test_half_precision_is_taken_and_given_back(kernel):
    inputs, _ = draw((1, 70, 2, 8, 8))
    q, k, v = (x.half() for x in inputs[:3])
    out, (S, _) = causal_linear_attention(q, k, v, kernel=kernel)
    wanted, _ = masked_product(q.double(), k.double(), v.double())
    assert (out.dtype, S.dtype) == (torch.float16, torch.float32)
    assert (out - wanted).abs().max() < 4e-3


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("kernel", FAST)
def test_large_and_small_magnitudes(kernel, scale):
    inputs, weights = draw((1, 130, 2, 8, 8), scale=scale)
    wanted = everything(position_loop, inputs, weights)
    got = everything(causal_linear_attention, [x.float() for x in inputs], weights, kernel=kernel)
    assert_close(got, wanted, 1e-4)


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("cut", [1, 31, 64, 99])
def test_a_sequence_split_in_two_equals_one_pass(kernel, cut):
    shape = (2, 100, 3, 8, 5)
    inputs, weights = draw(shape)
    lengths = torch.tensor([100, 40])

    def in_two(q, k, v, *, initial_state, **_):
        state, parts = initial_state, []
        for part in (slice(cut), slice(cut, None)):
            begin = part.start or 0
            own = (lengths - begin).clamp(0, q[:, part].shape[1])
            out, state = causal_linear_attention(
                *(x[:, part] for x in (q, k, v)),
                lengths=own,
                initial_state=state,
                kernel=kernel,
            )
            parts.append(out)
        return torch.cat(parts, dim=1), state

    whole = everything(position_loop, inputs, weights, lengths=lengths)
    assert_close(everything(in_two, inputs, weights), whole, 1e-10)


@pytest.mark.parametrize("kernel", FAST)
def test_inputs_and_gradients_of_any_strides(kernel):
    shape = (2, 50, 3, 8, 8)
    inputs, weights = draw(shape)
    wanted = everything(position_loop, inputs, weights)
    # The same numbers, each laid out in another order; the gradient of the output too.
    orders = itertools.islice(itertools.permutations(range(4)), 1, 24, 7)
    strided = [
        x.permute(order).contiguous().permute(torch.tensor(order).argsort().tolist())
        for x, order in zip(inputs[:3], orders, strict=False)
    ]
    assert not any(x.is_contiguous() for x in strided)

    def attend(q, k, v, **options):
        out, state = causal_linear_attention(q, k, v, kernel=kernel, **options)
        return out.transpose(1, 3).contiguous().transpose(1, 3), state

    inputs = [*strided, *(x.transpose(1, 2).contiguous().transpose(1, 2) for x in inputs[3:])]
    inputs = [x.requires_grad_() for x in inputs]
    out, (S, Z) = attend(*inputs[:3], initial_state=inputs[3:])
    loss = sum((x * w).sum() for x, w in zip((out, S, Z), weights, strict=True))
    assert_close([out, S, Z, *torch.autograd.grad(loss, inputs)], wanted, 1e-10)


@pytest.mark.parametrize("kernel", FAST)
def test_the_gradient_of_a_plain_sum(kernel):
    """Its strides are all zero."""
    inputs, _ = draw((1, 40, 2, 8, 8))
    gradients = []
    for attend in (position_loop, lambda *x: causal_linear_attention(*x, kernel=kernel)):
        leaves = [x.clone().requires_grad_() for x in inputs[:3]]
        attend(*leaves)[0].sum().backward()
        gradients.append([x.grad for x in leaves])
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() < 1e-10


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_gradcheck(kernel, name):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 5, 1, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    )
    lengths, boundaries = torch.tensor([5, 3]), torch.zeros(2, 5, dtype=torch.bool)
    boundaries[0, 2] = True
    options = {"lengths": lengths, "boundaries": boundaries, "feature_map": FEATURE_MAPS[name]}

    def attend(q, k, v):
        out, state = causal_linear_attention(q, k, v, kernel=kernel, **options)
        return out, *state

    assert torch.autograd.gradcheck(attend, (q, k, v), atol=1e-6)


@pytest.mark.parametrize("kernel", FAST)
def test_what_follows_a_start_is_the_piece_alone(kernel):
    inputs, _ = draw((1, 90, 2, 8, 8))
    q, k, v, S, Z = inputs
    boundaries = torch.zeros(1, 90, dtype=torch.bool)
    boundaries[0, 40] = True
    whole, (S_end, _) = causal_linear_attention(
        q, k, v, boundaries=boundaries, initial_state=(S, Z), kernel=kernel
    )
    alone, (S_alone, _) = causal_linear_attention(q[:, 40:], k[:, 40:], v[:, 40:], kernel=kernel)
    assert (whole[:, 40:] - alone).abs().max() < 1e-12
    assert (S_end - S_alone).abs().max() < 1e-12


@pytest.mark.parametrize("kernel", FAST)
def test_an_empty_row_gives_zeros_and_an_untouched_state(kernel):
    (q, k, v, S, Z), _ = draw((2, 20, 2, 8, 8))
    lengths = torch.tensor([20, 0])
    out, (S_end, Z_end) = causal_linear_attention(q, k, v, lengths=lengths, kernel=kernel)
    assert out[1].abs().max() == S_end[1].abs().max() == Z_end[1].abs().max() == 0
    _, (S_end, Z_end) = causal_linear_attention(
        q, k, v, lengths=lengths, initial_state=(S, Z), kernel=kernel
    )
    assert torch.equal(S_end[1], S[1])
    assert torch.equal(Z_end[1], Z[1])


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("width", [5, 8, 12])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_is_not_finite_spoils_its_own_head_only(kernel, width, bad, where):
    """Of the same row and of others, in outputs and gradients."""

    def run(*inputs):
        leaves = [x.float().clone().requires_grad_() for x in inputs]
        out, _ = causal_linear_attention(*leaves, feature_map=FEATURE_MAPS["elu+1"], kernel=kernel)
        return [out.detach(), *torch.autograd.grad(out.sum(), leaves)]

    (*inputs, _, _), _ = draw((3, 70, 2, width, width))
    clean = run(*inputs)
    inputs[where][0, 3, 0, 0] = bad
    dirty = run(*inputs)
    assert not dirty[0][0, 3:, 0].isfinite().all()
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a[0, :, 1], b[0, :, 1])
        assert torch.equal(a[1:], b[1:])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(0, 5, 2, 4), (2, 0, 2, 4), (2, 5, 0, 4)])
def test_nothing_at_all_is_no_crash(kernel, shape):
    empty = torch.zeros(shape, requires_grad=True)
    out, (S, Z) = causal_linear_attention(empty, empty, empty, kernel=kernel)
    assert out.shape == shape
    assert S.abs().sum() == Z.abs().sum() == 0
    (out.sum() + S.sum()).backward()


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_autocast_inside(kernel):
    (q, k, v, *_), _ = draw((1, 70, 2, 8, 8))
    q, k, v = q.float(), k.float(), v.float()
    plain, _ = causal_linear_attention(q, k, v, kernel=kernel)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = causal_linear_attention(q, k, v, kernel=kernel)
    assert torch.equal(plain, inside)


def test_blocks_of_any_size_are_the_same(monkeypatch):
    shape = (2, 150, 3, 8, 5)
    inputs, weights = draw(shape)
    lengths, boundaries = lengths_and_boundaries(shape)
    options = {"lengths": lengths, "boundaries": boundaries}
    wanted = everything(position_loop, inputs, weights, **options)
    for numbers in (1, 70 * 2 * 3 * 8, 2**30):
        monkeypatch.setattr("seqgen.attention.chunked.BLOCK_SIZE", numbers)
        assert_close(everything(chunked, inputs, weights, **options), wanted, 1e-10)


def test_chunks_of_any_size_are_the_same():
    (q, k, v, S, Z), _ = draw((2, 50, 2, 8, 8))
    wanted, _ = position_loop(q, k, v, initial_state=(S, Z))
    for chunk in (1, 7, 50, 64):
        got, _ = chunked(q, k, v, initial_state=(S, Z), chunk=chunk)
        assert (got - wanted).abs().max() < 1e-10
