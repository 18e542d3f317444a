"""The loss of each token, in nats.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def token_nats(
    logits: Sequence[Tensor], targets: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood of each target token: the sum over its fields.

    Args:
        logits: scores [B, T, N_f], one tensor per field.
        targets: ids [B, T, F].
        label_smoothing: share of the target's probability spread over all ids.

    Returns:
        Nats [B, T], float32.
    """
    of_fields = (
        F.cross_entropy(
            scores.flatten(0, 1).float(),
            targets[..., f].flatten(),
            reduction="none",
            label_smoothing=label_smoothing,
        ).view(targets.shape[:2])
        for f, scores in enumerate(logits)
    )
    return reduce(torch.add, of_fields)
