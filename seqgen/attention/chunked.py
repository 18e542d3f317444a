"""Causal linear attention over chunks of positions, in plain torch: any device, linear in T.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.attention.naive import AttentionState, mask_keys

CHUNK = 64
BLOCK_SIZE = 2**19  # elements per tensor; larger tensors are slower to allocate than to fill


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    initial_state: AttentionState | None = None,
    decay: Tensor | None = None,
    eps: float = 1e-6,
    chunk: int = CHUNK,
) -> tuple[Tensor, AttentionState]:
    """Attend to all earlier positions and the present one.

    Inside a chunk the masked scores are formed; what came before enters through running sums.

    Args:
        q, k: queries and keys [B, T, H, K], already positive (feature map applied).
        v: values [B, T, H, V].
        lengths: valid positions of each row [B]; later keys add nothing. None: all.
        boundaries: booleans [B, T], true where a segment begins: the sums are reset to zero, and no
            position sees an earlier segment. None: nowhere.
        decay: γ of each head [H], in (0, 1], by which the sums are multiplied before each valid
            position. None: 1.
        initial_state: sums (S [B, H, K, V], Z [B, H, K]) of what came before; None: zeros.
        eps: added to the normaliser.
        chunk: positions C that are handled as one product.

    Returns:
        out [B, T, H, V] in the dtype of `v`, and the sums after the last position, in float32 at
        least (bfloat16 and float16 inputs are accumulated in float32).
    """
    out_dtype = v.dtype
    work = torch.promote_types(v.dtype, torch.float32)
    length = _block_length(q, v, chunk)
    q, k, v = q.to(work), mask_keys(k.to(work), lengths), v.to(work)
    if initial_state is None:
        B, _, H, K = k.shape
        state = k.new_zeros(B, H, K, v.shape[-1]), k.new_zeros(B, H, K)
    else:
        state = initial_state[0].to(work), initial_state[1].to(work)
    blocks = zip(*(x.split(length, dim=1) for x in (q, k, v)), strict=True)
    inner: Iterable[Tensor | None] = repeat(None)
    if boundaries is not None:
        inner = boundaries.split(length, dim=1)
    outputs, begin = [], 0
    for (q, k, v), boundaries_within in zip(blocks, inner, strict=False):
        decays = None
        if decay is not None:
            rest = None if lengths is None else (lengths - begin).clamp(0, q.shape[1])
            decays = _decays(decay.to(work), q.shape[1], rest, chunk)
        out, state = _attend(q, k, v, boundaries_within, state, decays, eps=eps, chunk=chunk)
        outputs.append(out)
        begin += q.shape[1]
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
    return out.to(out_dtype), state


def _block_length(q: Tensor, v: Tensor, chunk: int) -> int:
    """Positions to handle at once: all of them, but on a CPU no more than fit its caches."""
    B, T, H, V = v.shape
    if q.device.type != "cpu":
        return max(T, 1)
    return max(BLOCK_SIZE // max(B * H * max(q.shape[-1], V), 1) // chunk, 1) * chunk


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    boundaries: Tensor | None,
    initial_state: AttentionState,
    decays: "_Decays | None",
    *,
    eps: float,
    chunk: int,
) -> tuple[Tensor, AttentionState]:
    B, T, H, V = v.shape
    q, k, v = (_cut(x, chunk).transpose(2, 3) for x in (q, k, v))  # each [B, N, H, C, ·]
    scores = (q @ k.transpose(-1, -2)).tril()  # [B, N, H, C, C]
    keys, queries, goes_on = k, q, None
    if decays is not None:
        scores = scores * decays.within
        keys, queries = k * decays.until_end, q * decays.since_begin
    if boundaries is not None:
        segment = _cut(boundaries.long(), chunk).cumsum(2)[:, :, None]  # [B, N, 1, C]
        scores = scores * (segment[..., :, None] == segment[..., None, :])
        keys = keys * (segment == segment[..., -1:]).unsqueeze(-1)  # those that outlive the chunk
        queries = queries * (segment == 0).unsqueeze(-1)  # those that see what came before it
        goes_on = (segment[..., -1] == 0).unsqueeze(-1)  # [B, N, 1, 1]: no boundary in the chunk
    S0, Z0 = initial_state
    factor = None if decays is None else decays.of_chunk
    S, S_last = _running_sums(keys.transpose(-1, -2) @ v, S0, goes_on, factor)  # [B, N, H, K, V]
    Z, Z_last = _running_sums(keys.sum(-2)[..., None], Z0[..., None], goes_on, factor)
    out = scores @ v + queries @ S  # [B, N, H, C, V]
    norm = scores.sum(-1, keepdim=True) + queries @ Z
    out = (out / (norm + eps)).transpose(2, 3).reshape(B, q.shape[1] * chunk, H, V)[:, :T]
    return out, (S_last, Z_last.squeeze(-1))


class _Decays(NamedTuple):
    """Powers γ^n of the heads' decays, n being how often sums decay between two moments.

    Attributes:
        within: from one position of a chunk to another [·, N, H, C, C], 1 where that is earlier.
        since_begin: from before the chunk to each position, itself included [·, N, H, C, 1].
        until_end: from each position to the end of the chunk [·, N, H, C, 1].
        of_chunk: from before the chunk to its end [·, N, H, 1, 1].
    """

    within: Tensor
    since_begin: Tensor
    until_end: Tensor
    of_chunk: Tensor


def _decays(gamma: Tensor, T: int, lengths: Tensor | None, chunk: int) -> _Decays:
    """Compute the factors of all chunks of T positions; from a row's length [B] on, γ is 1."""
    n_valid = torch.full((1,), T, device=gamma.device) if lengths is None else lengths
    first = torch.arange(0, T, chunk, device=gamma.device)  # of each chunk
    n_valid = (n_valid[:, None] - first).clamp(0, chunk)[..., None]  # [·, N, 1]
    position = torch.arange(chunk, device=gamma.device)
    n = (position + 1).minimum(n_valid)  # [·, N, C]
    powers = gamma[:, None] ** torch.arange(chunk + 1, device=gamma.device)  # [H, C + 1]
    since_begin, until_end, of_chunk = (
        powers[:, x].movedim(0, 2).unsqueeze(-1) for x in (n, n_valid - n, n_valid)
    )
    within = powers[:, (position[:, None] - position).clamp(min=0)]  # [H, C, C]
    if lengths is not None:  # positions after the length see what the last valid one sees
        after = (position >= n_valid)[:, :, None, :, None]
        within = torch.where(after, until_end.transpose(-1, -2), within)
    return _Decays(within, since_begin, until_end, of_chunk)


def _running_sums(
    chunks: Tensor, before: Tensor, goes_on: Tensor | None, factor: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Sum chunks [B, N, H, K, ·] after `before` [B, H, K, ·]; forget where `goes_on` is false.

    Before each chunk is added, the sums are multiplied by its `factor` [·, N, H, 1, 1].

    Returns the sums before each chunk [B, N, H, K, ·] and after the last [B, H, K, ·].
    """
    if goes_on is None and factor is None:
        all_sums = torch.cat([before.unsqueeze(1), chunks], dim=1).cumsum(1)
        return all_sums[:, :-1], all_sums[:, -1]
    sums = [before]  # by a loop: what is forgotten must leave no rounding error behind
    for i, added in enumerate(chunks.unbind(1)):
        kept = sums[-1]
        if goes_on is not None:
            kept = kept.masked_fill(~goes_on[:, i].unsqueeze(-1), 0)
        if factor is not None:
            kept = kept * factor[:, i]
        sums.append(kept + added)
    return torch.stack(sums, dim=1)[:, :-1], sums[-1]


def _cut(x: Tensor, chunk: int) -> Tensor:
    """Cut x [B, T, ...] into chunks [B, N, C, ...], the last filled up with zeros."""
    pad = -x.shape[1] % chunk
    x = F.pad(x, (0, 0) * (x.ndim - 2) + (0, pad))
    return x.unflatten(1, (x.shape[1] // chunk, chunk))
