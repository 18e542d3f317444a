"""Causal linear attention, registered for both builders of fast_transformers.

Parallel: our operator. Recurrent: the library's own step. Neither holds parameters, so weights
load as in the library.
"""

from collections.abc import Callable
from functools import cache, partial

from fast_transformers.attention_registry import (
    AttentionRegistry,
    EventDispatcherInstance,
    Int,
    Optional,
    RecurrentAttentionRegistry,
)
from fast_transformers.attention_registry import Callable as CallableParameter
from fast_transformers.feature_maps.base import ActivationFunctionFeatureMap
from fast_transformers.recurrent.attention import RecurrentLinearAttention
from torch import Tensor, nn

from seqgen.attention.decay import decaying_attention
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention
from seqgen.attention.rows import PassRows

ATTENTION_TYPE = "seqgen-causal-linear"


@cache
def feature_map_factory(name: str) -> Callable[[int], nn.Module]:
    """Return what the builders make a named feature map with; the same object for the same name."""
    return ActivationFunctionFeatureMap.factory(FEATURE_MAPS[name])


class ParallelCausalLinear(nn.Module):
    """Causal linear attention over whole rows; sums stay in float32 under autocast.

    Attributes:
        kernel: which implementation to use, as in `causal_linear_attention`.
        layer: index of the layer, by which states are told apart.
    """

    def __init__(self, query_dimensions: int, feature_map: Callable, event_dispatcher: str = ""):
        super().__init__()
        self.feature_map = feature_map(query_dimensions)
        self.kernel = "auto"
        self.layer = 0

    def forward(
        self, queries, keys, values, attn_mask, query_lengths, key_lengths: PassRows
    ) -> Tensor:
        """Attend: queries and keys [B, T, H, K], values [B, T, H, V] -> [B, T, H, V]."""
        if not attn_mask.lower_triangular:
            raise ValueError("causal linear attention needs a TriangularCausalMask")
        attend = causal_linear_attention
        if key_lengths.decay is not None:
            attend = partial(decaying_attention, decay=key_lengths.decay)
        initial = key_lengths.initial_state(self.layer)
        out, state = attend(
            queries,
            keys,
            values,
            lengths=key_lengths.valid,
            boundaries=key_lengths.boundaries,
            initial_state=None if initial is None else (initial[0], initial[1]),
            feature_map=self.feature_map.activation_function,
            kernel=self.kernel,
        )
        key_lengths.store_state(self.layer, state)
        return out.contiguous()  # the library takes a view of it


_PARAMETERS = [
    ("query_dimensions", Int),
    ("feature_map", Optional(CallableParameter)),
    ("event_dispatcher", Optional(EventDispatcherInstance, "")),
]
AttentionRegistry.register(ATTENTION_TYPE, ParallelCausalLinear, _PARAMETERS)
RecurrentAttentionRegistry.register(ATTENTION_TYPE, RecurrentLinearAttention, _PARAMETERS)
