"""Causal linear attention by the compiled operator: one pass over the sequence, nothing stored.

The operator is registered with shapes and gradients, so torch.compile and torch.export support it.
Legend: B rows, T positions, H heads, K key width, V value width.
"""

import torch
from torch import Tensor

from seqgen.attention.naive import AttentionState
from seqgen.native import why_missing

FUSED_MAPS = {None: 0, "elu+1": 1}  # as numbered in causal_linear.h
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def native(
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
    """Attend as `chunked` does; all of q, k, v in one of `DTYPES`, on a CPU.

    `feature_map` names the map that the operator applies to q and k: elu+1, or None for none.

    Raises:
        RuntimeError: the operators were not built.
    """
    if why_missing():
        raise RuntimeError(why_missing())
    S, Z = initial_state or (None, None)
    gamma = None if decay is None else decay.double()  # their powers are rounded, not they
    out, S, Z = torch.ops.seqgen.causal_linear(
        q, k, v, lengths, boundaries, S, Z, gamma, eps, FUSED_MAPS[feature_map]
    )
    return out, (S, Z)


def _state_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _shapes(
    q, k, v, lengths, boundaries, S, Z, decay, eps, feature_map
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, H, K = q.shape
    V = v.shape[-1]
    dtype = _state_dtype(q)
    return (
        v.new_empty(B, T, H, V),
        v.new_empty(B, H, K, V, dtype=dtype),
        v.new_empty(B, H, K, dtype=dtype),
    )


def _gradient_shapes(out_gradient, S_gradient, Z_gradient, q, k, v, *rest) -> tuple[Tensor, ...]:
    *given, learns_decay = rest
    _, S, Z = _shapes(q, k, v, *given)
    B, _, H, _ = q.shape
    of_decay = q.new_empty(B if learns_decay else 0, H, dtype=torch.float64)
    return (*(x.new_empty(x.shape) for x in (q, k, v)), S, Z, of_decay)


def _keep_inputs(ctx, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.eps, ctx.feature_map = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx, out_gradient, S_gradient, Z_gradient) -> tuple[Tensor | None, ...]:
    q, k, v, lengths, boundaries, S, Z, decay = ctx.saved_tensors
    learns_decay = decay is not None and ctx.needs_input_grad[7]
    if out_gradient is None:
        out_gradient = torch.zeros_like(v)
    dq, dk, dv, dS, dZ, of_log = torch.ops.seqgen.causal_linear_backward(
        out_gradient,
        S_gradient,
        Z_gradient,
        *(q, k, v, lengths, boundaries, S, Z, decay),
        ctx.eps,
        ctx.feature_map,
        learns_decay,
    )
    if S is None:
        dS = dZ = None
    d_decay = of_log.sum(0) / decay if learns_decay else None
    return dq, dk, dv, None, None, dS, dZ, d_decay, None, None


if not why_missing():
    torch.library.register_fake("seqgen::causal_linear", _shapes)
    torch.library.register_fake("seqgen::causal_linear_backward", _gradient_shapes)
    torch.library.register_autograd("seqgen::causal_linear", _backward, setup_context=_keep_inputs)
