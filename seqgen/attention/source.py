"""Linear attention to a whole sequence, the source: of its own positions, and of a target's.

With the feature map φ and the n positions of the source, of which every query sees all:

    S = Σ_u φ(k_u) v_uᵀ        Z = Σ_u φ(k_u)        out_t = φ(q_t)ᵀ S / (φ(q_t)ᵀ Z + ε)

So all that a target needs of its source, however long, is S and Z of each layer. The parallel form
is ours, since sums stay in float32; the recurrent one is the library's own step.

Legend: L layers, B rows, U positions of the source, T of the queries, H heads, K key width, V value
width.
"""

from collections.abc import Callable

import torch
from fast_transformers.attention_registry import (
    AttentionRegistry,
    EventDispatcherInstance,
    Int,
    Optional,
    RecurrentCrossAttentionRegistry,
)
from fast_transformers.attention_registry import Callable as CallableParameter
from fast_transformers.recurrent.attention import RecurrentCrossLinearAttention
from torch import Tensor, nn

from seqgen.attention.naive import AttentionState, mask_keys
from seqgen.attention.rows import PassRows

ENCODER_TYPE, CROSS_TYPE = "seqgen-linear", "seqgen-cross-linear"
EPS = 1e-6  # as in the library's recurrent form


def source_sums(k: Tensor, v: Tensor, lengths: Tensor | None = None) -> AttentionState:
    """Sum features of keys k [B, U, H, K] and their products with values v [B, U, H, V].

    Positions at and after `lengths` [B] add nothing. None: all count.

    Returns:
        S [B, H, K, V] and Z [B, H, K], in float32 at least.
    """
    work = torch.promote_types(v.dtype, torch.float32)
    with torch.autocast(k.device.type, enabled=False):
        k, v = mask_keys(k.to(work), lengths), v.to(work)
        return torch.einsum("buhk,buhv->bhkv", k, v), k.sum(1)


def attend(q: Tensor, S: Tensor, Z: Tensor, *, eps: float = EPS) -> Tensor:
    """Let features of queries q [B, T, H, K] see sums [B, H, K, V] and [B, H, K] -> [B, T, H, V].

    The result has the dtype of the sums.
    """
    with torch.autocast(q.device.type, enabled=False):
        q = q.to(S.dtype)
        norm = torch.einsum("bthk,bhk->bth", q, Z) + eps
        return torch.einsum("bthk,bhkv->bthv", q, S) / norm.unsqueeze(-1)


class _Linear(nn.Module):
    """What both attentions are built from.

    Attributes:
        layer: index of the layer.
    """

    def __init__(self, query_dimensions: int, feature_map: Callable, event_dispatcher: str = ""):
        super().__init__()
        self.feature_map = feature_map(query_dimensions)
        self.layer = 0

    def _features(self, x: Tensor) -> Tensor:
        return self.feature_map.activation_function(x)


class EncoderLinear(_Linear):
    """Every position of the source sees all of its source."""

    def forward(
        self, queries, keys, values, attn_mask, query_lengths, key_lengths: PassRows
    ) -> Tensor:
        """Attend: queries and keys [B, U, H, K], values [B, U, H, V] -> [B, U, H, V]."""
        S, Z = source_sums(self._features(keys), values, key_lengths.valid)
        return attend(self._features(queries), S, Z).to(values.dtype).contiguous()


class CrossLinear(_Linear):
    """Every position of the target sees the sums of its source, which the rows of the pass hold."""

    def sums(self, keys: Tensor, values: Tensor, lengths: Tensor | None) -> AttentionState:
        """Return the sums of a source by its keys [B, U, H, K] and values [B, U, H, V]."""
        return source_sums(self._features(keys), values, lengths)

    def forward(
        self, queries, keys, values, attn_mask, query_lengths: PassRows, key_lengths
    ) -> Tensor:
        """Attend: queries [B, T, H, K] -> [B, T, H, V]; keys and values are not looked at."""
        S, Z = (part[self.layer] for part in query_lengths.source)
        return attend(self._features(queries), S, Z).to(values.dtype).contiguous()


_PARAMETERS = [
    ("query_dimensions", Int),
    ("feature_map", Optional(CallableParameter)),
    ("event_dispatcher", Optional(EventDispatcherInstance, "")),
]
AttentionRegistry.register(ENCODER_TYPE, EncoderLinear, _PARAMETERS)
AttentionRegistry.register(CROSS_TYPE, CrossLinear, _PARAMETERS)
RecurrentCrossAttentionRegistry.register(CROSS_TYPE, RecurrentCrossLinearAttention, _PARAMETERS)
