"""Triton kernels of one decode step: a matrix with all that stands around it, and the attention.

Legend: B rows, C slots, H heads, D model width, M outputs of a matrix, K its inputs, W width of a
head; BB, BM, BK, BW, BV are block widths. All tensors are contiguous, and float32 but for weights
and biases.
"""

import triton
import triton.language as tl

from seqgen.attention import feature_maps
from seqgen.attention.triton_tiles import dot

ROOT_HALF = tl.constexpr(0.7071067811865476)
LAYER_NORM_EPS = tl.constexpr(1e-5)  # torch's default
ATTENTION_EPS = tl.constexpr(1e-6)
RELU_SHIFT = tl.constexpr(feature_maps.RELU_SHIFT)


@triton.jit
def load_tile(x, rows, columns, n_rows, n_columns: tl.constexpr):
    """Load x[rows, columns] of [n_rows, n_columns], zero outside."""
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    return tl.load(x + at, mask=inside, other=0.0)


@triton.jit
def store_tile(x, value, rows, columns, n_rows, n_columns: tl.constexpr):
    """Store into x[rows, columns] of [n_rows, n_columns]."""
    inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
    at = rows.to(tl.int64)[:, None] * n_columns + columns[None, :]
    tl.store(x + at, value, mask=inside)


@triton.jit
def mean_and_scale(x, rows, B, K: tl.constexpr, BB: tl.constexpr, BK: tl.constexpr):
    """Give mean and 1 / deviation [BB] of rows of x [B, K], in two passes."""
    total = tl.zeros([BB], tl.float32)
    for first in range(0, K, BK):
        total += tl.sum(load_tile(x, rows, first + tl.arange(0, BK), B, K), 1)
    mean = total / K
    squares = tl.zeros([BB], tl.float32)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        away = load_tile(x, rows, columns, B, K) - mean[:, None]
        squares += tl.sum(tl.where((columns < K)[None, :], away * away, 0.0), 1)
    return mean, tl.rsqrt(squares / K + LAYER_NORM_EPS)


@triton.jit(do_not_specialize=["B"])
def multiply(
    x,
    norm_weight,
    norm_bias,
    normed,
    weight,
    bias,
    residual,
    y,
    B,
    M: tl.constexpr,
    K: tl.constexpr,
    BB: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write y [B, M] = activation(x' weightᵀ + bias) + residual.

    x' is x [B, K], or if there is a norm, its layer norm, which is written to `normed` too. One
    program per (block of outputs, block of rows); each takes the norm of whole rows for itself.
    """
    rows = tl.program_id(1) * BB + tl.arange(0, BB)
    outputs = tl.program_id(0) * BM + tl.arange(0, BM)
    if norm_weight is not None:
        mean, scale = mean_and_scale(x, rows, B, K, BB, BK)
    total = tl.zeros([BB, BM], tl.float32)
    for first in range(0, K, BK):
        columns = first + tl.arange(0, BK)
        x_tile = load_tile(x, rows, columns, B, K)
        if norm_weight is not None:
            inside = columns < K
            w = tl.load(norm_weight + columns, mask=inside, other=0.0)
            b = tl.load(norm_bias + columns, mask=inside, other=0.0)
            x_tile = (x_tile - mean[:, None]) * scale[:, None] * w[None, :] + b[None, :]
            if tl.program_id(0) == 0:
                store_tile(normed, x_tile, rows, columns, B, K)
        w_tile = load_tile(weight, outputs, columns, M, K)
        total += dot(x_tile.to(w_tile.dtype), tl.trans(w_tile), PRECISION)
    total += tl.load(bias + outputs, mask=outputs < M, other=0.0).to(tl.float32)[None, :]
    if ACTIVATION == "gelu":
        total = 0.5 * total * (1.0 + tl.erf(total * ROOT_HALF))
    elif ACTIVATION == "relu":
        total = tl.maximum(total, 0.0)
    if residual is not None:
        total += load_tile(residual, rows, outputs, B, M)
    store_tile(y, total, rows, outputs, B, M)


@triton.jit
def features(x, inside, MAP: tl.constexpr):
    """Map queries or keys [BW] of one head to features, as `seqgen.attention.feature_maps` does."""
    if MAP == "elu+1":
        mapped = tl.exp(tl.minimum(x, 0.0)) + tl.maximum(x, 0.0)
    else:
        tl.static_assert(MAP == "relu")
        mapped = tl.maximum(x, 0.0) + RELU_SHIFT
    return tl.where(inside, mapped, 0.0)


@triton.jit
def attend(
    qkv,
    slots,
    decay,
    S,
    Z,
    out,
    H: tl.constexpr,
    W: tl.constexpr,
    BW: tl.constexpr,
    BV: tl.constexpr,
    MAP: tl.constexpr,
):
    """Add one position to a layer's sums S [C, H, W, W] and Z [C, H, W], and attend: out [B, H W].

    qkv is [B, 3 H W], slots [B], decay [B]: factors of the sums before, None: 1. One program
    per (row, head).
    """
    b, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    at = tl.load(slots + b) * H + h
    i = tl.arange(0, BW)
    inside = i < W
    mine = qkv + b * (3 * H * W) + h * W
    q = features(tl.load(mine + i, mask=inside, other=0.0), inside, MAP)
    k = features(tl.load(mine + H * W + i, mask=inside, other=0.0), inside, MAP)
    Z_new = tl.load(Z + at * W + i, mask=inside, other=0.0)
    if decay is not None:
        gamma = tl.load(decay + b)
        Z_new *= gamma
    Z_new += k
    tl.store(Z + at * W + i, Z_new, mask=inside)
    norm = tl.sum(q * Z_new, 0) + ATTENTION_EPS
    for first in range(0, W, BV):
        j = first + tl.arange(0, BV)
        v = tl.load(mine + 2 * H * W + j, mask=j < W, other=0.0)
        tile = S + at * W * W + i[:, None] * W + j[None, :]
        both = inside[:, None] & (j < W)[None, :]
        S_new = tl.load(tile, mask=both, other=0.0)
        if decay is not None:
            S_new *= gamma
        S_new += k[:, None] * v[None, :]
        tl.store(tile, S_new, mask=both)
        y = tl.sum(q[:, None] * S_new, 0) / norm
        tl.store(out + b * (H * W) + h * W + j, y, mask=j < W)
