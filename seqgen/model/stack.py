"""Both Transformer stacks, built by fast_transformers from one dictionary, on one storage.

The library loads any pair of stacks whose parameter names agree, right or wrong, so each stack
remembers the dictionary it was built from and joining compares them.
"""

from functools import lru_cache

import torch
from fast_transformers.builders import RecurrentEncoderBuilder, TransformerEncoderBuilder
from fast_transformers.feature_maps import elu_feature_map
from fast_transformers.masking import LengthMask, TriangularCausalMask
from torch import Tensor, nn

from seqgen.attention.registered import ATTENTION_TYPE
from seqgen.config import ModelConfig
from seqgen.model.dropout import ByteDropout

ATTENTION_TYPES = {"causal-linear": ATTENTION_TYPE}
FEATURE_MAPS = {"elu+1": elu_feature_map}


def stack_arguments(config: ModelConfig) -> dict:
    """Return the one keyword dictionary that both builders receive."""
    width = config.d_model // config.n_heads
    return {
        "attention_type": ATTENTION_TYPES[config.attention],
        "feature_map": FEATURE_MAPS[config.feature_map],
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "query_dimensions": width,
        "value_dimensions": width,
        "feed_forward_dimensions": config.d_ff or 4 * config.d_model,
        "dropout": config.dropout,
        "activation": config.activation,
        "final_normalization": True,
    }


def build_parallel(arguments: dict) -> nn.Module:
    """Build the form that takes all positions at once: [B, T, D] -> [B, T, D]."""
    stack = _build(TransformerEncoderBuilder, arguments)
    for layer in stack.layers:
        layer.dropout = ByteDropout(arguments["dropout"])
    return stack


def build_recurrent(arguments: dict) -> nn.Module:
    """Build the form that takes one position and a state: [B, D] -> [B, D], state."""
    return _build(RecurrentEncoderBuilder, arguments)


def share_weights(parallel: nn.Module, recurrent: nn.Module) -> None:
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


def run_parallel(stack: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Run the parallel stack causally: x [B, T, D], lengths [B] -> [B, T, D]."""
    T = x.shape[1]
    length_mask = None if lengths is None else LengthMask(lengths, max_len=T, device=x.device)
    return stack(x, attn_mask=_causal_mask(T, x.device), length_mask=length_mask)


def inner_attentions(parallel: nn.Module) -> list[nn.Module]:
    """Each layer's attention; it is called with queries, keys [B, T, H, K], values [B, T, H, V]."""
    return [layer.attention.inner_attention for layer in parallel.layers]


@lru_cache(maxsize=64)
def _causal_mask(T: int, device: torch.device) -> TriangularCausalMask:
    return TriangularCausalMask(T, device=device)


def _build(builder: type, arguments: dict) -> nn.Module:
    stack = builder.from_kwargs(**arguments).get()
    stack.built_from = dict(arguments)
    return stack
