"""What Triton kernels of causal linear attention do with tiles: load, store, map, mask, multiply.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions.
"""

import triton
import triton.language as tl


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """Multiply and sum in float32. Two half-width operands need no cast: their products are exact.

    With "ieee" all are cast, for devices (and the interpreter) that cannot multiply bfloat16. With
    "bf16" operands of another dtype are split in two of bfloat16, which keep 16 bits together.
    """
    if PRECISION == "bf16":
        product = _dot_split(a, b)
    else:
        if a.dtype != b.dtype or PRECISION == "ieee":
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        product = tl.dot(a, b, input_precision=PRECISION)
    return product


@triton.jit
def _dot_split(a, b):
    """Sum the products of the operands' parts, the smallest first."""
    a_high, b_high = a.to(tl.bfloat16), b.to(tl.bfloat16)
    product = tl.zeros([a.shape[0], b.shape[1]], tl.float32)
    if b.dtype != tl.bfloat16:
        product = tl.dot(a_high, _low(b, b_high), product)
    if a.dtype != tl.bfloat16:
        product = tl.dot(_low(a, a_high), b_high, product)
    return tl.dot(a_high, b_high, product)


@triton.jit
def _low(x, high):
    return (x.to(tl.float32) - high.to(tl.float32)).to(tl.bfloat16)


@triton.jit
def load_rows(x, row, h, x_t, counts, D: tl.constexpr, c, d):
    """Load positions `row` + c and columns of a head of x [B T, H, D], whose rows are x_t apart.

    Zero where not `counts` [C] and from column `D` on.
    """
    inside = counts[:, None] & (d < D)[None, :]
    at = x + row * x_t + h * D + c[:, None] * x_t + d[None, :]
    return tl.load(at, mask=inside, other=0.0)


@triton.jit
def features(x, counts, D: tl.constexpr, d, MAP: tl.constexpr):
    """Map a loaded tile [C, ·] to features, zero where nothing was loaded.

    They are float32; without a map they are what was loaded.
    """
    if MAP is not None:
        x = x.to(tl.float32)
        if MAP == "elu+1":
            x = tl.where(x > 0, x + 1, tl.exp(x))
        if MAP == "relu":
            x = tl.where(x < 0, 0.0, x) + 1e-3
        x = tl.where(counts[:, None] & (d < D)[None, :], x, 0.0)
    return x


@triton.jit
def through_map(gradient, x, MAP: tl.constexpr):
    """Turn a gradient of the features of x into one of x."""
    x = x.to(tl.float32)
    if MAP == "elu+1":
        gradient = tl.where(x > 0, gradient, gradient * tl.exp(x))
    if MAP == "relu":
        gradient = tl.where(x > 0, gradient, 0.0)
    return gradient


@triton.jit
def keep_rows(x, kept):
    """Zero the rows of x [C, ·] that are not `kept` [C], whatever they hold. None: keep all."""
    if kept is not None:
        x = tl.where(kept[:, None], x, 0.0)
    return x


@triton.jit
def store_rows(x, value, row, h, H, exists, D: tl.constexpr, c, d):
    """Store positions `row` + c that exist and columns of a head of a contiguous x [B T, H, D]."""
    inside = exists[:, None] & (d < D)[None, :]
    at = x + (row * H + h) * D + c[:, None] * (H * D) + d[None, :]
    tl.store(at, value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def store_part(parts, value, at, N):
    """Store the number of chunk `at` of a [B, H, N] in `parts` [N, B, H]."""
    tl.store(parts + at % N * (tl.num_programs(0) // N) + at // N, value)


@triton.jit
def sum_at(i, j, K: tl.constexpr, V: tl.constexpr):
    """Say where a block of S [K, V] stands in a chunk's sums, and which of it exists."""
    return i[:, None] * V + j[None, :], (i < K)[:, None] & (j < V)[None, :]


@triton.jit
def valid(lengths, b, T):
    """Give the number of positions of row b whose keys count."""
    stop = T
    if lengths is not None:
        stop = tl.minimum(T, tl.load(lengths + b).to(tl.int32))
    return stop


@triton.jit
def my_chunk(lengths, T, H, C: tl.constexpr):
    """Give row, head, first position and end of the keys of this program's chunk, and its number
    of B H N.
    """
    N = tl.cdiv(T, C)
    at = tl.program_id(0).to(tl.int64)
    b, h, start = at // N // H, at // N % H, (at % N * C).to(tl.int32)
    return b, h, start, valid(lengths, b, T), at


@triton.jit
def segments_of_chunk(segment, b, start, T, c, C: tl.constexpr):
    """Give the segment ids [C] of a chunk's positions, the one before it and its last one."""
    first = segment + b.to(tl.int64) * T + start
    here = tl.load(first + c, mask=start + c < T, other=-1)
    before = tl.load(first - 1, mask=start > 0, other=0)
    return here, before, tl.load(first + tl.minimum(C, T - start) - 1)


@triton.jit
def log2_decay(decay, h):
    return tl.log2(tl.load(decay + h).to(tl.float64)).to(tl.float32)


@triton.jit
def power(rate, n):
    """Raise a decay, given as its log2, to the power of n; of 0 where n is negative."""
    return tl.exp2(rate * tl.maximum(n, 0.0))


@triton.jit
def decays_of_chunk(start, stop, c, C: tl.constexpr):
    """Give how often the sums before a chunk have decayed when each of its positions is added [C],
    and after all of them. Positions from `stop` on do not decay.
    """
    in_all = tl.minimum(tl.maximum(stop - start, 0), C)
    return tl.minimum(c + 1, in_all).to(tl.float32), in_all.to(tl.float32)
