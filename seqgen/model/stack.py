"""Both Transformer stacks, built by fast_transformers from one dictionary, sharing their weights.

The library loads any pair of stacks whose parameter names agree, right or wrong, so each stack
remembers the dictionary it was built from and joining compares them.

A model without a source is a causal stack of what the library calls encoder layers. One with a
source has decoder layers, which attend to the source too, and a stack of encoder layers for it.

Legend: L layers, B rows, T positions, U positions of the source, D model width, H heads, K key
width, V value width.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import torch
from fast_transformers.builders import (
    RecurrentDecoderBuilder,
    RecurrentEncoderBuilder,
    TransformerDecoderBuilder,
    TransformerEncoderBuilder,
)
from fast_transformers.masking import TriangularCausalMask
from fast_transformers.recurrent.transformers import (
    RecurrentTransformerDecoder,
    RecurrentTransformerEncoder,
)
from fast_transformers.transformers import TransformerDecoder, TransformerEncoder
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqgen.attention.kinds import KINDS, LayerStates, Parts
from seqgen.attention.registered import feature_map_factory
from seqgen.attention.rows import PassRows
from seqgen.attention.source import CROSS_TYPE, ENCODER_TYPE
from seqgen.config import ModelConfig
from seqgen.model.dropout import ByteDropout

ParallelStack: TypeAlias = TransformerEncoder | TransformerDecoder
RecurrentStack: TypeAlias = RecurrentTransformerEncoder | RecurrentTransformerDecoder


def stack_arguments(config: ModelConfig) -> dict:
    """Return the one keyword dictionary that both builders receive.

    A key "part.name" is of one attention of the layers alone.
    """
    kind = KINDS[config.attention]
    if config.kind == "decoder":
        own = {"attention_type": kind.attention_type, **kind.arguments(config)}
        return own | _sizes(config)
    own = {f"self_attention.{name}": value for name, value in kind.arguments(config).items()}
    cross = {
        "cross_attention_type": CROSS_TYPE,
        "cross_attention.feature_map": feature_map_factory(config.feature_map),
    }
    return {"self_attention_type": kind.attention_type, **own, **cross, **_sizes(config)}


def encoder_arguments(config: ModelConfig) -> dict:
    """Return what the stack that reads the source is built from."""
    feature_map = feature_map_factory(config.feature_map)
    return {"attention_type": ENCODER_TYPE, "feature_map": feature_map, **_sizes(config)}


def _sizes(config: ModelConfig) -> dict:
    width = config.d_model // config.n_heads
    return {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "query_dimensions": width,
        "value_dimensions": width,
        "feed_forward_dimensions": config.d_ff or 4 * config.d_model,
        "dropout": config.dropout,
        "activation": config.activation,
        "final_normalization": True,
    }


def build_parallel(arguments: dict) -> ParallelStack:
    """Build the form that takes all positions at once: [B, T, D] -> [B, T, D]."""
    has_source = "cross_attention_type" in arguments
    stack = _build(
        TransformerDecoderBuilder if has_source else TransformerEncoderBuilder, arguments
    )
    for index, layer in enumerate(stack.layers):
        layer.dropout = ByteDropout(arguments["dropout"])
        for attention in [_own(layer), *([layer.cross_attention] if has_source else [])]:
            attention.inner_attention.layer = index
    return stack


def build_recurrent(arguments: dict) -> RecurrentStack:
    """Build the form that takes one position and a state: [B, D] -> [B, D], state."""
    has_source = "cross_attention_type" in arguments
    return _build(RecurrentDecoderBuilder if has_source else RecurrentEncoderBuilder, arguments)


def share_weights(parallel: ParallelStack, recurrent: RecurrentStack) -> None:
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
    stack: ParallelStack, x: Tensor, rows: PassRows | None = None, *, recompute: bool = False
) -> Tensor:
    """Run the parallel stack causally: x [B, T, D] -> [B, T, D]; no `rows`: one segment each.

    With `recompute`, what is inside a layer is not kept for the backward pass but computed again.
    """
    if rows is None:
        rows = PassRows(*x.shape[:2], device=x.device)
    mask = causal_mask(x.shape[1], x.device)
    masks = {"attn_mask": mask, "length_mask": rows}
    if (
        rows.source
    ):  # which is all that is seen of it: the library wants a sequence too, of any length
        masks = {"memory": x[:, :1], "x_mask": mask, "x_length_mask": rows}
        masks |= {"memory_mask": rows, "memory_length_mask": rows}
    return _run(stack, x, masks, recompute=recompute)


def run_encoder(
    stack: TransformerEncoder, x: Tensor, rows: PassRows, *, recompute: bool = False
) -> Tensor:
    """Run the stack that reads a source in both directions: x [B, U, D] -> [B, U, D]."""
    return _run(stack, x, {"attn_mask": rows, "length_mask": rows}, recompute=recompute)


def run_recurrent(
    stack: RecurrentStack, x: Tensor, layers: LayerStates, source: Parts = ()
) -> Tensor:
    """Make one step: x [B, D] -> [B, D]; the states of the layers change in place.

    Args:
        stack: the recurrent one.
        x: input of each row.
        layers: state of each layer's own attention.
        source: sums S [L, B, H, K, V] and Z [L, B, H, K] of what decoder layers also attend to.
    """
    if not source:
        return stack(x, layers)[0]
    S, Z = source
    # The library has its S as [B, H, V, K].
    both = [[own, [S[i].mT, Z[i]]] for i, own in enumerate(layers)]
    mask = causal_mask(1, x.device)  # any: where there are sums, source and mask are not read
    return stack(x, x.unsqueeze(1), memory_length_mask=mask, state=both)[0]


def sum_source(stack: TransformerDecoder, memory: Tensor, lengths: Tensor | None) -> Parts:
    """Sum what each decoder layer attends to of an encoded source [B, U, D] of `lengths` [B].

    Returns:
        S [L, B, H, K, V] and Z [L, B, H, K], float32 at least.
    """
    sums = []
    for layer in stack.layers:
        cross = layer.cross_attention
        heads = (*memory.shape[:2], cross.n_heads, -1)
        keys, values = (
            p(memory).view(heads) for p in (cross.key_projection, cross.value_projection)
        )
        sums.append(cross.inner_attention.sums(keys, values, lengths))
    return tuple(torch.stack(part) for part in zip(*sums, strict=True))


def inner_attentions(parallel: ParallelStack) -> list[Any]:
    """Each layer's own attention; called with queries, keys [B, T, H, K], values [B, T, H, V]."""
    return [_own(layer).inner_attention for layer in parallel.layers]


@lru_cache(maxsize=64)
def causal_mask(T: int, device: torch.device) -> TriangularCausalMask:
    """Make the mask of T positions; its constructor waits for the device, so each is kept."""
    return TriangularCausalMask(T, device=device)


def _run(stack: Any, x: Tensor, masks: dict, *, recompute: bool) -> Tensor:
    if not recompute or not torch.is_grad_enabled():
        return stack(x, **masks)
    for layer in stack.layers:  # what the library's stack does, a layer at a time
        x = checkpoint(layer, x, use_reentrant=False, **masks)
    return stack.norm(x)


def _own(layer: Any) -> Any:
    """A layer's attention to the sequence itself."""
    return layer.self_attention if hasattr(layer, "self_attention") else layer.attention


def _build(builder: Any, arguments: dict) -> Any:
    built = builder()
    for key, value in arguments.items():
        part, _, name = key.rpartition(".")
        setattr(getattr(built, part) if part else built, name, value)
    stack = built.get()
    stack.built_from = dict(arguments)
    return stack
