"""Causal linear attention over chunks of positions, in plain torch: any device, linear in T.

Legend: B rows, T positions, H heads, K key width, V value width, N chunks of C positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.attention.naive import AttentionState, mask_keys

CHUNK = 64


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    initial_state: AttentionState | None = None,
    eps: float = 1e-6,
    chunk: int = CHUNK,
) -> tuple[Tensor, AttentionState]:
    """Attend to all earlier positions and the present one.

    Inside a chunk the masked scores are formed; what came before enters through running sums.

    Args:
        q, k: queries and keys [B, T, H, K], already positive (feature map applied).
        v: values [B, T, H, V].
        lengths: valid positions of each row [B]; later keys add nothing. None: all.
        initial_state: sums (S [B, H, K, V], Z [B, H, K]) of what came before; None: zeros.
        eps: added to the normaliser.

    Returns:
        out [B, T, H, V] in the dtype of `v`, and the sums after the last position, in float32 at
        least (bfloat16 and float16 inputs are accumulated in float32).
    """
    out_dtype = v.dtype
    work = torch.promote_types(v.dtype, torch.float32)
    q, k, v = q.to(work), mask_keys(k.to(work), lengths), v.to(work)
    B, T, H, K = q.shape
    V = v.shape[-1]
    pad = -T % chunk
    q, k, v = (
        F.pad(x, (0, 0, 0, 0, 0, pad)).view(B, -1, chunk, H, x.shape[-1]).transpose(2, 3)
        for x in (q, k, v)
    )  # each [B, N, H, C, ·]

    S_chunk = k.transpose(-1, -2) @ v  # [B, N, H, K, V]
    Z_chunk = k.sum(-2)  # [B, N, H, K]
    if initial_state is not None:
        S0, Z0 = (x.to(work).unsqueeze(1) for x in initial_state)
    else:
        S0, Z0 = v.new_zeros(B, 1, H, K, V), v.new_zeros(B, 1, H, K)
    S = torch.cat([S0, S_chunk], dim=1).cumsum(
        1
    )  # [B, N + 1, H, K, V]: before each chunk, and last
    Z = torch.cat([Z0, Z_chunk], dim=1).cumsum(1)

    scores = (q @ k.transpose(-1, -2)).tril()  # [B, N, H, C, C]
    out = scores @ v + q @ S[:, :-1]  # [B, N, H, C, V]
    norm = scores.sum(-1, keepdim=True) + q @ Z[:, :-1].unsqueeze(-1)
    out = (out / (norm + eps)).transpose(2, 3).reshape(B, -1, H, V)[:, :T]
    return out.to(out_dtype), (S[:, -1], Z[:, -1])
