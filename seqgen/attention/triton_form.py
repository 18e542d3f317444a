"""Causal linear attention by Triton kernels, for CUDA devices.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqgen.attention import triton_kernels as kernels
from seqgen.attention.naive import AttentionState
from seqgen.native.launches import capability

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SCANNED = 128  # sums per program of the scan


def causal_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    initial_state: AttentionState | None = None,
    decay: Tensor | None = None,
    eps: float = 1e-6,
    feature_map: str | None = None,
) -> tuple[Tensor, AttentionState]:
    """Attend to all earlier positions and the present one. Shapes and meaning as in `chunked`.

    Inputs are float32, bfloat16 or float16, on a CUDA device (or on any under Triton's
    interpreter); all sums, their gradients and the returned state are float32. `feature_map`
    names the map that the kernels apply to q and k: elu+1 or relu, or None for none. The caller
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
    S, Z = (None, None)
    if initial_state is not None:
        S, Z = (x.float().contiguous() for x in initial_state)
    if lengths is not None:
        lengths = lengths.contiguous()
    if decay is not None:
        decay = decay.float().contiguous()
    segment = None if boundaries is None else boundaries.cumsum(1, dtype=torch.int32).contiguous()
    out, S, Z = _CausalLinearFunction.apply(
        q, k, v, S, Z, decay, lengths, segment, eps, feature_map
    )
    return out.to(out_dtype), (S, Z)


class _CausalLinearFunction(torch.autograd.Function):
    """Saves its inputs and the sums before each chunk; the backward pass recomputes the rest."""

    @staticmethod
    def forward(ctx, q, k, v, S, Z, decay, lengths, segment, eps, feature_map):
        q, k, v = _rows(q), _rows(k), _rows(v)
        B, T, H, K = q.shape
        V = v.shape[-1]
        options = _options(K, V, q.dtype, q.device, feature_map)
        N = triton.cdiv(T, options["C"])
        n = (B * H * N, 1, 1)  # programs
        rows = (lengths, segment, decay)
        with torch.cuda.device_of(q):
            sums = torch.empty(B, H, N, K * V + K, device=q.device, dtype=torch.float32)
            out = torch.empty_like(v, memory_format=torch.contiguous_format)
            last = sums.new_empty(B, H, K, V), sums.new_empty(B, H, K)
            distances = _distance(q), _distance(k), _distance(v)
            kernels.sum_chunks[n](k, v, *rows, sums, T, H, *distances[1:], **options)
            _scan(sums, (S, Z), last, rows, T, options)
            kernels.attend[n](q, k, v, *rows, sums, out, eps, T, H, *distances, **options)
        ctx.save_for_backward(q, k, v, *rows, sums)
        ctx.set_materialize_grads(False)
        ctx.options, ctx.eps, ctx.resumed = options, eps, S is not None
        return out, *last

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, dS, dZ):
        q, k, v, *rows, sums = ctx.saved_tensors
        dout = torch.zeros_like(v) if dout is None else _rows(dout)
        dS, dZ = (x if x is None else x.contiguous() for x in (dS, dZ))
        B, H, N, _ = sums.shape
        T, options, n = q.shape[1], ctx.options, (B * H * N, 1, 1)
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        later = torch.empty_like(sums)
        norms = sums.new_empty(B, H, 2, T)
        first: Any = (None, None)
        if ctx.resumed:
            K, V = options["K"], options["V"]
            first = sums.new_empty(B, H, K, V), sums.new_empty(B, H, K)
        parts: Any = (None, None, None)  # of the gradient of log γ, from each kernel
        if ctx.needs_input_grad[5]:
            n_parts = (N, triton.cdiv(sums.shape[3], SCANNED), N)
            dlog = sums.new_empty(sum(n_parts), B, H)
            parts = dlog.split(n_parts)
        given = (q, k, v, dout, *rows)
        sizes = (T, H, *(_distance(x) for x in given[:4]))
        with torch.cuda.device_of(q):
            new = (dq, norms, later, parts[0])
            kernels.query_gradients[n](*given, sums, *new, ctx.eps, *sizes, **options)
            _scan(later, (dS, dZ), first, rows, T, options, others=sums, parts=parts[1])
            args = (*given, norms, later, dk, dv, parts[2], *sizes)
            kernels.key_value_gradients[n](*args, **options)
        ddecay = None
        if ctx.needs_input_grad[5]:
            ddecay = dlog.sum((0, 1), dtype=torch.float64).float() / rows[2]
        return dq, dk, dv, *first, ddecay, None, None, None, None


def _rows(x: Tensor) -> Tensor:
    """Give x [B, T, H, ·] as the kernels take it: contiguous but for the distance of positions.

    A part of a wider tensor is, as where one product gives queries, keys and values.
    """
    _, T, _, D = x.shape
    b, t, h, d = x.stride()
    return x if d == 1 and h == D and b == T * t else x.contiguous()


def _distance(x: Tensor) -> int:
    """Give the distance of the positions of x [B, T, H, ·], that of rows where each has one."""
    return x.stride(1) if x.shape[1] > 1 else x.stride(0)


def _scan(
    sums: Tensor,
    first: tuple[Tensor | None, Tensor | None],
    last: tuple[Tensor | None, Tensor | None],
    rows: Sequence[Tensor | None],
    T: int,
    options: dict[str, Any],
    *,
    others: Tensor | None = None,
    parts: Tensor | None = None,
) -> None:
    """Turn the sums of each chunk into those before it, in place, and store those over all.

    With `others`, the sums before each chunk: into those after it.
    """
    B, H, _, width = sums.shape
    n = (B * H, triton.cdiv(width, SCANNED), 1)
    options = _scan_options(options["K"], options["V"], options["C"], others is not None)
    kernels.scan_chunks[n](sums, *first, *last, *rows, others, parts, T, H, **options)


@cache
def _scan_options(K: int, V: int, C: int, from_end: bool) -> dict[str, Any]:
    return {
        "K": K,
        "V": V,
        "C": C,
        "E": SCANNED,
        "FROM_END": from_end,
        "num_warps": 1,
        "enable_fp_fusion": True,
    }


@cache
def _options(
    K: int, V: int, dtype: torch.dtype, device: torch.device, feature_map: str | None
) -> dict[str, Any]:
    """Choose chunk, blocks and warps: sizes whose tiles stay in a program's registers."""
    BK, BV = (max(16, triton.next_power_of_2(width)) for width in (K, V))
    able = capability(device)
    half = dtype != torch.float32
    C = 32 if half or BK <= 64 else 16
    if half and BK <= 64 and able >= (9, 0):
        C = 64
    return {
        "K": K,
        "V": V,
        "C": C,
        "BK": BK,
        "BV": min(BV, 64 if half and BK <= 64 else 32 if BK <= 128 else 16),
        "MAP": feature_map,
        "PRECISION": "bf16" if half and able >= (8, 0) else "ieee",  # see triton_tiles.dot
        "num_warps": 4 if BK <= 64 else 8,
        "enable_fp_fusion": True,
    }
