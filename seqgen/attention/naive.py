"""Attention written as its formulas: slow; the other implementations are tested against it.

Legend: B rows, T positions, H heads, K key width, V value width, C capacity of a cache.

Causal linear attention, twice, with queries and keys already passed through the positive feature
map φ (Katharopoulos et al. 2020, "Transformers are RNNs", equations 9 to 12):

    S_t = γ S_{t-1} + φ(k_t) v_tᵀ        Z_t = γ Z_{t-1} + φ(k_t)
    out_t = φ(q_t)ᵀ S_t / (φ(q_t)ᵀ Z_t + eps)

with γ = 1, or a decay for each head (`attention.head_decay`).

Linear attention to a whole source: out_t = Σ_u φ(q_t)ᵀφ(k_u) v_u / (Σ_u φ(q_t)ᵀφ(k_u) + eps) over
its positions u.

Softmax attention (Vaswani et al. 2017): out_t = Σ_s softmax_s(q_tᵀ k_s / √K) v_s over s ≤ t.
"""

import torch
from torch import Tensor

AttentionState = tuple[Tensor, Tensor]  # S [B, H, K, V], Z [B, H, K]


def masked_product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    initial_state: AttentionState | None = None,
    decay: Tensor | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, AttentionState]:
    """Attend by the whole lower-triangular score matrix. Arguments as in `chunked`."""
    k = mask_keys(k, lengths)
    B, T, H, K = k.shape
    S0, Z0 = initial_state or (k.new_zeros(B, H, K, v.shape[-1]), k.new_zeros(B, H, K))
    segment = segment_ids(boundaries, B, T, device=k.device)
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
    scores = scores * (segment[:, None, :, None] == segment[:, None, None, :])
    last = segment == segment[:, -1:]
    keys, goes_on = k * last[:, :, None, None], (segment[:, -1:] == 0).all(1)[:, None, None]
    first = (segment == 0)[:, :, None].to(q.dtype)  # [B, T, 1]
    S0_end, Z0_end = S0, Z0
    if decay is not None:
        # Decays up to each position, [B, 1, T]: none at and after a row's length.
        n = torch.arange(T + 1, device=k.device).expand(B, 1, T + 1)
        n = n if lengths is None else n.minimum(lengths[:, None, None])
        n, n_end = n[..., 1:], n[..., -1:]
        power = lambda n: decay[:, None] ** n  # noqa: E731  # [B, 1, T] -> [B, H, T]
        scores = scores * decay[:, None, None] ** (n[..., :, None] - n[..., None, :]).clamp(min=0)
        keys = keys * power(n_end - n).transpose(1, 2)[..., None]
        first = first * power(n).transpose(1, 2)
        end = power(n_end)  # [B, H, 1]
        S0_end, Z0_end = S0 * end[..., None], Z0 * end
    out = torch.einsum("bhts,bshv->bthv", scores, v)
    norm = scores.sum(-1).transpose(1, 2)
    out = out + first[..., None] * torch.einsum("bthk,bhkv->bthv", q, S0)
    norm = norm + first * torch.einsum("bthk,bhk->bth", q, Z0)
    S = S0_end * goes_on[..., None] + torch.einsum("bthk,bthv->bhkv", keys, v)
    return out / (norm + eps).unsqueeze(-1), (S, Z0_end * goes_on + keys.sum(1))


def position_loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    initial_state: AttentionState | None = None,
    decay: Tensor | None = None,
    eps: float = 1e-6,
) -> tuple[Tensor, AttentionState]:
    """Attend as the recurrence reads, one position at a time. Arguments as in `chunked`."""
    k = mask_keys(k, lengths)
    B, T, H, K = k.shape
    S, Z = initial_state or (k.new_zeros(B, H, K, v.shape[-1]), k.new_zeros(B, H, K))
    outputs = []
    for t in range(T):
        if boundaries is not None:
            resets = boundaries[:, t, None, None]
            S, Z = S.masked_fill(resets[..., None], 0), Z.masked_fill(resets, 0)
        if decay is not None:
            gamma = decay.expand(B, H)
            if lengths is not None:
                gamma = gamma.masked_fill((t >= lengths)[:, None], 1)
            S, Z = S * gamma[..., None, None], Z * gamma[..., None]
        S = S + torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
        Z = Z + k[:, t]
        norm = torch.einsum("bhk,bhk->bh", q[:, t], Z).unsqueeze(-1)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S) / (norm + eps))
    out = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(v)
    return out, (S, Z)


def source_loop(
    q: Tensor, k: Tensor, v: Tensor, *, lengths: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """Attend to a whole source by its weights, row by row and position by position.

    Args:
        q: features of queries [B, T, H, K].
        k, v: features of keys [B, U, H, K] and values [B, U, H, V] of the source.
        lengths: valid positions of each source [B]; None: all.
        eps: added to the normaliser.

    Returns:
        out [B, T, H, V].
    """
    B, T, H, _ = q.shape
    out = v.new_zeros(B, T, H, v.shape[-1])
    for b in range(B):
        n = k.shape[1] if lengths is None else int(lengths[b])
        for t in range(T):
            weights = torch.einsum("hk,uhk->hu", q[b, t], k[b, :n])
            norm = weights.sum(1, keepdim=True) + eps
            out[b, t] = torch.einsum("hu,uhv->hv", weights / norm, v[b, :n])
    return out


def softmax_loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    cache: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Attend by softmax, row by row and position by position. Arguments as in `softmax`.

    Returns:
        out [B, T, H, V], zero past a row's length, and each row's keys [H, n, K] and values
        [H, n, V] of the segment in which it ends.
    """
    B, T, H, K = k.shape
    out, states = v.new_zeros(v.shape), []
    for b in range(B):
        keys, values = k.new_zeros(H, 0, K), v.new_zeros(H, 0, v.shape[-1])
        if cache is not None:
            keys, values = (x[b, :, : int(cache[2][b])] for x in cache[:2])
        for t in range(T if lengths is None else int(lengths[b])):
            if boundaries is not None and boundaries[b, t]:
                keys, values = keys[:, :0], values[:, :0]
            keys = torch.cat([keys, k[b, t, :, None]], dim=1)
            values = torch.cat([values, v[b, t, :, None]], dim=1)
            weights = (torch.einsum("hk,hsk->hs", q[b, t], keys) * K**-0.5).softmax(-1)
            out[b, t] = torch.einsum("hs,hsv->hv", weights, values)
        states.append((keys, values))
    return out, states


def mask_keys(k: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero the keys [B, T, H, K] at and after each row's length [B], so that pads add 0."""
    if lengths is None:
        return k
    valid = torch.arange(k.shape[1], device=k.device) < lengths[:, None]
    return k.masked_fill(~valid[:, :, None, None], 0)


def segment_ids(boundaries: Tensor | None, B: int, T: int, *, device: torch.device) -> Tensor:
    """Number the parts of each row [B, T]: 0 before the first start (continuing a state)."""
    if boundaries is None:
        return torch.zeros(B, T, dtype=torch.long, device=device)
    return boundaries.long().cumsum(1)
