"""The loss of each token, in nats.

Legend: B rows, T positions, F fields, N_f vocabulary of a field, N_0 that of the first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def token_nats(
    logits: Sequence[Tensor],
    targets: Tensor,
    *,
    uses: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each target token [B, T], float32: the sum of `field_nats`."""
    nats = field_nats(logits, targets, uses=uses, label_smoothing=label_smoothing)
    return nats[..., 0] if len(logits) == 1 else nats.sum(-1)


def field_nats(
    logits: Sequence[Tensor],
    targets: Tensor,
    *,
    uses: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each field of each target token.

    Args:
        logits: scores [B, T, N_f], one tensor per field, each given the target's earlier fields.
        targets: ids [B, T, F].
        uses: whether each field means something with each id of the first one [N_0, F], as
            `SequenceModel.uses`; the others cost nothing. None: all do.
        label_smoothing: share of the target's probability spread over all ids.

    Returns:
        Nats [B, T, F], float32.
    """
    of_fields = [
        F.cross_entropy(
            scores.flatten(0, 1).float(),
            targets[..., f].flatten(),
            reduction="none",
            label_smoothing=label_smoothing,
        ).view(targets.shape[:2])
        for f, scores in enumerate(logits)
    ]
    nats = torch.stack(of_fields, dim=-1)
    return nats if uses is None else nats.masked_fill(~uses[targets[..., 0]], 0)
