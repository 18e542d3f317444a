"""Triton kernels of causal linear attention: the sums of each chunk, what comes before each chunk
by a scan of these, then every chunk on its own.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions; BK and BV
are block widths. q, k [B, T, H, K] and v, dout [B, T, H, V] are contiguous but for the distance of
positions, which is given (q_t, ...). The others are contiguous: out, dv [B, T, H, V]; dq, dk
[B, T, H, K]; norms [B, H, 2, T]: 1 / norm and the gradient of norm; sums, later [B, H, N, K V + K]:
S and then Z of each chunk. The latter three are float32. lengths [B]; segment [B, T] holds segment
ids, which increase along each row. None: one segment. MAP names the feature map of q and k; below,
q and k stand for the features. decay [H] is γ, in float32; None: 1. ddecay [N, B, H] takes parts of
the gradient of log γ; None: it is not wanted.
"""

import triton
import triton.language as tl

from seqgen.attention.triton_tiles import (
    decays_of_chunk,
    dot,
    features,
    keep_rows,
    load_rows,
    log2_decay,
    my_chunk,
    power,
    segments_of_chunk,
    store_part,
    store_rows,
    sum_at,
    through_map,
    valid,
)


@triton.jit(do_not_specialize=["T"])
def sum_chunks(
    k,
    v,
    lengths,
    segment,
    decay,
    sums,
    T,
    H,
    k_t,
    v_t,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    MAP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Store the sums of each chunk: of its last segment, for those after it.

    One program per row, head and chunk.
    """
    b, h, start, stop, at = my_chunk(lengths, T, H, C)
    row = b * T + start
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    counts = start + c < stop
    if segment is not None:
        here, _, end = segments_of_chunk(segment, b, start, T, c, C)
        counts = counts & (here == end)
    sums += at * (K * V + K)
    k_n = features(load_rows(k, row, h, k_t, counts, K, c, i), counts, K, i, MAP)
    if decay is not None:
        rate = log2_decay(decay, h)
        times, in_all = decays_of_chunk(start, stop, c, C)
        k_n = k_n * power(rate, in_all - times)[:, None]
    tl.store(sums + K * V + i, tl.sum(k_n.to(tl.float32), 0), mask=i < K)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, row, h, v_t, counts, V, c, j)
        to, exists = sum_at(i, j, K, V)
        tl.store(sums + to, dot(tl.trans(k_n), v_n, PRECISION), mask=exists)


@triton.jit(do_not_specialize=["T", "ddecay"])
def scan_chunks(
    sums,
    S_first,
    Z_first,
    S_last,
    Z_last,
    lengths,
    segment,
    decay,
    others,
    ddecay,
    T,
    H,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    E: tl.constexpr,
    FROM_END: tl.constexpr,
):
    """Turn the sums of each chunk into those before it; from the end, into those after it.

    They begin with S_first and Z_first (None: zeros) and end in S_last and Z_last. Sums are reset
    where the segment changes. One program per (row and head, block of E sums). For the gradient of
    a decay, `others` are the sums before each chunk.
    """
    bh = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * E + tl.arange(0, E)
    of_S = e < K * V
    of_Z = (e >= K * V) & (e < K * V + K)
    total = tl.zeros([E], tl.float32)
    if S_first is not None:
        total += tl.load(S_first + bh * (K * V) + e, mask=of_S, other=0.0)
    if Z_first is not None:
        total += tl.load(Z_first + bh * K + e - K * V, mask=of_Z, other=0.0)
    N = tl.cdiv(T, C)
    sums += bh * N * (K * V + K)
    stop = valid(lengths, bh // H, T)
    if decay is not None:
        rate = log2_decay(decay, bh % H)
    dlog = tl.zeros([E], tl.float32)
    for step in tl.range(0, N, num_stages=8):  # loads run ahead of the sums
        n = N - 1 - step if FROM_END else step
        here = sums + n.to(tl.int64) * (K * V + K) + e
        added = tl.load(here, mask=of_S | of_Z, other=0.0)
        so_far = total
        if segment is not None:
            every = n + tl.zeros_like(e)  # a scalar would not be loaded ahead
            first = segment + bh // H * T + every * C
            before = tl.load(first - 1, mask=every > 0, other=0)
            end = tl.load(first + tl.minimum(C, T - n * C) - 1)
            total = tl.where(before == end, total, 0.0)  # no rounding error, no NaN is left behind
        if decay is not None:
            _, in_all = decays_of_chunk(n * C, stop, e, C)
            total *= power(rate, in_all)
            if ddecay is not None:
                other = others + (bh * N + n) * (K * V + K) + e
                other = tl.load(other, mask=of_S | of_Z, other=0.0)
                if segment is not None:
                    other = tl.where(before == end, other, 0.0)
                dlog += in_all * total * other
        total += added
        tl.store(here, so_far, mask=of_S | of_Z)  # last: what was there has surely been loaded
    if S_last is not None:
        tl.store(S_last + bh * (K * V) + e, total, mask=of_S)
        tl.store(Z_last + bh * K + e - K * V, total, mask=of_Z)
    if ddecay is not None:
        tl.store(ddecay + tl.program_id(1) * tl.num_programs(0) + bh, tl.sum(dlog, 0))


@triton.jit(do_not_specialize=["T", "eps"])
def attend(
    q,
    k,
    v,
    lengths,
    segment,
    decay,
    sums,
    out,
    eps,
    T,
    H,
    q_t,
    k_t,
    v_t,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    MAP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the outputs of one chunk. One program per row, head and chunk."""
    b, h, start, stop, at = my_chunk(lengths, T, H, C)
    row = b * T + start
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    exists, counts = start + c < T, start + c < stop
    past = c[:, None] >= c[None, :]  # [t, s]
    sees_before = None  # [t]: the chunk's first sums
    if segment is not None:
        here, before, _ = segments_of_chunk(segment, b, start, T, c, C)
        past = past & (here[:, None] == here[None, :])
        sees_before = here == before
    sums += at * (K * V + K)
    q_n = features(load_rows(q, row, h, q_t, exists, K, c, i), exists, K, i, MAP)
    k_n = features(load_rows(k, row, h, k_t, counts, K, c, i), counts, K, i, MAP)
    Z = tl.load(sums + K * V + i, mask=i < K, other=0.0)
    scores = dot(q_n, tl.trans(k_n), PRECISION)
    q_Z = tl.sum(keep_rows(q_n * Z[None, :], sees_before), 1)
    if decay is not None:
        rate = log2_decay(decay, h)
        times, _ = decays_of_chunk(start, stop, c, C)
        scores *= power(rate, times[:, None] - times[None, :])
        left = power(rate, times)
        q_Z *= left
    scores = tl.where(past, scores, 0.0)
    norm = tl.sum(scores, 1) + q_Z + eps
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, row, h, v_t, counts, V, c, j)
        of_S, in_S = sum_at(i, j, K, V)
        S = tl.load(sums + of_S, mask=in_S, other=0.0)
        q_S = keep_rows(dot(q_n, S, PRECISION), sees_before)
        if decay is not None:
            q_S *= left[:, None]
        y = dot(scores, v_n, PRECISION) + q_S
        store_rows(out, y / norm[:, None], row, h, H, exists, V, c, j)


@triton.jit(do_not_specialize=["T", "eps", "ddecay"])
def query_gradients(
    q,
    k,
    v,
    dout,
    lengths,
    segment,
    decay,
    sums,
    dq,
    norms,
    later,
    ddecay,
    eps,
    T,
    H,
    q_t,
    k_t,
    v_t,
    g_t,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    MAP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write dq of one chunk, and what the gradients of keys and values need.

    With g = dout / norm: dq_t = S_t g_t + dnorm_t Z_t and dnorm_t = -q_t · S_t g_t / norm_t. The
    keys of earlier chunks need `later`: the chunk's sums R of q gᵀ and r of dnorm q.
    """
    b, h, start, stop, at = my_chunk(lengths, T, H, C)
    row = b * T + start
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    exists, counts = start + c < T, start + c < stop
    past = c[:, None] >= c[None, :]  # [t, s]
    sees_before = None  # [t]: the chunk's first sums
    if segment is not None:
        here, before, _ = segments_of_chunk(segment, b, start, T, c, C)
        past = past & (here[:, None] == here[None, :])
        sees_before = here == before
    sums += at * (K * V + K)
    later += at * (K * V + K)
    q_n = features(load_rows(q, row, h, q_t, exists, K, c, i), exists, K, i, MAP)
    k_n = features(load_rows(k, row, h, k_t, counts, K, c, i), counts, K, i, MAP)
    Z = tl.load(sums + K * V + i, mask=i < K, other=0.0)
    scores = dot(q_n, tl.trans(k_n), PRECISION)
    q_Z = tl.sum(keep_rows(q_n * Z[None, :], sees_before), 1)
    if decay is not None:
        rate = log2_decay(decay, h)
        times, _ = decays_of_chunk(start, stop, c, C)
        scores *= power(rate, times[:, None] - times[None, :])
        left = power(rate, times)
        q_Z *= left
    scores = tl.where(past, scores, 0.0)
    inv = 1.0 / (tl.sum(scores, 1) + q_Z + eps)
    inv_left = inv
    if decay is not None:
        inv_left *= left
    q_g = keep_rows(q_n * inv_left[:, None], sees_before)
    g_v = tl.zeros([C, C], tl.float32)
    g_S = tl.zeros([C, BK], tl.float32)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, row, h, v_t, counts, V, c, j)
        dout_n = load_rows(dout, row, h, g_t, exists, V, c, j)
        of_S, in_S = sum_at(i, j, K, V)
        S = tl.load(sums + of_S, mask=in_S, other=0.0)
        tl.store(later + of_S, dot(tl.trans(q_g), dout_n, PRECISION), mask=in_S)
        g_v += dot(dout_n, tl.trans(v_n), PRECISION)
        g_S += dot(dout_n, tl.trans(S), PRECISION)
    x = load_rows(q, row, h, q_t, exists, K, c, i)  # again: registers are few
    q_n = features(x, exists, K, i, MAP)
    g_v *= inv[:, None]
    g_S = keep_rows(g_S * inv_left[:, None], sees_before)
    q_g_S = tl.sum(q_n * g_S, 1)
    dn = -(tl.sum(g_v * scores, 1) + q_g_S) * inv
    norms += (b * H + h) * (2 * T) + start + c
    tl.store(norms, inv, mask=exists)
    tl.store(norms + T, dn, mask=exists)
    inside = tl.where(past, g_v + dn[:, None], 0.0)
    if ddecay is not None:
        dlog = tl.sum(inside * scores * (times[:, None] - times[None, :]), 1)
        dlog += times * (q_g_S + dn * q_Z)
        store_part(ddecay, tl.sum(dlog, 0), at, tl.cdiv(T, C))
    if decay is not None:
        inside = tl.where(past, inside * power(rate, times[:, None] - times[None, :]), 0.0)
        dn *= left
    r = tl.sum(keep_rows(q_n * dn[:, None], sees_before), 0)
    tl.store(later + K * V + i, r, mask=i < K)
    g_S += keep_rows(dn[:, None] * Z[None, :], sees_before)
    k_n = features(load_rows(k, row, h, k_t, counts, K, c, i), counts, K, i, MAP)
    dq_n = dot(inside, k_n, PRECISION) + g_S
    store_rows(dq, through_map(dq_n, x, MAP), row, h, H, exists, K, c, i)


@triton.jit(do_not_specialize=["T", "ddecay"])
def key_value_gradients(
    q,
    k,
    v,
    dout,
    lengths,
    segment,
    decay,
    norms,
    later,
    dk,
    dv,
    ddecay,
    T,
    H,
    q_t,
    k_t,
    v_t,
    g_t,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    MAP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write dk and dv of one chunk: dk_s = R_s v_s + r_s and dv_s = R_sᵀ k_s.

    R_s and r_s are the sums from the end down to position s; those of later chunks are at hand.
    """
    b, h, start, stop, at = my_chunk(lengths, T, H, C)
    row = b * T + start
    c = tl.arange(0, C)
    i = tl.arange(0, BK)
    exists, counts = start + c < T, start + c < stop
    future = c[:, None] <= c[None, :]  # [s, t]
    lasts = None  # [s]: into the sums after the chunk
    if segment is not None:
        here, _, end = segments_of_chunk(segment, b, start, T, c, C)
        future = future & (here[:, None] == here[None, :])
        lasts = here == end
    later += at * (K * V + K)
    q_n = features(load_rows(q, row, h, q_t, exists, K, c, i), exists, K, i, MAP)
    k_n = features(load_rows(k, row, h, k_t, counts, K, c, i), counts, K, i, MAP)
    norms += (b * H + h) * (2 * T) + start + c
    inv = tl.load(norms, mask=exists, other=0.0)
    dn = tl.load(norms + T, mask=exists, other=0.0)
    r = tl.load(later + K * V + i, mask=i < K, other=0.0)
    scores = dot(k_n, tl.trans(q_n), PRECISION) * inv[None, :]
    if decay is not None:
        rate = log2_decay(decay, h)
        times, in_all = decays_of_chunk(start, stop, c, C)
        scores *= power(rate, times[None, :] - times[:, None])
        left = power(rate, in_all - times)
    scores = tl.where(future, scores, 0.0)
    v_g = tl.zeros([C, C], tl.float32)
    v_R = tl.zeros([C, BK], tl.float32)
    for j0 in range(0, V, BV):
        j = j0 + tl.arange(0, BV)
        v_n = load_rows(v, row, h, v_t, counts, V, c, j)
        dout_n = load_rows(dout, row, h, g_t, exists, V, c, j)
        of_R, in_R = sum_at(i, j, K, V)
        R = tl.load(later + of_R, mask=in_R, other=0.0)
        k_R = keep_rows(dot(k_n, R, PRECISION), lasts)
        if decay is not None:
            k_R *= left[:, None]
        store_rows(dv, dot(scores, dout_n, PRECISION) + k_R, row, h, H, exists, V, c, j)
        v_g += dot(v_n, tl.trans(dout_n), PRECISION)
        v_R += dot(v_n, tl.trans(R), PRECISION)
    inside = v_g * inv[None, :] + dn[None, :]
    from_R = keep_rows(v_R + r[None, :], lasts)
    if decay is not None:
        inside *= power(rate, times[None, :] - times[:, None])
        from_R *= left[:, None]
    q_n = features(load_rows(q, row, h, q_t, exists, K, c, i), exists, K, i, MAP)
    dk_n = dot(tl.where(future, inside, 0.0), q_n, PRECISION) + from_R
    x = load_rows(k, row, h, k_t, counts, K, c, i)  # again: registers are few
    if ddecay is not None:
        dlog = tl.sum(features(x, counts, K, i, MAP) * from_R, 1) * (in_all - times)
        store_part(ddecay, tl.sum(dlog, 0), at, tl.cdiv(T, C))
    dk_n = keep_rows(through_map(dk_n, x, MAP), counts)
    store_rows(dk, dk_n, row, h, H, exists, K, c, i)
