"""Causal linear attention, registered for both builders of fast_transformers.

Parallel: our operator. Recurrent: the library's own step, after a decay. Neither holds parameters
but for the decays of its heads, so without those weights load as in the library.

Legend: B rows, T positions, H heads, K key width, V value width.
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
from seqgen.attention.head_decay import HeadDecay
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
        decay: gives γ of each head; None: the sums only grow.
    """

    def __init__(
        self,
        query_dimensions: int,
        feature_map: Callable,
        event_dispatcher: str = "",
        decay: Callable[[], HeadDecay] | None = None,
    ):
        super().__init__()
        self.feature_map = feature_map(query_dimensions)
        self.decay = decay() if decay else None
        self.kernel = "auto"
        self.layer = 0

    def forward(
        self, queries, keys, values, attn_mask, query_lengths, key_lengths: PassRows
    ) -> Tensor:
        """Attend: queries and keys [B, T, H, K], values [B, T, H, V] -> [B, T, H, V]."""
        if not attn_mask.lower_triangular:
            raise ValueError("causal linear attention needs a TriangularCausalMask")
        attend = causal_linear_attention
        if key_lengths.decay_products is not None:
            attend = partial(decaying_attention, products=key_lengths.decay_products)
        initial = key_lengths.initial_state(self.layer)
        out, state = attend(
            queries,
            keys,
            values,
            lengths=key_lengths.valid,
            boundaries=key_lengths.boundaries,
            initial_state=None if initial is None else (initial[0], initial[1]),
            decay=self.decay() if self.decay else None,
            feature_map=self.feature_map.activation_function,
            kernel=self.kernel,
        )
        key_lengths.store_state(self.layer, state)
        return out.contiguous()  # the library takes a view of it


class RecurrentCausalLinear(RecurrentLinearAttention):
    """The library's step on sums that first decay, in place as it adds to them."""

    def __init__(
        self,
        query_dimensions: int,
        feature_map: Callable,
        event_dispatcher: str = "",
        decay: Callable[[], HeadDecay] | None = None,
    ):
        super().__init__(query_dimensions, feature_map, event_dispatcher=event_dispatcher)
        self.decay = decay() if decay else None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: list[Tensor],
        memory: None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Take one position: query and key [B, H, K], value [B, H, V], S and Z -> [B, H, V]."""
        if self.decay is not None:
            gamma = self.decay()[:, None]  # [H, 1]
            S, Z = state
            S.mul_(gamma[..., None])
            Z.mul_(gamma)
        return super().forward(query, key, value, state)


_PARAMETERS = [
    ("query_dimensions", Int),
    ("feature_map", Optional(CallableParameter)),
    ("event_dispatcher", Optional(EventDispatcherInstance, "")),
    ("decay", Optional(CallableParameter)),
]
AttentionRegistry.register(ATTENTION_TYPE, ParallelCausalLinear, _PARAMETERS)
RecurrentAttentionRegistry.register(ATTENTION_TYPE, RecurrentCausalLinear, _PARAMETERS)
