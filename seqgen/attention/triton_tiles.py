"""What Triton kernels of causal linear attention do with tiles: load, store, mask, multiply.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions.
"""

import triton
import triton.language as tl


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
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
def load_rows(x, b, h, start, counts, T, H, D: tl.constexpr, c, d):
    """Load a tile of positions and columns, zero where not `counts` [C] and from column `D` on."""
    inside = counts[:, None] & (d < D)[None, :]
    return tl.load(_rows(x, b, h, start, T, H, D, c, d), mask=inside, other=0.0)


@triton.jit
def keep_rows(x, kept):
    """Zero the rows of x [C, ·] that are not `kept` [C], whatever they hold. None: keep all."""
    if kept is not None:
        x = tl.where(kept[:, None], x, 0.0)
    return x


@triton.jit
def store_rows(x, value, b, h, start, T, H, D: tl.constexpr, c, d):
    inside = (start + c < T)[:, None] & (d < D)[None, :]
    tl.store(_rows(x, b, h, start, T, H, D, c, d), value.to(x.dtype.element_ty), mask=inside)


@triton.jit
def load_sum(S, at, K: tl.constexpr, V: tl.constexpr, i, j):
    """Load a block of the sum number `at` of S [..., K, V]."""
    inside = (i < K)[:, None] & (j < V)[None, :]
    return tl.load(S + at * K * V + i[:, None] * V + j[None, :], mask=inside, other=0.0)


@triton.jit
def valid(lengths, b, T):
    """Give the number of positions of row b whose keys count."""
    stop = T
    if lengths is not None:
        stop = tl.minimum(T, tl.load(lengths + b).to(tl.int32))
    return stop


@triton.jit
def my_chunk(lengths, T, H, C: tl.constexpr):
    """Give row, head, first position and end of the keys of this program's chunk, and where it
    stands in a [B, H, N] and a [B, H, T].
    """
    N = tl.cdiv(T, C)
    at = tl.program_id(0).to(tl.int64)
    b, h, start = at // N // H, at // N % H, (at % N * C).to(tl.int32)
    return b, h, start, valid(lengths, b, T), at, at // N * T + start


@triton.jit
def segments_of_chunk(segment, b, start, T, c, C: tl.constexpr):
    """Give the segment ids [C] of a chunk's positions, the one before it and its last one."""
    first = segment + b.to(tl.int64) * T + start
    here = tl.load(first + c, mask=start + c < T, other=-1)
    before = tl.load(first - 1, mask=start > 0, other=0)
    return here, before, tl.load(first + tl.minimum(C, T - start) - 1)
