"""Triton kernels of causal linear attention: running sums at each chunk's border, then every chunk
on its own.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions; BK and BV
are block widths. All tensors are contiguous: q, k [B, T, H, K]; v, out [B, T, H, V]; S, R
[B, H, N, K, V]; Z, r [B, H, N, K]; inv_norm, dnorm [B, H, T]. The latter six are float32.
lengths [B]; segment [B, T] holds segment ids, increasing along each row. None: one segment.
"""

import triton
import triton.language as tl

from seqgen.attention.triton_tiles import (
    dot,
    keep_rows,
    load_rows,
    load_sum,
    my_chunk,
    segments_of_chunk,
    store_rows,
    valid,
)


@triton.jit(do_not_specialize=["T"])
def sum_chunks(
    x,  # keys; from the end, queries
    y,  # values; from the end, gradients of the output
    lengths,
    segment,
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

    From the end, S sums x yᵀ / norm and Z sums dnorm x. Sums are reset where the segment changes.
    One program per (row and head, key block, value block).
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
        S += load_sum(S_first, bh, K, V, i, j)
    if Z_first is not None:
        Z += tl.load(Z_first + bh * K + i, mask=i < K, other=0.0)
    N = tl.cdiv(T, C)
    stop = valid(lengths, b, T)
    for step in range(N):
        n = N - 1 - step if FROM_END else step
        tl.store(S_border + (bh * N + n) * K * V + tile, S, mask=in_S)
        if tl.program_id(2) == 0:
            tl.store(Z_border + (bh * N + n) * K + i, Z, mask=i < K)
        counts = n * C + c < stop
        if segment is not None:
            here, before, end = segments_of_chunk(segment, b, n * C, T, c, C)
            counts = counts & (here == (before if FROM_END else end))
            S = tl.where(before == end, S, 0.0)  # no rounding error, no NaN is left behind
            Z = tl.where(before == end, Z, 0.0)
        x_n = load_rows(x, b, h, n * C, counts, T, H, K, c, i)
        y_n = load_rows(y, b, h, n * C, counts, T, H, V, c, j)
        if FROM_END:
            at = bh * T + n * C + c
            scale = tl.load(inv_norm + at, mask=counts, other=0.0)
            weight = tl.load(dnorm + at, mask=counts, other=0.0)
            Z += tl.sum(x_n * weight[:, None], 0)
            S += dot(tl.trans(x_n * scale[:, None]), y_n, PRECISION)
        else:
            Z += tl.sum(x_n.to(tl.float32), 0)
            S += dot(tl.trans(x_n), y_n, PRECISION)
    tl.store(S_last + bh * K * V + tile, S, mask=in_S)
    if tl.program_id(2) == 0:
        tl.store(Z_last + bh * K + i, Z, mask=i < K)


@triton.jit(do_not_specialize=["T"])
def attend(
    q,
    k,
    v,
    lengths,
    segment,
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
    b, h, start, stop, at, _ = my_chunk(lengths, T, H, C)
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    exists, counts = start + c < T, start + c < stop
    past = c[:, None] >= c[None, :]  # [t, s]
    sees_before = None  # [t]: the chunk's first sums
    if segment is not None:
        here, before, _ = segments_of_chunk(segment, b, start, T, c, C)
        past = past & (here[:, None] == here[None, :])
        sees_before = here == before
    q_n = load_rows(q, b, h, start, exists, T, H, K, c, i)
    k_n = load_rows(k, b, h, start, counts, T, H, K, c, i)
    Z = tl.load(Z_border + at * K + i, mask=i < K, other=0.0)
    scores = tl.where(past, dot(q_n, tl.trans(k_n), PRECISION), 0.0)
    norm = tl.sum(scores, 1) + tl.sum(keep_rows(q_n * Z[None, :], sees_before), 1) + eps
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, b, h, start, counts, T, H, V, c, j)
        S = load_sum(S_border, at, K, V, i, j)
        y = dot(scores, v_n, PRECISION) + keep_rows(dot(q_n, S, PRECISION), sees_before)
        store_rows(out, y / norm[:, None], b, h, start, T, H, V, c, j)


@triton.jit(do_not_specialize=["T"])
def query_gradients(
    q,
    k,
    v,
    dout,
    lengths,
    segment,
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
    b, h, start, stop, at, at_t = my_chunk(lengths, T, H, C)
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    exists, counts = start + c < T, start + c < stop
    past = c[:, None] >= c[None, :]  # [t, s]
    sees_before = None  # [t]: the chunk's first sums
    if segment is not None:
        here, before, _ = segments_of_chunk(segment, b, start, T, c, C)
        past = past & (here[:, None] == here[None, :])
        sees_before = here == before
    q_n = load_rows(q, b, h, start, exists, T, H, K, c, i)
    k_n = load_rows(k, b, h, start, counts, T, H, K, c, i)
    Z = tl.load(Z_border + at * K + i, mask=i < K, other=0.0)
    scores = tl.where(past, dot(q_n, tl.trans(k_n), PRECISION), 0.0)
    norm = tl.sum(scores, 1) + tl.sum(keep_rows(q_n * Z[None, :], sees_before), 1) + eps
    inv = 1.0 / norm
    g_v = tl.zeros([C, C], tl.float32)
    g_S = tl.zeros([C, BK], tl.float32)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, b, h, start, counts, T, H, V, c, j)
        dout_n = load_rows(dout, b, h, start, exists, T, H, V, c, j)
        S = load_sum(S_border, at, K, V, i, j)
        g_v += dot(dout_n, tl.trans(v_n), PRECISION)
        g_S += dot(dout_n, tl.trans(S), PRECISION)
    g_v *= inv[:, None]
    g_S = keep_rows(g_S * inv[:, None], sees_before)
    dn = -(tl.sum(g_v * scores, 1) + tl.sum(q_n * g_S, 1)) * inv
    inside = tl.where(past, g_v + dn[:, None], 0.0)
    dq_n = dot(inside, k_n, PRECISION) + g_S + keep_rows(dn[:, None] * Z[None, :], sees_before)
    store_rows(dq, dq_n, b, h, start, T, H, K, c, i)
    tl.store(inv_norm + at_t + c, inv, mask=exists)
    tl.store(dnorm + at_t + c, dn, mask=exists)


@triton.jit(do_not_specialize=["T"])
def key_value_gradients(
    q,
    k,
    v,
    dout,
    lengths,
    segment,
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
    b, h, start, stop, at, at_t = my_chunk(lengths, T, H, C)
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    exists, counts = start + c < T, start + c < stop
    future = c[:, None] <= c[None, :]  # [s, t]
    lasts = None  # [s]: into the sums after the chunk
    if segment is not None:
        here, _, end = segments_of_chunk(segment, b, start, T, c, C)
        future = future & (here[:, None] == here[None, :])
        lasts = here == end
    q_n = load_rows(q, b, h, start, exists, T, H, K, c, i)
    k_n = load_rows(k, b, h, start, counts, T, H, K, c, i)
    inv = tl.load(inv_norm + at_t + c, mask=exists, other=0.0)
    dn = tl.load(dnorm + at_t + c, mask=exists, other=0.0)
    r = tl.load(r_border + at * K + i, mask=i < K, other=0.0)
    scores = tl.where(future, dot(k_n, tl.trans(q_n), PRECISION) * inv[None, :], 0.0)
    v_g = tl.zeros([C, C], tl.float32)
    v_R = tl.zeros([C, BK], tl.float32)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, b, h, start, counts, T, H, V, c, j)
        dout_n = load_rows(dout, b, h, start, exists, T, H, V, c, j)
        R = load_sum(R_border, at, K, V, i, j)
        v_g += dot(v_n, tl.trans(dout_n), PRECISION)
        v_R += dot(v_n, tl.trans(R), PRECISION)
        dv_n = dot(scores, dout_n, PRECISION) + keep_rows(dot(k_n, R, PRECISION), lasts)
        store_rows(dv, dv_n, b, h, start, T, H, V, c, j)
    inside = tl.where(future, v_g * inv[None, :] + dn[None, :], 0.0)
    dk_n = dot(inside, q_n, PRECISION) + keep_rows(v_R + r[None, :], lasts)
    dk_n = keep_rows(dk_n, counts)
    store_rows(dk, dk_n, b, h, start, T, H, K, c, i)
