"""One layer's attention in training: forward and backward, feature map and normaliser included.

Legend: B rows, T positions, H heads, K key width, V value width.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from fast_transformers.masking import LengthMask, TriangularCausalMask
from torch import Tensor

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention, choose_kernel
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import LIBRARY_LINEAR, BenchmarkModel
from seqgen.benchmark.records import Record
from seqgen.benchmark.timing import LIBRARY, Call, Timer, Variant
from seqgen.model.stack import build_parallel, inner_attentions

KERNELS = ("native", "triton", "chunked")
BFLOAT16 = "-bf16"
SDPA = "softmax-sdpa"
PART = 4  # a part goes over a fourth of the positions
COPIES = 20  # of the values' bytes: what the variants keep and make, at most about this
NOT_BUILT = "not available: the library's kernel is not built for this device"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k [B, T, H, K], v [B, T, H, V] -> as v


def check(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> None:
    """Compare outputs and gradients with the masked products, linear and softmax, in float64."""
    inputs = _inputs(model, batch, position)
    out_gradient = torch.randn_like(inputs[2])
    exact = tuple(x.double() for x in inputs)
    linear = _forward_backward(_ours(model, "naive"), exact, out_gradient.double())
    softmax = _forward_backward(_masked_softmax, exact, out_gradient.double())
    for name, attend in _ways(model).items():
        if attend is None:
            continue
        dtype = _dtype(name)
        got = _forward_backward(attend, [x.to(dtype) for x in inputs], out_gradient.to(dtype))
        wanted = softmax if name.startswith(SDPA) else linear
        tolerance = BFLOAT16_TOLERANCE if dtype == torch.bfloat16 else None
        check_equal(f"{name} attention", got, "the masked product", wanted, tolerance=tolerance)


def measure(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> list[Record]:
    """Time attention over `position` positions."""
    floats = _inputs(model, batch, position)
    variants = []
    for name, attend in _ways(model).items():
        dtype = _dtype(name)
        variants.append(
            Variant(
                name,
                attend and (lambda attend=attend, dtype=dtype: _call(attend, floats, dtype)),
                needs=COPIES * floats[2].nbytes,
                note="" if attend else NOT_BUILT,
                dtype=str(dtype).removeprefix("torch."),
            )
        )
    return timer.time(
        variants, measure="attention", batch=batch, position=position, tokens=batch * position
    )


def _inputs(model: BenchmarkModel, B: int, T: int) -> tuple[Tensor, ...]:
    """Draw queries, keys and values [B, T, H, K]."""
    c = model.config
    shape = (B, T, c.n_heads, c.d_model // c.n_heads)
    return tuple(torch.randn(shape, device=model.device) for _ in range(3))


def _call(attend: Attend, floats: tuple[Tensor, ...], dtype: torch.dtype) -> Call:
    inputs = [x.to(dtype) for x in floats]
    out_gradient = torch.randn_like(inputs[2])  # contiguous: the library's backward needs it
    length = -(-inputs[0].shape[1] // PART)
    short = [x[:, :length].contiguous() for x in (*inputs, out_gradient)]
    return Call(
        lambda _: _forward_backward(attend, inputs, out_gradient),
        part=lambda: _forward_backward(attend, short[:3], short[3]),
        parts=inputs[0].shape[1] / length,
    )


def _ways(model: BenchmarkModel) -> dict[str, Attend | None]:
    """List what can run on this device; None: the library, where it was not compiled."""
    ways: dict[str, Attend | None] = {
        LIBRARY: _library(model) if model.has_library_kernel else None
    }
    for kernel in KERNELS:
        try:
            choose_kernel(kernel, model.device)
        except ValueError:
            continue
        ways[kernel] = _ours(model, kernel)
        if kernel != "chunked":  # the fallback without a compiled kernel
            ways[kernel + BFLOAT16] = _ours(model, kernel)
    ways[SDPA] = _sdpa
    if model.has_bfloat16:
        ways[SDPA + BFLOAT16] = _sdpa
    return ways


def _library(model: BenchmarkModel) -> Attend:
    stack = build_parallel(model.arguments(LIBRARY_LINEAR) | {"n_layers": 1}).to(model.device)
    [attention] = inner_attentions(stack)

    @cache
    def masks(B: int, T: int) -> tuple:
        lengths = LengthMask(torch.full((B,), T), max_len=T, device=model.device)
        return TriangularCausalMask(T, device=model.device), lengths, lengths

    return lambda q, k, v: attention(q, k, v, *masks(*q.shape[:2]))


def _ours(model: BenchmarkModel, kernel: str) -> Attend:
    options: dict[str, Any] = {
        "feature_map": FEATURE_MAPS[model.config.feature_map],
        "kernel": kernel,
    }
    return lambda q, k, v: causal_linear_attention(q, k, v, **options)[0]


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # heads first
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def _masked_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Vaswani et al. 2017, as the formula is written."""
    scores = torch.einsum("bthk,bshk->bhts", q, k) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshv->bthv", weights, v)


def _forward_backward(attend: Attend, inputs, out_gradient: Tensor) -> tuple[Tensor, ...]:
    """Return the output and the gradients of q, k and v."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, out_gradient))


def _dtype(name: str) -> torch.dtype:
    return torch.bfloat16 if name.endswith(BFLOAT16) else torch.float32
