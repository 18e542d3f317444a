"""All implementations of causal linear attention mean the same; the registered pair is wired."""

import pytest
import torch
from fast_transformers.attention import CausalLinearAttention
from fast_transformers.masking import LengthMask, TriangularCausalMask

from seqgen.attention.chunked import chunked
from seqgen.attention.naive import masked_product, position_loop
from seqgen.attention.registered import CausalLinear


def inputs(B=2, T=150, H=3, K=8, V=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    q, k = make(B, T, H, K).exp(), make(B, T, H, K).exp()
    return [x.to(dtype).requires_grad_() for x in (q, k, make(B, T, H, V))]


def close(a, b, tolerance=1e-10):
    assert torch.allclose(a, b, atol=tolerance, rtol=tolerance), float((a - b).abs().max())


@pytest.mark.parametrize("T", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("implementation", [chunked, position_loop])
def test_output_state_and_gradients_equal_the_masked_product(implementation, T):
    q, k, v = inputs(T=T)
    lengths = torch.tensor([T, T // 2])
    weight = torch.randn(2, T, 3, 5, dtype=torch.float64)
    results = []
    for attend in (masked_product, implementation):
        out, (S, Z) = attend(q, k, v, lengths=lengths)
        loss = (out * weight).sum() + S.square().sum() + Z.sum()
        results.append((out, S, Z, *torch.autograd.grad(loss, (q, k, v))))
    for expected, got in zip(*results, strict=True):
        close(expected, got, 1e-8)


@pytest.mark.parametrize("cut", [1, 64, 100, 149])
def test_a_sequence_split_in_two_equals_one_pass(cut):
    q, k, v = (x.detach() for x in inputs())
    whole, (S, Z) = chunked(q, k, v)
    first, state = chunked(q[:, :cut], k[:, :cut], v[:, :cut])
    second, (S2, Z2) = chunked(q[:, cut:], k[:, cut:], v[:, cut:], initial_state=state)
    close(whole, torch.cat([first, second], dim=1))
    close(S, S2)
    close(Z, Z2)


def test_a_row_of_length_zero_adds_nothing_to_the_state():
    q, k, v = (x.detach() for x in inputs(T=20))
    _, (S, Z) = chunked(q, k, v, lengths=torch.tensor([20, 0]))
    assert S[1].abs().sum() == 0
    assert Z[1].abs().sum() == 0
    assert S[0].abs().sum() > 0


def test_bfloat16_inputs_are_summed_in_float32():
    q, k, v = (x.detach() for x in inputs(T=2000, dtype=torch.bfloat16))
    out, (S, Z) = chunked(q, k, v)
    assert out.dtype == torch.bfloat16
    assert S.dtype == Z.dtype == torch.float32
    _, (S_exact, Z_exact) = chunked(q.double(), k.double(), v.double())
    assert ((S - S_exact).abs() / S_exact.abs().clamp(min=100)).max() < 1e-4
    assert ((Z - Z_exact).abs() / Z_exact).max() < 1e-5


def test_chunked_equals_the_library_kernel_with_feature_map_and_mask():
    q, k, v = (x.detach().float() for x in inputs(V=8))
    lengths = torch.tensor([150, 40])
    mask, length_mask = TriangularCausalMask(150), LengthMask(lengths, max_len=150)
    library = CausalLinearAttention(8)(q, k, v, mask, length_mask, length_mask)
    phi = torch.nn.functional.elu
    ours, _ = chunked(phi(q) + 1, phi(k) + 1, v, lengths=lengths)
    close(library, ours, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_registered_attention_agrees_across_dtypes(dtype):
    q, k, v = (x.detach().to(dtype) for x in inputs(V=8))
    mask = TriangularCausalMask(150)
    length_mask = LengthMask(torch.tensor([150, 40]), max_len=150)
    out = CausalLinear(8)(q, k, v, mask, length_mask, length_mask)
    exact = CausalLinear(8)(q.double(), k.double(), v.double(), mask, length_mask, length_mask)
    assert out.dtype == dtype
    tolerance = {torch.float32: 1e-4, torch.float64: 0.0, torch.bfloat16: 2e-2}[dtype]
    assert (out.double() - exact).abs().max() <= tolerance


def test_registered_attention_is_a_float32_island_under_autocast():
    q, k, v = (x.detach().float() for x in inputs(V=8))
    mask, length_mask = TriangularCausalMask(150), LengthMask(torch.tensor([150, 150]), max_len=150)
    plain = CausalLinear(8)(q, k, v, mask, length_mask, length_mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = CausalLinear(8)(q, k, v, mask, length_mask, length_mask)
    assert torch.equal(plain, inside)


def test_a_mask_that_is_not_causal_is_refused():
    q, k, v = (x.detach() for x in inputs(T=6, V=8))
    full = LengthMask(torch.tensor([6, 6]), max_len=6)
    with pytest.raises(ValueError, match="TriangularCausalMask"):
        CausalLinear(8)(q, k, v, full, full, full)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    q, k, v = (x.detach().float() for x in inputs(V=8))
    mask, length_mask = TriangularCausalMask(150), LengthMask(torch.tensor([150, 40]), max_len=150)
    on_cpu = CausalLinear(8)(q, k, v, mask, length_mask, length_mask)
    mask = TriangularCausalMask(150, device="cuda")
    length_mask = LengthMask(torch.tensor([150, 40], device="cuda"), max_len=150)
    on_cuda = CausalLinear(8).cuda()(q.cuda(), k.cuda(), v.cuda(), mask, length_mask, length_mask)
    close(on_cpu, on_cuda.cpu(), 1e-4)
