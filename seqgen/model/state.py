"""What a recurrent model carries from one step to the next: a value.

Its size never grows with causal-linear attention; softmax attention, the baseline, has a KV cache.
What an encoder-decoder keeps of its source does not depend on how long that is.

Legend: L layers, B rows, H heads, K key width, V value width, C capacity of a cache, W
convolution width, D model width, G groups of marks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor


@final
@dataclass(frozen=True)
class State:
    """What the attentions keep of everything seen so far, the last embeddings, and where rows are.

    Attributes:
        attention: tensors [L, B, ...] of the attentions of all layers; of causal-linear ones, the
            sums S [L, B, H, K, V] of key-value products and Z [L, B, H, K] of keys, float32; of
            softmax ones, a cache of keys [L, B, H, C, K], values and slots written [L, B].
        recent: the last W - 1 input embeddings [B, W - 1, D], oldest first; zeros before the start.
        position: index of the next token of each row [B], int64.
        origin: position from which each row's index is counted [B], int64: that of its last anchor
            with `model.positions=bars`, else 0. If None is given, zeros.
        held: number of the mark in force in each group [B, G], int64, as in `Vocabulary.holds`;
            0: none. If None is given, there are no groups.
        source: of an encoder-decoder, the sums S [L, B, H, K, V] and Z [L, B, H, K] of the source,
            float32, which no step changes; () of other models.
    """

    attention: tuple[Tensor, ...]
    recent: Tensor
    position: Tensor
    origin: Tensor = None  # type: ignore[assignment]  # set below
    held: Tensor = None  # type: ignore[assignment]
    source: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        if self.origin is None:
            object.__setattr__(self, "origin", torch.zeros_like(self.position))
        if self.held is None:
            object.__setattr__(self, "held", self.position.new_zeros(self.n_rows, 0))

    @property
    def S(self) -> Tensor:
        """Sums of key-value products [L, B, H, K, V] of causal-linear attentions."""
        return self.attention[0]

    @property
    def Z(self) -> Tensor:
        """Sums of keys [L, B, H, K] of causal-linear attentions."""
        return self.attention[1]

    @property
    def n_rows(self) -> int:
        """Rows B."""
        return self.position.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as allocated: with causal-linear attention always the same.

        A KV cache counts with its whole capacity, and in each of the states that share it.
        """
        rest = (self.recent, self.position, self.origin, self.held)
        return sum(x.nbytes for x in (*self.attention, *self.source, *rest))

    def clone(self) -> "State":
        """Copy, sharing nothing."""
        return self._each(Tensor.clone)

    def detach(self) -> "State":
        """The same values, cut off from how they were computed."""
        return self._each(Tensor.detach)

    def to(self, device: str | torch.device) -> "State":
        """The same values on a device."""
        return self._each(lambda x: x.to(device))

    def rows(self, index: Sequence[int] | Tensor) -> "State":
        """Return a new state of the given rows, in the given order; a row may be repeated."""
        index = torch.as_tensor(index, dtype=torch.long, device=self.position.device)
        return State(
            tuple(x.index_select(1, index) for x in self.attention),
            self.recent.index_select(0, index),
            self.position.index_select(0, index),
            self.origin.index_select(0, index),
            self.held.index_select(0, index),
            tuple(x.index_select(1, index) for x in self.source),
        )

    @staticmethod
    def join(states: Sequence["State"]) -> "State":
        """Return one state with the rows of all `states`, in order."""
        if not states:
            raise ValueError("cannot join an empty list of states")
        return State(
            tuple(
                torch.cat(_of_one_capacity(parts), dim=1)
                for parts in zip(*(state.attention for state in states), strict=True)
            ),
            torch.cat([state.recent for state in states]),
            torch.cat([state.position for state in states]),
            torch.cat([state.origin for state in states]),
            torch.cat([state.held for state in states]),
            tuple(
                torch.cat(parts, dim=1)
                for parts in zip(*(state.source for state in states), strict=True)
            ),
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "State":
        return State(
            tuple(change(x) for x in self.attention),
            change(self.recent),
            change(self.position),
            change(self.origin),
            change(self.held),
            tuple(change(x) for x in self.source),
        )


def _of_one_capacity(parts: Sequence[Tensor]) -> list[Tensor]:
    """Fill up caches [L, B, H, C, K] with zeros to the largest C; others have it in common."""
    if parts[0].dim() < 5:
        return list(parts)
    capacity = max(x.shape[3] for x in parts)
    return [
        F.pad(x, (0, 0, 0, capacity - x.shape[3])) if x.shape[3] < capacity else x for x in parts
    ]
