"""Sums that fade once a stream is longer than a window: for streams longer than any in training.

With a window of w positions, causal linear attention is

    S_t = γ_t S_{t-1} + φ(k_t) v_tᵀ        Z_t = γ_t Z_{t-1} + φ(k_t)
    out_t = φ(q_t)ᵀ S_t / (φ(q_t)ᵀ Z_t + ε)        γ_t = 1 for t < w, else 1 - 1/w

with t counted from 0, so the first w positions are computed as ever. After them the sums hold w
keys, and γ w + 1 = w: for ever they weigh as much, and the present key has the share 1/w of them.
What is d positions back counts about e^(-d/w) times as much. Nothing is trained for it; a quarter
of the training length is a good window (docs/experiments.md). A fixed decay that a model is trained
with is in Sun et al. 2023, "Retentive Network", section 2.1.

In parallel: with G_t the product of γ up to t and since the pass began,

    S_t = G_t (S_0 + Σ_{s≤t} (φ(k_s) / G_s) v_sᵀ)

so the operator does it as it is, if it is given G_t φ(q_t) and φ(k_s) / G_s. The latter grow with
the length of a pass, so it is bounded.

Legend: B rows, T positions, H heads, K key width, V value width.
"""

import torch
from torch import Tensor

from seqgen.attention.feature_maps import FeatureMap
from seqgen.attention.naive import AttentionState
from seqgen.attention.operator import causal_linear_attention

SHORTEST = 2  # a window of 1 would forget everything
SHARE = 1 / 4  # of the training length, as the window where none is given
WINDOWS_PER_PASS = 8  # 1/G is at most e^8 or little more, 2^16 with the shortest window


def fade(position: Tensor, window: int) -> Tensor:
    """Return γ [...], what is left of the sums when the token at `position` [...] comes."""
    return torch.where(position >= window, 1 - 1 / window, 1.0)


def retained(positions: Tensor, window: int, lengths: Tensor | None = None) -> Tensor:
    """Return G [B, T], what each of `positions` [B, T] retains of the sums before the pass.

    Past a row's length [B] nothing fades.

    Raises:
        ValueError: the pass is too long for its window.
    """
    T = positions.shape[1]
    longest = longest_pass(window)
    if longest < T:
        raise ValueError(
            f"sums that fade with a window of {window} take passes of at most {longest} positions, "
            f"got {T}"
        )
    past = positions >= window
    if lengths is not None:
        past = past & (torch.arange(T, device=positions.device) < lengths[:, None])
    gamma = torch.tensor(1 - 1 / window, device=positions.device)  # rounded as a step's
    return gamma ** past.cumsum(1)


def window_after(context_length: int) -> int:
    """Return the window for streams without an end of a model that learned from such contexts."""
    return max(int(SHARE * context_length), SHORTEST)


def longest_pass(window: int) -> int:
    """Positions that may be computed at once."""
    return WINDOWS_PER_PASS * window


def fading_attention(
    q: Tensor, k: Tensor, v: Tensor, *, retained: Tensor, feature_map: FeatureMap, **options: object
) -> tuple[Tensor, AttentionState]:
    """Attend as `causal_linear_attention`, whose options these are, with sums that fade.

    Args:
        q, k, v: queries and keys [B, T, H, K], not mapped yet, and values [B, T, H, V].
        retained: G [B, T].
        feature_map: φ.
        options: the rest.
    """
    work = torch.promote_types(v.dtype, torch.float32)
    G = retained.to(work)[:, :, None, None]
    q, k = feature_map(q.to(work)) * G, feature_map(k.to(work)) / G
    out, (S, Z) = causal_linear_attention(q, k, v.to(work), **options)
    end = G[:, -1]  # [B, 1, 1]
    return out.to(v.dtype), (S * end.unsqueeze(-1), Z * end)
