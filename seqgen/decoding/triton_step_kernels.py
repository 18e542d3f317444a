"""Triton kernels of one decode step: the embedding, a matrix with all that stands around it, the
attention.

Each kernel waits for the one before it only where it needs the results (`chain`): what it reads
before that was written by none of the last two kernels, weights above all.

Legend: B rows, C slots, F fields, H heads, D model width, M outputs of a matrix, K its inputs, W
width of a head or of the short convolution, G groups of marks; BB, BM, BK, BS, BW, BV, BD are block
widths. All tensors are contiguous, and float32 but for weights, biases, and what is only multiplied
by weights, which may be rounded as they are.
"""

import triton
import triton.language as tl
from triton.language.extra import cuda

from seqgen.attention import feature_maps
from seqgen.attention.triton_tiles import dot

ROOT_HALF = tl.constexpr(0.7071067811865476)
LAYER_NORM_EPS = tl.constexpr(1e-5)  # torch's default
ATTENTION_EPS = tl.constexpr(1e-6)
RELU_SHIFT = tl.constexpr(feature_maps.RELU_SHIFT)


@triton.jit
def chain(PDL: tl.constexpr):
    """Wait for the kernel before this one, and let the one after it begin."""
    if PDL:
        cuda.gdc_wait()
        cuda.gdc_launch_dependents()


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """Apply an activation, of those in `seqgen.decoding.linear`."""
    if ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * ROOT_HALF))
    elif ACTIVATION == "relu":
        x = tl.maximum(x, 0.0)
    return x


@triton.jit
def layer_norm(x, inside, weight, bias, K: tl.constexpr):
    """Take the layer norm of one row x [BK], zero from column K on."""
    mean = tl.sum(x, 0) / K
    away = tl.where(inside, x - mean, 0.0)
    return away * tl.rsqrt(tl.sum(away * away, 0) / K + LAYER_NORM_EPS) * weight + bias


@triton.jit(do_not_specialize=["B"])
def multiply_few(
    x,
    norm_weight,
    norm_bias,
    last_weight,
    last_bias,
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
    PDL: tl.constexpr,
):
    """Write y [B, M] = activation(x' weightᵀ + bias) + residual for up to BB rows.

    x' is x [B, K], or if there is a norm, its layer norm, which is written to `normed` too, or if
    there is a last norm, the norm of that. One program per block of outputs: its weights are read
    once, before it waits, and used for each row. Products and sums are exact float32.
    """
    outputs = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.arange(0, BK)
    inside = columns < K
    at = outputs[:, None] * K + columns[None, :]
    w = tl.load(weight + at, mask=(outputs < M)[:, None] & inside[None, :], other=0.0)
    added = tl.load(bias + outputs, mask=outputs < M, other=0.0).to(tl.float32)
    if norm_weight is not None:
        n_weight = tl.load(norm_weight + columns, mask=inside, other=0.0)
        n_bias = tl.load(norm_bias + columns, mask=inside, other=0.0)
    if last_weight is not None:
        l_weight = tl.load(last_weight + columns, mask=inside, other=0.0)
        l_bias = tl.load(last_bias + columns, mask=inside, other=0.0)
    chain(PDL)
    there = outputs < M
    for i in tl.static_range(BB):
        b = tl.minimum(i, B - 1)  # beyond the last row: that one again
        row = tl.load(x + b * K + columns, mask=inside, other=0.0).to(tl.float32)
        if norm_weight is not None:
            row = layer_norm(row, inside, n_weight, n_bias, K)
            # Two conditions: the first is decided when this is compiled.
            if normed is not None:  # noqa: SIM102
                if tl.program_id(0) == 0:
                    tl.store(normed + b * K + columns, row, mask=inside)
        if last_weight is not None:
            row = layer_norm(row, inside, l_weight, l_bias, K)
        row = row.to(w.dtype).to(tl.float32)
        total = activate(tl.sum(w.to(tl.float32) * row[None, :], 1) + added, ACTIVATION)
        if residual is not None:
            total += tl.load(residual + b * M + outputs, mask=there, other=0.0)
        tl.store(y + b * M + outputs, total.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["B"])
def multiply_some(
    x,
    norm_weight,
    norm_bias,
    last_weight,
    last_bias,
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
    BS: tl.constexpr,
    BK: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    PDL: tl.constexpr,
):
    """Do the same as `multiply_few`, for blocks of BB rows, on tensor cores.

    BS stretches of BK inputs are multiplied at once and then added, since one after the other would
    wait for each other. One program per (block of outputs, block of rows). Norms need all inputs in
    one go: K is at most BS BK.
    """
    rows = tl.program_id(1) * BB + tl.arange(0, BB)
    outputs = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.arange(0, BS)[:, None] * BK + tl.arange(0, BK)[None, :]
    inside = columns < K
    w = load_stretches(weight, outputs, M, columns, K)
    added = tl.load(bias + outputs, mask=outputs < M, other=0.0).to(tl.float32)
    if norm_weight is not None:
        n_weight = tl.load(norm_weight + columns, mask=inside, other=0.0)
        n_bias = tl.load(norm_bias + columns, mask=inside, other=0.0)
    if last_weight is not None:
        l_weight = tl.load(last_weight + columns, mask=inside, other=0.0)
        l_bias = tl.load(last_bias + columns, mask=inside, other=0.0)
    chain(PDL)
    x_tile = load_stretches(x, rows, B, columns, K)
    if norm_weight is not None:
        x_tile = layer_norms(x_tile, inside, n_weight, n_bias, K)
        # Two conditions: the first is decided when this is compiled.
        if normed is not None:  # noqa: SIM102
            if tl.program_id(0) == 0:
                at = rows.to(tl.int64)[None, :, None] * K + columns[:, None, :]
                tl.store(normed + at, x_tile, mask=(rows < B)[None, :, None] & inside[:, None, :])
    if last_weight is not None:
        x_tile = layer_norms(x_tile, inside, l_weight, l_bias, K)
    total = tl.sum(dot(x_tile.to(w.dtype), tl.permute(w, (0, 2, 1)), PRECISION), 0)
    for first in range(BS * BK, K, BS * BK):
        w = load_stretches(weight, outputs, M, first + columns, K)
        x_tile = load_stretches(x, rows, B, first + columns, K)
        total += tl.sum(dot(x_tile.to(w.dtype), tl.permute(w, (0, 2, 1)), PRECISION), 0)
    total = activate(total + added[None, :], ACTIVATION)
    there = (rows < B)[:, None] & (outputs < M)[None, :]
    at = rows.to(tl.int64)[:, None] * M + outputs[None, :]
    if residual is not None:
        total += tl.load(residual + at, mask=there, other=0.0)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=there)


@triton.jit
def load_stretches(x, rows, n_rows, columns, K: tl.constexpr):
    """Load stretches [BS, BR, BK] of rows [BR] of x [n_rows, K], zero outside."""
    at = rows.to(tl.int64)[None, :, None] * K + columns[:, None, :]
    there = (rows < n_rows)[None, :, None] & (columns < K)[:, None, :]
    return tl.load(x + at, mask=there, other=0.0)


@triton.jit
def layer_norms(x, inside, weight, bias, K: tl.constexpr):
    """Take the layer norms of rows in stretches: x [BS, BB, BK], zero where not `inside`."""
    mean = tl.sum(tl.sum(x, 2), 0) / K
    away = tl.where(inside[:, None, :], x - mean[None, :, None], 0.0)
    scale = tl.rsqrt(tl.sum(tl.sum(away * away, 2), 0) / K + LAYER_NORM_EPS)
    return away * scale[None, :, None] * weight[:, None, :] + bias[:, None, :]


@triton.jit
def add_and_norm(
    product,
    residual,
    norm_weight,
    norm_bias,
    last_weight,
    last_bias,
    y,
    rounded,
    K: tl.constexpr,
    BK: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write the layer norm of product + residual [B, K] to y, or if there is a last norm, the norm
    of that; and the same to `rounded`, which has the product's type. One program per row.
    """
    columns = tl.arange(0, BK)
    inside = columns < K
    at = tl.program_id(0).to(tl.int64) * K + columns
    weight = tl.load(norm_weight + columns, mask=inside, other=0.0)
    bias = tl.load(norm_bias + columns, mask=inside, other=0.0)
    chain(PDL)
    x = tl.load(product + at, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(residual + at, mask=inside, other=0.0)
    x = layer_norm(x, inside, weight, bias, K)
    if last_weight is not None:
        weight = tl.load(last_weight + columns, mask=inside, other=0.0)
        x = layer_norm(x, inside, weight, tl.load(last_bias + columns, mask=inside, other=0.0), K)
    tl.store(y + at, x, mask=inside)
    if rounded is not None:
        tl.store(rounded + at, x.to(rounded.dtype.element_ty), mask=inside)


@triton.jit
def activate_all(x, n, BLOCK: tl.constexpr, ACTIVATION: tl.constexpr, PDL: tl.constexpr):
    """Apply an activation to the n numbers of x, in their place."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    chain(PDL)
    value = activate(tl.load(x + at, mask=at < n, other=0.0).to(tl.float32), ACTIVATION)
    tl.store(x + at, value.to(x.dtype.element_ty), mask=at < n)


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
    head_decay,
    S,
    Z,
    out,
    H: tl.constexpr,
    W: tl.constexpr,
    BW: tl.constexpr,
    BV: tl.constexpr,
    MAP: tl.constexpr,
    PDL: tl.constexpr,
):
    """Add one position to a layer's sums S [C, H, W, W] and Z [C, H, W], and attend: out [B, H W].

    qkv is [B, 3 H W], slots [B], decay [B] and head_decay [H]: factors of the sums before, None: 1.
    One program per (row, head). Sums were last written a step ago, so they are read at once.
    """
    b, h = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    at = tl.load(slots + b) * H + h
    i = tl.arange(0, BW)
    inside = i < W
    gamma = 1.0
    if head_decay is not None:
        gamma *= tl.load(head_decay + h)
    Z_new = tl.load(Z + at * W + i, mask=inside, other=0.0)
    if BV >= W:
        j = tl.arange(0, BV)
        both = inside[:, None] & (j < W)[None, :]
        S_old = tl.load(S + at * W * W + i[:, None] * W + j[None, :], mask=both, other=0.0)
    chain(PDL)
    if decay is not None:
        gamma *= tl.load(decay + b)
    mine = qkv + b * (3 * H * W) + h * W
    q = tl.load(mine + i, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(mine + H * W + i, mask=inside, other=0.0).to(tl.float32)
    q, k = features(q, inside, MAP), features(k, inside, MAP)
    if decay is not None or head_decay is not None:
        Z_new *= gamma
    Z_new += k
    tl.debug_barrier()  # several warps load the same numbers: before any of them is overwritten
    tl.store(Z + at * W + i, Z_new, mask=inside)
    norm = tl.sum(q * Z_new, 0) + ATTENTION_EPS
    for first in tl.static_range(0, W, BV):
        j = first + tl.arange(0, BV)
        v = tl.load(mine + 2 * H * W + j, mask=j < W, other=0.0).to(tl.float32)
        tile = S + at * W * W + i[:, None] * W + j[None, :]
        both = inside[:, None] & (j < W)[None, :]
        if BV < W:
            S_old = tl.load(tile, mask=both, other=0.0)
        S_new = S_old
        if decay is not None or head_decay is not None:
            S_new = S_old * gamma
        S_new += k[:, None] * v[None, :]
        tl.store(tile, S_new, mask=both)
        y = tl.sum(q[:, None] * S_new, 0) / norm
        tl.store(out + b * (H * W) + h * W + j, y.to(out.dtype.element_ty), mask=j < W)


@triton.jit(
    do_not_specialize=["limit", "decay_after", "gamma"],
    do_not_specialize_on_alignment=["tokens"],  # any row of what was drawn
)
def embed(
    tokens,
    slots,
    table,
    starts,
    encoding,
    is_anchor,
    recent,
    position,
    origin,
    held,
    holds,
    marks,
    context,
    decay,
    x,
    limit,
    decay_after,
    gamma,
    F: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    W: tl.constexpr,
    G: tl.constexpr,
    POSITIONS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write tokens [B, F] as x [B, D], the sum of their embeddings and the encoding of a position.

    `table` [N, D] has those of all fields, which begin at `starts` [F]; `encoding` are frequencies
    [D / 2] or learned vectors [limit, D]. The last W embeddings go to context [B, W D], for the
    short convolution; `recent` [C, W - 1, D], `position` and `origin` [C] become those of the next
    token, and `decay` [B] gets the factors of the sums, if it is there. `held` [C, G] are the marks
    in force, `holds` [N_0, G] what ids put there, and `marks` their vectors. One program per row.
    """
    chain(PDL)
    b = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + b)
    i = tl.arange(0, BD)
    inside = i < D
    raw = tl.zeros([BD], tl.float32)
    for f in tl.static_range(F):
        place = tl.load(starts + f) + tl.load(tokens + b * F + f)
        raw += tl.load(table + place * D + i, mask=inside, other=0.0)
    if W > 0:
        for w in tl.static_range(W - 1):
            before = recent + (slot * (W - 1) + w) * D + i
            earlier = tl.load(before, mask=inside, other=0.0)
            tl.store(
                context + (b * W + w) * D + i, earlier.to(context.dtype.element_ty), mask=inside
            )
            tl.debug_barrier()  # what is overwritten below may have been read by another thread
            if w > 0:
                tl.store(before - D, earlier, mask=inside)
        if W > 1:
            tl.store(recent + (slot * (W - 1) + W - 2) * D + i, raw, mask=inside)
        tl.store(context + (b * W + W - 1) * D + i, raw.to(context.dtype.element_ty), mask=inside)
    for g in tl.static_range(G):
        mark = tl.load(holds + tl.load(tokens + b * F) * G + g)
        mark = tl.where(mark < 0, tl.load(held + slot * G + g), mark)
        raw += tl.load(marks + mark * D + i, mask=inside, other=0.0)
        tl.debug_barrier()  # all threads load it, one overwrites it
        tl.store(held + slot * G + g, mark)
    now = tl.load(position + slot)
    began = now * 0
    if POSITIONS == "bars":
        anchored = tl.load(is_anchor + tl.load(tokens + b * F)) != 0
        began = tl.where(anchored | (now == 0), now, tl.load(origin + slot))
    tl.debug_barrier()  # all threads load these two, one overwrites them
    tl.store(origin + slot, began)
    tl.store(position + slot, now + 1)
    if decay is not None:
        tl.store(decay + b, tl.where(now >= decay_after, gamma, 1.0))
    index = now - began
    if POSITIONS == "learned":
        at = tl.minimum(index, limit - 1) * D
        raw += tl.load(encoding + at + i, mask=inside, other=0.0)
    elif POSITIONS != "none":
        half: tl.constexpr = D // 2
        pair = tl.where(i < half, i, i - half)
        angle = index.to(tl.float32) * tl.load(encoding + pair, mask=inside, other=0.0)
        raw += tl.where(i < half, tl.sin(angle), tl.cos(angle))
    tl.store(x + b * D + i, raw, mask=inside)
