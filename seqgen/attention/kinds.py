"""The kinds of attention a model can have: each a parallel form, a recurrent form and its state.

Legend: L layers, B rows, H heads, K key width, V value width.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.registered import ATTENTION_TYPE, feature_map_factory

Parts = tuple[Tensor, ...]  # of all layers, each [L, B, ...]
LayerStates = list[list[Tensor]]  # of each layer, as the library's recurrent stack takes them


class AttentionKind(Protocol):
    """What the model needs to know of a kind of attention."""

    attention_type: str  # in both of the library's registries

    def arguments(self, feature_map: str, dropout: float) -> dict:
        """Return what both builders are given besides the sizes."""

    def initial(self, sizes: Sequence[int], feature_map: str, device: torch.device) -> Parts:
        """Make the state before the first token, for sizes L, B, H and width of a head."""

    def step(
        self, parts: Parts, position: Tensor, run: Callable[[LayerStates], Tensor]
    ) -> tuple[Tensor, Parts]:
        """Run one step of the recurrent stack on `parts`, which stay as they are."""


class CausalLinearKind:
    """Sums S [L, B, H, K, V] of key-value products and Z [L, B, H, K] of keys, in float32."""

    attention_type = ATTENTION_TYPE

    def arguments(self, feature_map: str, dropout: float) -> dict:
        """The feature map; nothing drops out, since there are no attention weights."""
        return {"feature_map": feature_map_factory(feature_map)}

    def initial(self, sizes: Sequence[int], feature_map: str, device: torch.device) -> Parts:
        """Zeros."""
        *layers_rows_heads, width = sizes
        K = FEATURE_MAPS[feature_map].width(width)
        S = torch.zeros(*layers_rows_heads, K, width, device=device)
        return S, S.new_zeros(*layers_rows_heads, K)

    def step(
        self, parts: Parts, position: Tensor, run: Callable[[LayerStates], Tensor]
    ) -> tuple[Tensor, Parts]:
        """Add to copies: the library adds to its state in place."""
        S, Z = (part.clone() for part in parts)
        hidden = run([[S[layer], Z[layer]] for layer in range(len(S))])
        return hidden, (S, Z)


KINDS: dict[str, AttentionKind] = {"causal-linear": CausalLinearKind()}
