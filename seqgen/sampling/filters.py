"""Filters: pure functions from logits to logits, applied in the order they stand here.

Legend: B rows, N vocabulary. Every function takes and returns [B, N]; a removed id has -inf.
"""

import torch
from torch import Tensor

REMOVED = float("-inf")


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make ids that a row has seen less likely (Keskar et al. 2019, CTRL, section 4.1).

    Args:
        seen: whether each row has seen each id, booleans [B, N].
        penalty: 1 changes nothing; above 1 divides positive logits and multiplies negative ones.
    """
    weaker = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, weaker, logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Flatten (above 1) or sharpen (below 1) the distribution."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k most likely ids; ids tied with the k-th stay."""
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, REMOVED)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest most likely ids whose probabilities reach p (Holtzman et al. 2020)."""
    ordered, index = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    remove = torch.zeros_like(before, dtype=torch.bool).scatter(-1, index, before >= p)
    return logits.masked_fill(remove, REMOVED)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Keep ids at least `min_p` times as likely as the most likely one (Nguyen et al. 2024)."""
    probabilities = logits.softmax(-1)
    floor = min_p * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(probabilities < floor, REMOVED)
