"""What the attentions of one parallel pass are told about its rows, and what they leave behind.

Legend: L layers, B rows, T positions, H heads, K key width, V value width.
"""

import torch
from fast_transformers.masking import BaseMask
from torch import Tensor


class Rows(BaseMask):
    """Goes through the library's stack as its length mask, to each layer's attention.

    Unlike the library's own it never waits for the device.

    Attributes:
        valid: lengths [B], or None where every position counts.
        boundaries: booleans [B, T], true where a segment begins; None: nowhere.
        before: positions [B] that the initial state has seen of each row's segment, or None.
        retained: what each position retains [B, T] of the initial state, if the sums fade (see
            `fading`); None: they do not.
        keep: whether states are wanted.
        states: with `keep`, what each layer's attention leaves after the last position, by layer.
    """

    def __init__(
        self,
        n_rows: int,
        T: int,
        *,
        device: torch.device,
        lengths: Tensor | None = None,
        boundaries: Tensor | None = None,
        initial: tuple[Tensor, ...] | None = None,
        before: Tensor | None = None,
        retained: Tensor | None = None,
        keep: bool = False,
    ):
        self._n_rows, self._T, self._device = n_rows, T, device
        self.valid = lengths
        self.boundaries = boundaries
        self.before = before
        self.retained = retained
        self.keep = keep
        self.states: dict[int, tuple[Tensor, ...]] = {}
        self._initial = initial

    @property
    def lengths(self) -> Tensor:
        """Valid positions of each row [B]."""
        if self.valid is None:
            return torch.full((self._n_rows,), self._T, device=self._device)
        return self.valid

    @property
    def bool_matrix(self) -> Tensor:
        """Which positions are valid [B, T]."""
        return torch.arange(self._T, device=self._device) < self.lengths[:, None]

    @property
    def all_ones(self) -> bool:
        """Whether every position is known to be valid."""
        return self.valid is None

    def initial_state(self, layer: int) -> tuple[Tensor, ...] | None:
        """What came before the rows, for one layer; None: nothing."""
        return None if self._initial is None else tuple(x[layer] for x in self._initial)

    def leave(self, layer: int, state: tuple[Tensor, ...]) -> None:
        """Keep a layer's state after the rows, if it is wanted."""
        if self.keep:
            self.states[layer] = state

    def stacked_states(self) -> tuple[Tensor, ...]:
        """What all layers left: one tensor [L, B, ...] for each part of a state."""
        return tuple(torch.stack(part) for part in zip(*self.states.values(), strict=True))
