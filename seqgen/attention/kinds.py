"""The kinds of attention a model can have: each a parallel form, a recurrent form and its state.

Legend: L layers, B rows, H heads, K key width, V value width, C capacity of a cache.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from seqgen.attention import registered, softmax
from seqgen.attention.cache import Slot, empty_cache, open_slot
from seqgen.attention.decay import MIN_DECAY_AFTER, decay_factor
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.head_decay import head_decay
from seqgen.config import ModelConfig
from seqgen.errors import UserError

Parts = tuple[Tensor, ...]  # of all layers, each [L, B, ...]
LayerState = list[Tensor] | tuple[Tensor, Tensor, Slot]
LayerStates = list[LayerState]  # of each layer, as its recurrent attention takes them


class AttentionKind(Protocol):
    """What the model needs to know of a kind of attention."""

    attention_type: str  # in both of the library's registries
    can_decay: bool  # whether its state can decay

    def arguments(self, config: ModelConfig) -> dict:
        """Return what both builders are given besides the sizes."""

    def initial(self, sizes: Sequence[int], feature_map: str, device: torch.device) -> Parts:
        """Make the state before the first token, for sizes L, B, H and width of a head."""

    def step(
        self,
        parts: Parts,
        position: Tensor,
        run: Callable[[LayerStates], Tensor],
        decay_after: int | None = None,
    ) -> tuple[Tensor, Parts]:
        """Run one step of the recurrent stack on `parts`, which decay first from `decay_after` on.

        They may be changed only where no one can notice: running on the same parts again gives the
        same result.
        """


class CausalLinearKind:
    """Sums S [L, B, H, K, V] of key-value products and Z [L, B, H, K] of keys, in float32."""

    attention_type = registered.ATTENTION_TYPE
    can_decay = True

    def arguments(self, config: ModelConfig) -> dict:
        """Feature map and decay; nothing drops out, since there are no attention weights."""
        feature_map = registered.feature_map_factory(config.feature_map)
        return {"feature_map": feature_map, "decay": head_decay(config)}

    def initial(self, sizes: Sequence[int], feature_map: str, device: torch.device) -> Parts:
        """Zeros."""
        *layers_rows_heads, width = sizes
        K = FEATURE_MAPS[feature_map].width(width)
        S = torch.zeros(*layers_rows_heads, K, width, device=device)
        return S, S.new_zeros(*layers_rows_heads, K)

    def step(
        self,
        parts: Parts,
        position: Tensor,
        run: Callable[[LayerStates], Tensor],
        decay_after: int | None = None,
    ) -> tuple[Tensor, Parts]:
        """Add to copies: the recurrent form changes its state in place."""
        S, Z = parts
        if decay_after is None:
            S, Z = S.clone(), Z.clone()
        else:
            gamma = decay_factor(position, decay_after)[:, None, None]  # [B, 1, 1]
            S, Z = S * gamma[..., None], Z * gamma
        hidden = run([[S[layer], Z[layer]] for layer in range(len(S))])
        return hidden, (S, Z)


class SoftmaxKind:
    """A KV cache: keys [L, B, H, C, K], values [L, B, H, C, V], and slots written [L, B].

    Which of its slots count, the positions say; the last part says which are taken (see `cache`).
    """

    attention_type = softmax.ATTENTION_TYPE
    can_decay = False

    def arguments(self, config: ModelConfig) -> dict:
        """Attention weights drop out like the rest; there is no feature map."""
        return {"attention_dropout": config.dropout}

    def initial(self, sizes: Sequence[int], feature_map: str, device: torch.device) -> Parts:
        """A cache with nothing in it."""
        return empty_cache(tuple(sizes), device)

    def step(
        self,
        parts: Parts,
        position: Tensor,
        run: Callable[[LayerStates], Tensor],
        decay_after: int | None = None,
    ) -> tuple[Tensor, Parts]:
        """Write in place where nothing has been written, else into a copy."""
        cache, slot = open_slot(parts, position)
        keys, values, _ = cache
        return run([(keys[layer], values[layer], slot) for layer in range(len(keys))]), cache


KINDS: dict[str, AttentionKind] = {"causal-linear": CausalLinearKind(), "softmax": SoftmaxKind()}


def check_decay(attention: str, decay_after: int | None) -> None:
    """Refuse a decay that a kind of attention does not support.

    Raises:
        UserError: `decay_after` is too small, or the state of the attention cannot decay.
    """
    if decay_after is None:
        return
    if not KINDS[attention].can_decay:
        raise UserError(
            f"decay_after = {decay_after}: model.attention={attention} does not support decay: "
            f"leave it out, or use a causal-linear model"
        )
    if decay_after < MIN_DECAY_AFTER:
        raise UserError(f"decay_after = {decay_after}: must be {MIN_DECAY_AFTER} or more")
