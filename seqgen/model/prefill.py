"""The state after whole prompts, from one pass of the parallel form.

Legend: L layers, B rows, T positions, F fields, H heads, K key width, V value width, D model width,
W input window, N_f vocabulary of a field.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqgen.attention.naive import mask_keys
from seqgen.model.stack import inner_attentions, run_parallel
from seqgen.model.state import State

if TYPE_CHECKING:
    from seqgen.model.sequence_model import SequenceModel


def prefill(
    model: SequenceModel, tokens: Tensor, lengths: Tensor
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
    rows = torch.arange(B, device=tokens.device)
    x, embeddings = model.embed(tokens, torch.arange(T, device=tokens.device))
    with _sums_of_products(model.stack, lengths) as sums:
        hidden = run_parallel(model.stack, x, lengths)

    # Row b's last W - 1 embeddings start at index length_b of [recent zeros, embeddings].
    window = lengths[:, None] + torch.arange(model.n_recent, device=tokens.device)
    state = State(
        S=torch.stack([S for S, _ in sums]),
        Z=torch.stack([Z for _, Z in sums]),
        recent=embeddings[rows[:, None], window],
        position=lengths.clone(),
    )
    return model.heads(hidden[rows, lengths - 1]), state


@contextlib.contextmanager
def _sums_of_products(stack: nn.Module, lengths: Tensor) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect (S [B, H, K, V], Z [B, H, K]) of each layer while the parallel stack runs."""
    sums: list[tuple[Tensor, Tensor]] = []

    def collect(attention: nn.Module, inputs: tuple) -> None:
        _, keys, values, *_ = inputs
        k = mask_keys(attention.feature_map.forward_keys(keys.float()), lengths)
        sums.append((torch.einsum("bthk,bthv->bhkv", k, values.float()), k.sum(1)))

    hooks = [layer.register_forward_pre_hook(collect) for layer in inner_attentions(stack)]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
