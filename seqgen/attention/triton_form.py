"""Causal linear attention by Triton kernels, for CUDA devices; the backward pass recomputes.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions.
"""

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqgen.attention import triton_kernels as kernels
from seqgen.attention.naive import AttentionState

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def causal_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    initial_state: AttentionState | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, AttentionState]:
    """Attend to all earlier positions and the present one. Shapes and meaning as in `chunked`.

    Inputs are float32, bfloat16 or float16, on a CUDA device (or on any under Triton's
    interpreter); all sums, their gradients and the returned state are float32. The caller
    checks that shapes match, as `causal_linear_attention` does.

    Raises:
        ValueError: another dtype, or a device without Triton.
    """
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dtype not in DTYPES:
            raise ValueError(f"{name} is {x.dtype}; Triton attention takes one of {DTYPES}")
    if not q.is_cuda and not triton.knobs.runtime.interpret:
        raise ValueError(f"Triton attention needs a CUDA device; the inputs are on {q.device}")
    out_dtype = v.dtype
    if not q.dtype == k.dtype == v.dtype:
        q, k, v = q.float(), k.float(), v.float()
    S, Z = (x.float() for x in initial_state) if initial_state is not None else (None, None)
    segment = None if boundaries is None else boundaries.cumsum(1, dtype=torch.int32)
    out, S, Z = _CausalLinearFunction.apply(q, k, v, lengths, segment, S, Z, eps)
    return out.to(out_dtype), (S, Z)


class _CausalLinearFunction(torch.autograd.Function):
    """Saves only its inputs: the sums at chunk borders are computed again in the backward pass."""

    @staticmethod
    def forward(ctx, q, k, v, lengths, segment, S, Z, eps):
        q, k, v, lengths, segment, S, Z = (
            x if x is None else x.contiguous() for x in (q, k, v, lengths, segment, S, Z)
        )
        ctx.save_for_backward(q, k, v, lengths, segment, S, Z)
        ctx.set_materialize_grads(False)
        ctx.eps = eps
        with torch.cuda.device_of(q):
            S_border, Z_border, S, Z = _sum_chunks(k, v, (S, Z), segment, lengths=lengths)
            out = torch.empty_like(v)
            _per_chunk(kernels.attend, q, k, v, lengths, segment, S_border, Z_border, out, eps)
        return out, S, Z

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, dS, dZ):
        q, k, v, lengths, segment, S, Z = ctx.saved_tensors
        dout = torch.zeros_like(v) if dout is None else dout.contiguous()
        dS, dZ = (x if x is None else x.contiguous() for x in (dS, dZ))
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        B, T, H, _ = q.shape
        norms = q.new_empty(2, B, H, T, dtype=torch.float32)  # 1 / norm, gradient of norm
        with torch.cuda.device_of(q):
            given = (q, k, v, dout, lengths, segment)
            sums = _sum_chunks(k, v, (S, Z), segment, lengths=lengths)[:2]
            _per_chunk(kernels.query_gradients, *given, *sums, dq, *norms, ctx.eps)
            *later, dS, dZ = _sum_chunks(q, dout, (dS, dZ), segment, norms=norms)
            _per_chunk(kernels.key_value_gradients, *given, *norms, *later, dk, dv)
        return dq, dk, dv, None, None, None if S is None else dS, None if Z is None else dZ, None


def _sum_chunks(
    x: Tensor,
    y: Tensor,
    first: tuple[Tensor | None, Tensor | None],
    segment: Tensor | None,
    *,
    lengths: Tensor | None = None,
    norms: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum x yᵀ and x before each chunk, and over all; with `norms`, weighted and from the end."""
    B, T, H, K = x.shape
    V = y.shape[-1]
    tile = _tile(K, V)
    N = triton.cdiv(T, tile["C"])
    S_border, Z_border, S_last, Z_last = (
        x.new_empty(*shape, dtype=torch.float32)
        for shape in ((B, H, N, K, V), (B, H, N, K), (B, H, K, V), (B, H, K))
    )
    # The walk is sequential, so its programs must come from blocks of K too.
    tile |= {"BK": min(tile["BK"], 32), "num_warps": 4}
    kernels.sum_chunks[B * H, triton.cdiv(K, tile["BK"]), triton.cdiv(V, tile["BV"])](
        x,
        y,
        lengths,
        segment,
        *((None, None) if norms is None else norms),
        *first,
        S_border,
        Z_border,
        S_last,
        Z_last,
        T,
        H,
        K,
        V,
        FROM_END=norms is not None,
        PRECISION=_precision(x),
        **tile,
    )
    return S_border, Z_border, S_last, Z_last


def _per_chunk(kernel, q: Tensor, k: Tensor, v: Tensor, *rest) -> None:
    """Run one program per row, head and chunk."""
    B, T, H, K = q.shape
    V = v.shape[-1]
    tile = _tile(K, V)
    programs = B * H * triton.cdiv(T, tile["C"])
    kernel[programs,](q, k, v, *rest, T, H, K, V, PRECISION=_precision(q), **tile)


def _tile(K: int, V: int) -> dict[str, int | bool]:
    """Choose chunk, blocks and warps: sizes whose tiles stay in a program's registers.

    Larger chunks would read fewer sums, but spill: compiled for sm_80 and sm_90, chunks of 64
    keep tens of kilobytes per thread in local memory.
    """
    BK, BV = (max(16, triton.next_power_of_2(width)) for width in (K, V))
    return {
        "C": 32 if BK <= 64 else 16,
        "BK": BK,
        "BV": min(BV, 32 if BK <= 128 else 16),
        "num_warps": 4 if BK <= 64 else 8,
        "enable_fp_fusion": True,
    }


def _precision(x: Tensor) -> str:
    """Name how float32 operands multiply. "tf32x3" splits each in two and errs by about 1e-6."""
    if x.dtype == torch.float32 or not x.is_cuda or torch.version.hip is not None:
        return "ieee"
    return "tf32x3" if torch.cuda.get_device_capability(x.device) >= (8, 0) else "ieee"
