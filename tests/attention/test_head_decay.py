"""Heads that forget: one formula in every kernel, and decays that stay what they are."""

from functools import cache

import pytest
import torch
from test_operator import KERNELS, SHAPES, draw, lengths_and_boundaries

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.head_decay import head_decay
from seqgen.attention.naive import masked_product, position_loop
from seqgen.attention.operator import causal_linear_attention
from seqgen.config import ModelConfig

NAMES = ("out", "S", "Z", "dq", "dk", "dv", "dS", "dZ", "d decay")
FAST = KERNELS[1:]
NEAR = {"0": lambda x: 1e-3 * x + 1e-6, "anything": lambda x: x, "1": lambda x: 1 - 1e-4 * x}


def decays(H, near="anything", seed=0):
    """γ [H], rounded to float32, in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.02 + 0.97 * torch.rand(H, generator=generator, dtype=torch.float64)
    return NEAR[near](x).float().double()


def everything(attend, inputs, weights, decay, **options):
    """Outputs, state, and the gradients of all inputs and of the decay."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    gamma = None if decay is None else decay.detach().clone().requires_grad_()
    q, k, v, S, Z = leaves
    out, (S, Z) = attend(q, k, v, initial_state=(S, Z), decay=gamma, **options)
    results = (out, S, Z)
    loss = sum((x * w.to(x.dtype)).sum() for x, w in zip(results, weights, strict=True))
    leaves += [] if gamma is None else [gamma]
    return [x.detach() for x in (*results, *torch.autograd.grad(loss, leaves))]


def assert_close(got, wanted, tolerance):
    """Each result relative to the largest value it should have."""
    for name, a, b in zip(NAMES, got, wanted, strict=True):
        assert a.shape == b.shape, name
        error = float((a.double() - b).abs().max() / b.abs().max().clamp(min=1e-30))
        assert error < tolerance, f"{name} is {error:.1e} off"


def cases(shape, seed=0):
    lengths, boundaries = lengths_and_boundaries(shape, seed)
    yield {}
    yield {"lengths": lengths}
    yield {"lengths": lengths, "boundaries": boundaries}


@cache
def reference(shape, near):
    """Everything in each of the cases by the loop over positions, which is slow."""
    inputs, weights = draw(shape)
    return [
        everything(position_loop, inputs, weights, decays(shape[2], near), **options)
        for options in cases(shape)
    ]


@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_two_references_are_the_same_formula(shape, near):
    inputs, weights = draw(shape)
    for options, wanted in zip(cases(shape), reference(shape, near), strict=True):
        got = everything(masked_product, inputs, weights, decays(shape[2], near), **options)
        assert_close(got, wanted, 1e-10)


@pytest.mark.parametrize("near", NEAR)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", FAST)
def test_kernels_equal_the_reference(kernel, shape, near):
    inputs, weights = draw(shape)
    decay = decays(shape[2], near)
    for options, wanted in zip(cases(shape), reference(shape, near), strict=True):
        options["kernel"] = kernel
        # The gradient of a decay near 0 is a small difference of large numbers in the C++ kernel.
        tolerance = 1e-8 if near == "0" else 1e-10
        assert_close(
            everything(causal_linear_attention, inputs, weights, decay, **options),
            wanted,
            tolerance,
        )
        if near != "0":
            inputs32, decay32 = [x.float() for x in inputs], decay.float()
            got = everything(causal_linear_attention, inputs32, weights, decay32, **options)
            assert_close(got, wanted, 1e-4)


@pytest.mark.parametrize("kernel", FAST)
def test_a_decay_of_1_is_none_to_the_last_bit(kernel):
    """In `chunked` sums without boundaries are made in another order without a decay."""
    shape = (2, 150, 3, 8, 5)
    inputs, weights = draw(shape)
    inputs = [x.float() for x in inputs]
    for options in list(cases(shape))[0 if kernel == "native" else 2 :]:
        results = [
            everything(causal_linear_attention, inputs, weights, decay, kernel=kernel, **options)
            for decay in (torch.ones(3), None)
        ]
        for name, a, b in zip(NAMES, *results, strict=False):
            assert torch.equal(a, b), name


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("cut", [1, 31, 64, 99])
def test_a_sequence_split_in_two_equals_one_pass(kernel, cut):
    shape = (2, 100, 3, 8, 5)
    inputs, weights = draw(shape)
    lengths = torch.tensor([100, 40])

    def in_two(q, k, v, *, initial_state, decay):
        state, parts = initial_state, []
        for begin, end in ((0, cut), (cut, 100)):
            out, state = causal_linear_attention(
                *(x[:, begin:end] for x in (q, k, v)),
                lengths=(lengths - begin).clamp(0, end - begin),
                initial_state=state,
                decay=decay,
                kernel=kernel,
            )
            parts.append(out)
        return torch.cat(parts, dim=1), state

    whole = everything(position_loop, inputs, weights, decays(3), lengths=lengths)
    assert_close(everything(in_two, inputs, weights, decays(3)), whole, 1e-10)


@pytest.mark.parametrize("kernel", FAST)
def test_gradcheck(kernel):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 5, 2, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    )
    decay = torch.tensor([0.3, 0.95], dtype=torch.float64, requires_grad=True)
    lengths, boundaries = torch.tensor([5, 3]), torch.zeros(2, 5, dtype=torch.bool)
    boundaries[0, 2] = True
    options = {"lengths": lengths, "boundaries": boundaries, "kernel": kernel}

    def attend(q, k, v, decay):
        out, state = causal_linear_attention(
            q, k, v, decay=decay, feature_map=FEATURE_MAPS["elu+1"], **options
        )
        return out, *state

    assert torch.autograd.gradcheck(attend, (q, k, v, decay), atol=1e-6)


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_long_sequences_stay_exact(kernel, dtype):
    """Sums in float32 equal those in float64, whatever the decay."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 6000, 6, 8, generator=generator).to(dtype) for _ in range(3))
    q, k = q.exp(), k.exp()
    decay = torch.tensor([1e-6, 0.1, 0.875, 0.996, 1 - 1e-6, 1])
    out, (S, Z) = causal_linear_attention(q, k, v, decay=decay, kernel=kernel)
    wanted = causal_linear_attention(
        *(x.double() for x in (q, k, v)), decay=decay.double(), kernel="chunked"
    )
    assert (S.dtype, Z.dtype) == (torch.float32, torch.float32)
    assert (out - wanted[0]).abs().max() < (1e-5 if dtype == torch.float32 else 2e-2)
    for a, b in zip((S, Z), wanted[1], strict=True):
        scale = b.abs().flatten(2).amax(2).view(1, 6, *[1] * (b.dim() - 2))
        assert ((a - b).abs() / scale).max() < 3e-5


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_empty_row_keeps_its_state_and_no_row_is_no_crash(kernel):
    (q, k, v, S, Z), _ = draw((2, 20, 2, 8, 8))
    options = {"decay": decays(2), "kernel": kernel}
    lengths = torch.tensor([20, 0])
    _, (S_end, Z_end) = causal_linear_attention(
        q, k, v, lengths=lengths, initial_state=(S, Z), **options
    )
    assert torch.equal(S_end[1], S[1])
    assert torch.equal(Z_end[1], Z[1])
    for some in (slice(0), slice(2)):
        empty = [x[some, : 20 * (some.stop == 0)] for x in (q, k, v)]
        state = S[some], Z[some]
        out, (S_end, _) = causal_linear_attention(*empty, initial_state=state, **options)
        assert out.shape == empty[2].shape
        assert torch.equal(S_end, S[some])


def test_decays_of_another_number_of_heads_are_refused():
    (q, k, v, *_), _ = draw((1, 4, 2, 3, 3))
    with pytest.raises(ValueError, match=r"decay has shape \[3\], should have \[2\]"):
        causal_linear_attention(q, k, v, decay=decays(3))


def built(**choices):
    return head_decay(ModelConfig(d_model=32, **choices))()


@pytest.mark.parametrize("decay", ["fixed", "learned"])
def test_decays_are_spread_evenly_over_the_heads_that_have_one(decay):
    gamma = built(decay=decay, n_heads=8, heads_without_decay=2, decay_range=[2.0, 7.0])()
    exponents = torch.tensor([2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert torch.allclose(gamma[:6], 1 - 2**-exponents, atol=1e-7, rtol=0)
    assert gamma[6:].tolist() == [1, 1]
    assert built(decay=decay, n_heads=1)().item() == pytest.approx(1 - 2**-5.5)


def test_a_learned_decay_stays_between_0_and_1_and_learns_near_1():
    decay = built(decay="learned", n_heads=4, decay_range=[0.1, 20.0])
    exact = 2.0 ** -torch.linspace(0.1, 20, 4, dtype=torch.float64)
    gamma = decay()
    assert torch.allclose(1 - gamma.double(), exact, atol=2e-7, rtol=0)
    gamma.sum().backward()
    assert torch.allclose(decay.logit.grad.double(), exact * (1 - exact), rtol=0.1)
    with torch.no_grad():
        for logit in (-50.0, 15.0):
            decay.logit.fill_(logit)
            assert ((decay() > 0) & (decay() < 1)).all()


def test_only_learned_decays_are_parameters():
    assert [name for name, _ in built(decay="learned").named_parameters()] == ["logit"]
    fixed = built(decay="fixed")
    assert not list(fixed.parameters())
    assert list(fixed.state_dict()) == ["logit"]
