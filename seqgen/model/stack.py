"""Both Transformer stacks, built by fast_transformers from one dictionary, sharing their weights.

The library loads any pair of stacks whose parameter names agree, right or wrong, so each stack
remembers the dictionary it was built from and joining compares them.
"""

from functools import lru_cache
from typing import Any

import torch
from fast_transformers.builders import RecurrentEncoderBuilder, TransformerEncoderBuilder
from fast_transformers.masking import TriangularCausalMask
from fast_transformers.recurrent.transformers import RecurrentTransformerEncoder
from fast_transformers.transformers import TransformerEncoder
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqgen.attention.kinds import KINDS
from seqgen.attention.rows import PassRows
from seqgen.config import ModelConfig
from seqgen.model.dropout import ByteDropout


def stack_arguments(config: ModelConfig) -> dict:
    """Return the one keyword dictionary that both builders receive."""
    width = config.d_model // config.n_heads
    kind = KINDS[config.attention]
    return {
        "attention_type": kind.attention_type,
        **kind.arguments(config),
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "query_dimensions": width,
        "value_dimensions": width,
        "feed_forward_dimensions": config.d_ff or 4 * config.d_model,
        "dropout": config.dropout,
        "activation": config.activation,
        "final_normalization": True,
    }


def build_parallel(arguments: dict) -> TransformerEncoder:
    """Build the form that takes all positions at once: [B, T, D] -> [B, T, D]."""
    stack = _build(TransformerEncoderBuilder, arguments)
    for index, layer in enumerate(stack.layers):
        layer.dropout = ByteDropout(arguments["dropout"])
        layer.attention.inner_attention.layer = index
    return stack


def build_recurrent(arguments: dict) -> RecurrentTransformerEncoder:
    """Build the form that takes one position and a state: [B, D] -> [B, D], state."""
    return _build(RecurrentEncoderBuilder, arguments)


def share_weights(parallel: TransformerEncoder, recurrent: RecurrentTransformerEncoder) -> None:
    """Put the recurrent stack on the parallel one's storage.

    Raises:
        ValueError: the two were not built from the same dictionary, so they would not compute the
            same, or their weights differ in names or shapes.
    """
    ours, theirs = recurrent.built_from, parallel.built_from
    wrong = sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key))
    if wrong:
        differences = ", ".join(f"{key} {theirs.get(key)!r} and {ours.get(key)!r}" for key in wrong)
        raise ValueError(f"the parallel and the recurrent stack differ in {differences}")
    try:
        recurrent.load_state_dict(parallel.state_dict(), strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"the stacks do not hold the same weights: {error}") from None


def run_parallel(
    stack: TransformerEncoder, x: Tensor, rows: PassRows | None = None, *, recompute: bool = False
) -> Tensor:
    """Run the parallel stack causally: x [B, T, D] -> [B, T, D]; no `rows`: one segment each.

    With `recompute`, what is inside a layer is not kept for the backward pass but computed again.
    """
    if rows is None:
        rows = PassRows(*x.shape[:2], device=x.device)
    masks = {"attn_mask": causal_mask(x.shape[1], x.device), "length_mask": rows}
    if not recompute or not torch.is_grad_enabled():
        return stack(x, **masks)
    for layer in stack.layers:  # what the library's stack does, a layer at a time
        x = checkpoint(layer, x, use_reentrant=False, **masks)
    return stack.norm(x)


def inner_attentions(parallel: TransformerEncoder) -> list[Any]:
    """Each layer's attention; it is called with queries, keys [B, T, H, K], values [B, T, H, V]."""
    return [layer.attention.inner_attention for layer in parallel.layers]


@lru_cache(maxsize=64)
def causal_mask(T: int, device: torch.device) -> TriangularCausalMask:
    """Make the mask of T positions; its constructor waits for the device, so each is kept."""
    return TriangularCausalMask(T, device=device)


def _build(builder: Any, arguments: dict) -> Any:
    stack = builder.from_kwargs(**arguments).get()
    stack.built_from = dict(arguments)
    return stack
