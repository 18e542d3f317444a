"""Sums that decay from some position on, for streams longer than any seen in training.

With `decay_after` = w, causal linear attention is

    S_t = γ_t S_{t-1} + φ(k_t) v_tᵀ        Z_t = γ_t Z_{t-1} + φ(k_t)
    out_t = φ(q_t)ᵀ S_t / (φ(q_t)ᵀ Z_t + ε)        γ_t = 1 for t < w, else 1 - 1/w

with t counted from 0, so the first w positions are computed without decay. After them the sums hold
w keys, and γ w + 1 = w: their total weight stays the same, and the newest key has the share 1/w of
it. A key d positions back has about e^(-d/w) of that weight. The model is not trained for this; a
quarter of the training length is a good w (docs/experiments.md). A model that was trained to forget
(`attention.head_decay`) does not need it.

In parallel: with G_t the product of γ up to t and since the pass began,

    S_t = G_t (S_0 + Σ_{s≤t} (φ(k_s) / G_s) v_sᵀ)

so the unchanged operator computes it from G_t φ(q_t) and φ(k_s) / G_s. The latter grow with the
length of a pass, so that length is bounded.

Legend: B rows, T positions, H heads, K key width, V value width.
"""

from typing import Any

import torch
from torch import Tensor

from seqgen.attention.feature_maps import FeatureMap
from seqgen.attention.naive import AttentionState
from seqgen.attention.operator import causal_linear_attention

MIN_DECAY_AFTER = 2  # with 1, every token would erase all earlier ones
DEFAULT_SHARE = 1 / 4  # of the training length: the default of endless streams
MAX_PASS_RATIO = 8  # of a pass's length to w: 1/G is about e^8 at most, or 2^16 for w = 2


def decay_factor(position: Tensor, decay_after: int) -> Tensor:
    """Return γ [...], by which the sums are multiplied before the token at `position` [...]."""
    return torch.where(position >= decay_after, 1 - 1 / decay_after, 1.0)


def decay_products(positions: Tensor, decay_after: int, lengths: Tensor | None = None) -> Tensor:
    """Return G [B, T], the product of γ from the start of the pass to each of `positions` [B, T].

    Beyond a row's length [B], γ is 1.

    Raises:
        ValueError: the pass is too long for `decay_after`.
    """
    T = positions.shape[1]
    longest = longest_pass(decay_after)
    if longest < T:
        raise ValueError(
            f"with decay_after={decay_after} a pass has at most {longest} positions, got {T}"
        )
    past = positions >= decay_after
    if lengths is not None:
        past = past & (torch.arange(T, device=positions.device) < lengths[:, None])
    gamma = torch.tensor(1 - 1 / decay_after, device=positions.device)  # rounded as a step's
    return gamma ** past.cumsum(1)


def default_decay_after(context_length: int) -> int:
    """Return `decay_after` for endless streams of a model trained with this context length."""
    return max(int(DEFAULT_SHARE * context_length), MIN_DECAY_AFTER)


def longest_pass(decay_after: int) -> int:
    """Return the number of positions that one pass may have."""
    return MAX_PASS_RATIO * decay_after


def decaying_attention(
    q: Tensor, k: Tensor, v: Tensor, *, products: Tensor, feature_map: FeatureMap, **options: Any
) -> tuple[Tensor, AttentionState]:
    """Attend as `causal_linear_attention`, whose options these are, with sums that decay.

    Args:
        q, k, v: queries and keys [B, T, H, K], not mapped yet, and values [B, T, H, V].
        products: G [B, T].
        feature_map: φ.
        options: the rest.
    """
    work = torch.promote_types(v.dtype, torch.float32)
    G = products.to(work)[:, :, None, None]
    q, k = feature_map(q.to(work)) * G, feature_map(k.to(work)) / G
    out, (S, Z) = causal_linear_attention(q, k, v.to(work), **options)
    end = G[:, -1]  # [B, 1, 1]
    return out.to(v.dtype), (S * end.unsqueeze(-1), Z * end)
