"""The state after whole prompts, from the parallel form, in passes of bounded memory.

Legend: B rows, T positions, F fields, D model width, N_f vocabulary of a field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqgen.attention.fading import longest_pass
from seqgen.model.state import State

if TYPE_CHECKING:
    from seqgen.model.sequence_model import SequenceModel

PASS_TOKENS = 16_384  # rows × positions of one pass, which bounds its memory


def prefill(
    model: SequenceModel,
    tokens: Tensor,
    lengths: Tensor,
    state: State | None = None,
    *,
    window: int | None = None,
) -> tuple[tuple[Tensor, ...], State]:
    """Run prompts [B, T, F] of `lengths` [B] through the parallel form; pads enter no state.

    Long ones are run piece after piece, each from the state that the one before left behind. With a
    `window` the sums fade (`seqgen.attention.fading`).

    Returns:
        Logits [B, N_f] after each row's last token, one tensor per field, and the state there.

    Raises:
        ValueError: a length is below 1 or beyond T.
    """
    B, T, _ = tokens.shape
    if lengths.shape != (B,) or lengths.min() < 1 or lengths.max() > T:
        raise ValueError(f"prompt lengths must be {B} numbers in 1…{T}, got {lengths.tolist()}")
    piece = max(PASS_TOKENS // B, 1)
    if window is not None:
        piece = min(piece, longest_pass(window))
    row, ends = torch.arange(B, device=tokens.device), []
    for begin in range(0, int(lengths.max()), piece):
        part = tokens[:, begin : begin + piece]
        rest = (lengths - begin).clamp(0, part.shape[1])
        hidden, state = model.run(part, rest, state=state, keep_state=True, window=window)
        ends.append(hidden[row, (rest - 1).clamp(min=0)])
    last = torch.stack(ends)[(lengths - 1) // piece, row]  # [B, D], of the pass each row ends in
    return model.heads(last), state


def in_bfloat16(model: SequenceModel) -> SequenceModel:
    """Copy a model with its matrices in bfloat16, to be run under autocast; nothing else is copied.

    Embeddings, norms and sums stay as they are: autocast would round weights at each pass.
    """
    rounded = {
        f"{name}.{part}": value.detach().bfloat16()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d)
        for part, value in module.named_parameters()
    }
    with torch.device("meta"):
        copy = type(model)(model.config, model.vocabulary)
    copy.load_state_dict(model.state_dict() | rounded, strict=True, assign=True)
    return copy.to(next(model.parameters()).device).eval()  # what is no weight moves too
