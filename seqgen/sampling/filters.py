"""Filters: pure functions from logits to logits, applied in the order they stand here.

Legend: N vocabulary; `...` leading dimensions, rows and fields. Logits are [..., N] and a removed
id has -inf. Parameters are tensors [..., 1] that broadcast against them: rows have settings of
their own. A neutral value returns a row bit by bit, so that rows with and without a filter can
stand in one batch. Ids tied with the last one that a filter keeps are kept
too, so the result does not depend on the order of ties.
"""

import torch
from torch import Tensor

REMOVED = float("-inf")


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Make ids that a row has seen less likely (Keskar et al. 2019, CTRL, section 4.1).

    Args:
        seen: whether each row has seen each id, booleans [..., N].
        penalty: 1 changes nothing; above 1 divides positive logits and multiplies negative ones.
    """
    weaker = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, weaker, logits)


def penalize_frequency(logits: Tensor, counts: Tensor, penalty: Tensor) -> Tensor:
    """Take `penalty` off an id's logit for each time it was drawn; counts are [..., N]."""
    return logits - penalty * counts


def apply_temperature(logits: Tensor, temperature: Tensor) -> Tensor:
    """Flatten (above 1) or sharpen (below 1) the distribution."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: Tensor, *, largest: int) -> Tensor:
    """Keep the k most likely ids.

    Args:
        k: int64 [..., 1]; 0 keeps all.
        largest: a number that no k exceeds, for how far to look.
    """
    ordered = logits.topk(min(largest, logits.shape[-1]), dim=-1).values
    return logits.masked_fill(logits < _kth(ordered, k), REMOVED)


def keep_top_k_and_p(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """Keep the k most likely ids (0: all), then of these the fewest whose probabilities reach p.

    The second is the nucleus of Holtzman et al. 2020; 1 keeps all. Both share one sort.
    """
    ordered = logits.sort(dim=-1, descending=True).values
    last_k = _kth(ordered, k)
    shares = ordered.masked_fill(ordered < last_k, REMOVED).softmax(-1)
    outside = (shares.cumsum(-1) - shares >= p) & (p < 1)  # rounded sums may reach 1 early
    last_p = ordered.masked_fill(outside, float("inf")).amin(-1, keepdim=True)
    return logits.masked_fill(logits < torch.maximum(last_k, last_p), REMOVED)


def keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Keep ids at least `min_p` times as likely as the most likely one (Nguyen et al. 2024).

    A ratio of probabilities is a difference of logits, so nothing needs to be normalised.
    """
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + min_p.log(), REMOVED)


def keep_typical(logits: Tensor, p: Tensor) -> Tensor:
    """Keep the ids closest to the expected surprise, up to probability mass p; 1: all.

    Locally typical sampling (Meister et al. 2022, section 3): surprise is -log p(id), and its
    expectation the entropy.
    """
    logarithms = logits.log_softmax(-1)
    probabilities = logarithms.exp()
    entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)
    distance = (logarithms + entropy).abs()
    ordered, index = distance.sort(dim=-1)
    shares = probabilities.gather(-1, index)
    outside = (shares.cumsum(-1) - shares >= p) & (p < 1)
    last = ordered.masked_fill(outside, REMOVED).amax(-1, keepdim=True)
    return logits.masked_fill(distance > last, REMOVED)


def _kth(ordered: Tensor, k: Tensor) -> Tensor:
    """Return the k-th of falling logits [..., 1], -inf where k is 0."""
    index = (k - 1).clamp(0, ordered.shape[-1] - 1).expand(*ordered.shape[:-1], 1)
    return ordered.gather(-1, index).masked_fill(k == 0, REMOVED)
