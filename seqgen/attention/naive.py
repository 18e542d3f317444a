"""Causal linear attention written as its formula, twice: slow, and what others are tested against.

Legend: B rows, T positions, H heads, K key width, V value width.

With queries and keys already passed through the positive feature map φ (Katharopoulos et al. 2020,
"Transformers are RNNs", equations 9 to 12):

    S_t = S_{t-1} + φ(k_t) v_tᵀ        Z_t = Z_{t-1} + φ(k_t)
    out_t = φ(q_t)ᵀ S_t / (φ(q_t)ᵀ Z_t + eps)
"""

import torch
from torch import Tensor

AttentionState = tuple[Tensor, Tensor]  # S [B, H, K, V], Z [B, H, K]


def masked_product(
    q: Tensor, k: Tensor, v: Tensor, *, lengths: Tensor | None = None, eps: float = 1e-6
) -> tuple[Tensor, AttentionState]:
    """Attend by the whole lower-triangular score matrix. Shapes as in `chunked`."""
    k = mask_keys(k, lengths)
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
    out = torch.einsum("bhts,bshv->bthv", scores, v)
    norm = scores.sum(-1).transpose(1, 2).unsqueeze(-1)
    return out / (norm + eps), (torch.einsum("bthk,bthv->bhkv", k, v), k.sum(1))


def position_loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    initial_state: AttentionState | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, AttentionState]:
    """Attend as the recurrence reads, one position at a time. Shapes as in `chunked`."""
    k = mask_keys(k, lengths)
    B, T, H, K = k.shape
    S, Z = initial_state or (k.new_zeros(B, H, K, v.shape[-1]), k.new_zeros(B, H, K))
    outputs = []
    for t in range(T):
        S = S + torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
        Z = Z + k[:, t]
        norm = torch.einsum("bhk,bhk->bh", q[:, t], Z).unsqueeze(-1)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S) / (norm + eps))
    return torch.stack(outputs, dim=1), (S, Z)


def mask_keys(k: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero the keys [B, T, H, K] at and after each row's length [B], so that pads add nothing."""
    if lengths is None:
        return k
    valid = torch.arange(k.shape[1], device=k.device) < lengths[:, None]
    return k * valid[:, :, None, None]
