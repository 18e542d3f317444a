"""Triton kernels of causal linear attention: running sums at each chunk's border, then every chunk
on its own.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions; BK and BV
are block widths. All tensors are contiguous: q, k [B, T, H, K]; v, out [B, T, H, V]; S, R
[B, H, N, K, V]; Z, r [B, H, N, K]; inv_norm, dnorm [B, H, T]. The latter six are float32.
"""

import triton
import triton.language as tl


@triton.jit
def _dot(a, b, PRECISION: tl.constexpr):
    """Multiply and sum in float32. Two half-width operands need no cast: their products are exact.

    With "ieee" all are cast, for devices (and the interpreter) that cannot multiply bfloat16.
    """
    if a.dtype != b.dtype or PRECISION == "ieee":
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def _rows(x, b, h, start, T, H, D: tl.constexpr, c, d):
    """Point at x[b, start + c, h, d] of a contiguous [B, T, H, D]."""
    first = x + ((b.to(tl.int64) * T + start) * H + h) * D
    return first + c[:, None] * (H * D) + d[None, :]


@triton.jit
def _load_rows(x, b, h, start, stop, T, H, D: tl.constexpr, c, d):
    """Load a tile of positions and columns, zero from position `stop` and column `D` on."""
    inside = (start + c < stop)[:, None] & (d < D)[None, :]
    return tl.load(_rows(x, b, h, start, T, H, D, c, d), mask=inside, other=0.0)


@triton.jit
def _store_rows(x, value, b, h, start, T, H, D: tl.constexpr, c, d):
    inside = (start + c < T)[:, None] & (d < D)[None, :]
    tl.store(_rows(x, b, h, start, T, H, D, c, d), value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _load_sum(S, at, K: tl.constexpr, V: tl.constexpr, i, j):
    """Load a block of the sum number `at` of S [..., K, V]."""
    inside = (i < K)[:, None] & (j < V)[None, :]
    return tl.load(S + at * K * V + i[:, None] * V + j[None, :], mask=inside, other=0.0)


@triton.jit
def _valid(lengths, b, T):
    """Give the number of positions of row b whose keys count."""
    stop = T
    if lengths is not None:
        stop = tl.minimum(T, tl.load(lengths + b).to(tl.int32))
    return stop


@triton.jit
def _my_chunk(lengths, T, H, C: tl.constexpr):
    """Give row, head, first position and end of the keys of this program's chunk, and where it
    stands in a [B, H, N] and a [B, H, T].
    """
    N = tl.cdiv(T, C)
    at = tl.program_id(0).to(tl.int64)
    b, h, start = at // N // H, at // N % H, (at % N * C).to(tl.int32)
    return b, h, start, _valid(lengths, b, T), at, at // N * T + start


@triton.jit(do_not_specialize=["T"])
def sum_chunks(
    x,  # keys; from the end, queries
    y,  # values; from the end, gradients of the output
    lengths,
    inv_norm,
    dnorm,
    S_first,
    Z_first,
    S_border,
    Z_border,
    S_last,
    Z_last,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    FROM_END: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Walk the chunks and store the sums before each: S of x yᵀ and Z of x.

    From the end, S sums x yᵀ / norm and Z sums dnorm x. One program per (row and head, key block,
    value block).
    """
    bh = tl.program_id(0).to(tl.int64)
    b, h = bh // H, bh % H
    c = tl.arange(0, C)
    i = tl.program_id(1) * BK + tl.arange(0, BK)
    j = tl.program_id(2) * BV + tl.arange(0, BV)
    in_S = (i < K)[:, None] & (j < V)[None, :]
    tile = i[:, None] * V + j[None, :]
    S = tl.zeros([BK, BV], tl.float32)
    Z = tl.zeros([BK], tl.float32)
    if S_first is not None:
        S += _load_sum(S_first, bh, K, V, i, j)
    if Z_first is not None:
        Z += tl.load(Z_first + bh * K + i, mask=i < K, other=0.0)
    N = tl.cdiv(T, C)
    stop = _valid(lengths, b, T)
    for step in range(N):
        n = N - 1 - step if FROM_END else step
        tl.store(S_border + (bh * N + n) * K * V + tile, S, mask=in_S)
        if tl.program_id(2) == 0:
            tl.store(Z_border + (bh * N + n) * K + i, Z, mask=i < K)
        x_n = _load_rows(x, b, h, n * C, stop, T, H, K, c, i)
        y_n = _load_rows(y, b, h, n * C, stop, T, H, V, c, j)
        if FROM_END:
            at = bh * T + n * C + c
            scale = tl.load(inv_norm + at, mask=n * C + c < T, other=0.0)
            weight = tl.load(dnorm + at, mask=n * C + c < T, other=0.0)
            Z += tl.sum(x_n * weight[:, None], 0)
            S += _dot(tl.trans(x_n * scale[:, None]), y_n, PRECISION)
        else:
            Z += tl.sum(x_n.to(tl.float32), 0)
            S += _dot(tl.trans(x_n), y_n, PRECISION)
    tl.store(S_last + bh * K * V + tile, S, mask=in_S)
    if tl.program_id(2) == 0:
        tl.store(Z_last + bh * K + i, Z, mask=i < K)


@triton.jit(do_not_specialize=["T"])
def attend(
    q,
    k,
    v,
    lengths,
    S_border,
    Z_border,
    out,
    eps,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the outputs of one chunk. One program per (row, head, chunk)."""
    b, h, start, stop, at, _ = _my_chunk(lengths, T, H, C)
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    q_n = _load_rows(q, b, h, start, T, T, H, K, c, i)
    k_n = _load_rows(k, b, h, start, stop, T, H, K, c, i)
    Z = tl.load(Z_border + at * K + i, mask=i < K, other=0.0)
    scores = tl.where(c[:, None] >= c[None, :], _dot(q_n, tl.trans(k_n), PRECISION), 0.0)  # [t, s]
    norm = tl.sum(scores, 1) + tl.sum(q_n * Z[None, :], 1) + eps
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = _load_rows(v, b, h, start, stop, T, H, V, c, j)
        S = _load_sum(S_border, at, K, V, i, j)
        y = _dot(scores, v_n, PRECISION) + _dot(q_n, S, PRECISION)
        _store_rows(out, y / norm[:, None], b, h, start, T, H, V, c, j)


@triton.jit(do_not_specialize=["T"])
def query_gradients(
    q,
    k,
    v,
    dout,
    lengths,
    S_border,
    Z_border,
    dq,
    inv_norm,
    dnorm,
    eps,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write dq of one chunk, and its 1 / norm and the gradient of norm for the kernels after it.

    With g = dout / norm: dq_t = S_t g_t + dnorm_t Z_t and dnorm_t = -q_t · S_t g_t / norm_t.
    """
    b, h, start, stop, at, at_t = _my_chunk(lengths, T, H, C)
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    past = c[:, None] >= c[None, :]  # [t, s]
    q_n = _load_rows(q, b, h, start, T, T, H, K, c, i)
    k_n = _load_rows(k, b, h, start, stop, T, H, K, c, i)
    Z = tl.load(Z_border + at * K + i, mask=i < K, other=0.0)
    scores = tl.where(past, _dot(q_n, tl.trans(k_n), PRECISION), 0.0)
    inv = 1.0 / (tl.sum(scores, 1) + tl.sum(q_n * Z[None, :], 1) + eps)
    g_v = tl.zeros([C, C], tl.float32)
    g_S = tl.zeros([C, BK], tl.float32)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = _load_rows(v, b, h, start, stop, T, H, V, c, j)
        dout_n = _load_rows(dout, b, h, start, T, T, H, V, c, j)
        S = _load_sum(S_border, at, K, V, i, j)
        g_v += _dot(dout_n, tl.trans(v_n), PRECISION)
        g_S += _dot(dout_n, tl.trans(S), PRECISION)
    g_v *= inv[:, None]
    g_S *= inv[:, None]
    dn = -(tl.sum(g_v * scores, 1) + tl.sum(q_n * g_S, 1)) * inv
    inside = tl.where(past, g_v + dn[:, None], 0.0)
    dq_n = _dot(inside, k_n, PRECISION) + g_S + dn[:, None] * Z[None, :]
    _store_rows(dq, dq_n, b, h, start, T, H, K, c, i)
    tl.store(inv_norm + at_t + c, inv, mask=start + c < T)
    tl.store(dnorm + at_t + c, dn, mask=start + c < T)


@triton.jit(do_not_specialize=["T"])
def key_value_gradients(
    q,
    k,
    v,
    dout,
    lengths,
    inv_norm,
    dnorm,
    R_border,
    r_border,
    dk,
    dv,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write dk and dv of one chunk: dk_s = R_s v_s + r_s and dv_s = R_sᵀ k_s.

    R_s and r_s are the sums from the end down to position s; those of later chunks are at hand.
    """
    b, h, start, stop, at, at_t = _my_chunk(lengths, T, H, C)
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    future = c[:, None] <= c[None, :]  # [s, t]
    q_n = _load_rows(q, b, h, start, T, T, H, K, c, i)
    k_n = _load_rows(k, b, h, start, stop, T, H, K, c, i)
    inv = tl.load(inv_norm + at_t + c, mask=start + c < T, other=0.0)
    dn = tl.load(dnorm + at_t + c, mask=start + c < T, other=0.0)
    r = tl.load(r_border + at * K + i, mask=i < K, other=0.0)
    scores = tl.where(future, _dot(k_n, tl.trans(q_n), PRECISION) * inv[None, :], 0.0)
    v_g = tl.zeros([C, C], tl.float32)
    v_R = tl.zeros([C, BK], tl.float32)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = _load_rows(v, b, h, start, stop, T, H, V, c, j)
        dout_n = _load_rows(dout, b, h, start, T, T, H, V, c, j)
        R = _load_sum(R_border, at, K, V, i, j)
        v_g += _dot(v_n, tl.trans(dout_n), PRECISION)
        v_R += _dot(v_n, tl.trans(R), PRECISION)
        dv_n = _dot(scores, dout_n, PRECISION) + _dot(k_n, R, PRECISION)
        _store_rows(dv, dv_n, b, h, start, T, H, V, c, j)
    inside = tl.where(future, v_g * inv[None, :] + dn[None, :], 0.0)
    dk_n = _dot(inside, q_n, PRECISION) + v_R + r[None, :]
    dk_n = tl.where((start + c < stop)[:, None], dk_n, 0.0)
    _store_rows(dk, dk_n, b, h, start, T, H, K, c, i)
