"""The state after whole prompts, from one pass of the parallel form.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqgen.model.state import State

if TYPE_CHECKING:
    from seqgen.model.sequence_model import SequenceModel


def prefill(
    model: SequenceModel, tokens: Tensor, lengths: Tensor, state: State | None = None
) -> tuple[tuple[Tensor, ...], State]:
    """Run prompts [B, T, F] of `lengths` [B] through the parallel form; pads enter no state.

    Returns:
        Logits [B, N_f] after each row's last token, one tensor per field, and the state there.

    Raises:
        ValueError: a length is below 1 or beyond T.
    """
    B, T, _ = tokens.shape
    if lengths.shape != (B,) or lengths.min() < 1 or lengths.max() > T:
        raise ValueError(f"prompt lengths must be {B} numbers in 1…{T}, got {lengths.tolist()}")
    hidden, end = model.run(tokens, lengths, state=state, keep_state=True)
    return model.heads(hidden[torch.arange(B, device=tokens.device), lengths - 1]), end
