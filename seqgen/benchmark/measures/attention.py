"""One layer's attention in training: forward and backward, feature map and normaliser included.

Legend: B rows, T positions, H heads, K key width, V value width.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from fast_transformers.masking import LengthMask, TriangularCausalMask
from torch import Tensor

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention, choose_kernel
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import LIBRARY_LINEAR, BenchmarkModel
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.timing import Call, Timer, Variant
from seqgen.model.stack import build_parallel, inner_attentions

KERNELS = ("native", "triton", "chunked")
SDPA = "softmax-sdpa"
PART = 4  # a part goes over a fourth of the positions
COPIES = 20  # of the values' bytes: what the variants keep and make, at most about this
NOT_BUILT = "not available: the library's kernel is not built for this device"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k [B, T, H, K], v [B, T, H, V] -> as v


def check(model: BenchmarkModel, *, batch: int, position: int) -> None:
    """Compare outputs and gradients with the masked products, linear and softmax, in float64."""
    inputs = _inputs(model, batch, position)
    exact = [x.double() for x in inputs]
    linear = _forward_backward(_ours(model, "naive"), *exact)
    softmax = _forward_backward(_masked_softmax, *exact)
    for name, (attend, dtype) in implementations(model).items():
        got = _forward_backward(attend, *(x.to(dtype) for x in inputs))
        wanted = softmax if name.startswith(SDPA) else linear
        tolerance = BFLOAT16_TOLERANCE if dtype == torch.bfloat16 else None
        check_equal(f"{name} attention", got, "the masked product", wanted, tolerance=tolerance)


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Time attention over `position` positions."""
    floats = _inputs(model, place.batch, place.position)

    def opened(attend: Attend, dtype: torch.dtype) -> Call:
        inputs = [x.to(dtype) for x in floats]
        # Contiguous, which the library's backward needs; of the whole length it is what is there.
        part = lambda length: (x[:, :length].contiguous() for x in inputs)  # noqa: E731
        return Call(
            lambda length: _forward_backward(attend, *part(length)),
            length=place.position,
            part=-(-place.position // PART),
        )

    needs = COPIES * floats[0].nbytes
    variants = [
        Variant(name, partial(opened, *way), needs=needs, dtype=str(way[1]).removeprefix("torch."))
        for name, way in implementations(model).items()
    ]
    if not model.has_library_kernel:
        variants.insert(0, Variant(LIBRARY, note=NOT_BUILT))
    return timer.time(variants, place, tokens=place.tokens)


def _inputs(model: BenchmarkModel, B: int, T: int) -> list[Tensor]:
    """Draw queries, keys and values, and the gradient of the output [B, T, H, K]."""
    c = model.config
    shape = (B, T, c.n_heads, c.d_model // c.n_heads)
    return [torch.randn(shape, device=model.device) for _ in range(4)]


def implementations(model: BenchmarkModel) -> dict[str, tuple[Attend, torch.dtype]]:
    """List what can run on this device, each with the dtype of what it is given."""
    found = {LIBRARY: (_library(model), torch.float32)} if model.has_library_kernel else {}
    for kernel in KERNELS:
        try:
            choose_kernel(kernel, model.device)
        except ValueError:
            continue
        found[kernel] = _ours(model, kernel), torch.float32
        if kernel != "chunked":  # the fallback without a compiled kernel
            found[f"{kernel}-bf16"] = _ours(model, kernel), torch.bfloat16
    found[SDPA] = _sdpa, torch.float32
    if model.has_bfloat16:
        found[f"{SDPA}-bf16"] = _sdpa, torch.bfloat16
    return found


def _library(model: BenchmarkModel) -> Attend:
    stack = build_parallel(model.arguments(LIBRARY_LINEAR) | {"n_layers": 1}).to(model.device)
    [attention] = inner_attentions(stack)

    @cache
    def masks(B: int, T: int) -> tuple:
        lengths = LengthMask(torch.full((B,), T), max_len=T, device=model.device)
        return TriangularCausalMask(T, device=model.device), lengths, lengths

    return lambda q, k, v: attention(q, k, v, *masks(*q.shape[:2]))


def _ours(model: BenchmarkModel, kernel: str) -> Attend:
    chosen: dict = {"feature_map": FEATURE_MAPS[model.config.feature_map], "kernel": kernel}
    return lambda q, k, v: causal_linear_attention(q, k, v, **chosen)[0]


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # heads first
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def _masked_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Vaswani et al. 2017, as the formula is written."""
    scores = torch.einsum("bthk,bshk->bhts", q, k) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshv->bthv", weights, v)


def _forward_backward(
    attend: Attend, q: Tensor, k: Tensor, v: Tensor, out_gradient: Tensor
) -> tuple[Tensor, ...]:
    """Return the output and the gradients of q, k and v."""
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    out = attend(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, out_gradient))
