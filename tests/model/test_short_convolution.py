"""The short convolution is one linear map of the last W embeddings, in float32 where those are."""

import pytest
import torch

from seqgen.model.embedding import ShortConvolution

B, T, D = 2, 70, 64
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


def by_formula(convolution, x, recent):
    """y_t = x_t + b + sum over w of A_w c_{t + w}, with c = [recent, x]."""
    context = torch.cat([recent, x], dim=1)
    weight, bias = convolution.convolution.weight, convolution.convolution.bias
    return sum(
        (context[:, w : w + T] @ weight[:, :, w].T for w in range(convolution.width)), x + bias
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [1, 2, 5, 17])
@pytest.mark.parametrize("with_positions", [False, True])
def test_output_and_gradients_are_the_formulas_in_float64(device, width, with_positions):
    """TF32 would be off by some 1e-3."""
    convolution = ShortConvolution(D, width).to(device)
    x = torch.randn(B, T, D, device=device, requires_grad=True)
    recent = torch.randn(B, width - 1, D, device=device, requires_grad=True)
    # Far from the beginning of a piece positions change nothing.
    positions = torch.arange(width, width + T, device=device).expand(B, T)
    inputs = [x, recent, *convolution.parameters()]
    out = convolution(x, recent, positions if with_positions else None)
    weight = torch.randn_like(out)
    got = [out, *torch.autograd.grad((out * weight).sum(), inputs)]
    convolution = convolution.double()
    x, recent = x.double(), recent.double()
    expected = by_formula(convolution, x, recent)
    inputs = [x, recent, *convolution.parameters()]
    expected = [expected, *torch.autograd.grad((expected * weight).sum(), inputs)]
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.float32
        scale = float(b.detach().abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b, atol=5e-6 * scale, rtol=0)
