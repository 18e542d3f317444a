"""What a recurrent model carries from one step to the next: a value, of a size that never grows.

Legend: L layers, B rows, H heads, K key width, V value width, W input window, D model width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Sums over everything seen so far, the last embeddings, and where each row is.

    Attributes:
        S: sums of key-value products [L, B, H, K, V], float32.
        Z: sums of keys [L, B, H, K], float32.
        recent: the last W - 1 input embeddings [B, W - 1, D], oldest first; zeros before the start.
        position: index of the next token of each row [B], int64.
    """

    S: Tensor
    Z: Tensor
    recent: Tensor
    position: Tensor

    @property
    def n_rows(self) -> int:
        """Rows B."""
        return self.position.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors: the same after one step and after a million."""
        return sum(x.nbytes for x in (self.S, self.Z, self.recent, self.position))

    def clone(self) -> "State":
        """Copy, sharing nothing."""
        return State(*(getattr(self, field.name).clone() for field in fields(self)))

    def rows(self, index: Sequence[int] | Tensor) -> "State":
        """Return a new state of the given rows, in the given order; a row may be repeated."""
        index = torch.as_tensor(index, dtype=torch.long, device=self.position.device)
        return State(
            self.S.index_select(1, index),
            self.Z.index_select(1, index),
            self.recent.index_select(0, index),
            self.position.index_select(0, index),
        )

    @staticmethod
    def join(states: Sequence["State"]) -> "State":
        """Return one state with the rows of all `states`, in order."""
        if not states:
            raise ValueError("cannot join an empty list of states")
        return State(
            torch.cat([state.S for state in states], dim=1),
            torch.cat([state.Z for state in states], dim=1),
            torch.cat([state.recent for state in states]),
            torch.cat([state.position for state in states]),
        )
