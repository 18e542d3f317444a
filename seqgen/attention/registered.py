"""The pair of attentions under which both fast_transformers builders know our causal-linear.

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

from seqgen.attention.fading import fading_attention
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention
from seqgen.attention.rows import Rows

ATTENTION_TYPE = "seqgen-causal-linear"


@cache
def feature_map_factory(name: str) -> Callable[[int], nn.Module]:
    """Return what the builders make a named feature map with; the same object for the same name."""
    return ActivationFunctionFeatureMap.factory(FEATURE_MAPS[name])


class CausalLinear(nn.Module):
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

    def forward(self, queries, keys, values, attn_mask, query_lengths, key_lengths: Rows) -> Tensor:
        """Attend: queries and keys [B, T, H, K], values [B, T, H, V] -> [B, T, H, V]."""
        if not attn_mask.lower_triangular:
            raise ValueError("causal linear attention needs a TriangularCausalMask")
        attend = causal_linear_attention
        if key_lengths.retained is not None:
            attend = partial(fading_attention, retained=key_lengths.retained)
        out, state = attend(
            queries,
            keys,
            values,
            lengths=key_lengths.valid,
            boundaries=key_lengths.boundaries,
            initial_state=key_lengths.initial_state(self.layer),
            feature_map=self.feature_map.activation_function,
            kernel=self.kernel,
        )
        key_lengths.leave(self.layer, state)
        return out.contiguous()  # the library takes a view of it


_PARAMETERS = [
    ("query_dimensions", Int),
    ("feature_map", Optional(CallableParameter)),
    ("event_dispatcher", Optional(EventDispatcherInstance, "")),
]
AttentionRegistry.register(ATTENTION_TYPE, CausalLinear, _PARAMETERS)
RecurrentAttentionRegistry.register(ATTENTION_TYPE, RecurrentLinearAttention, _PARAMETERS)
