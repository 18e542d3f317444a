"""Information about the rows of one parallel pass, and the states that its attentions return.

Legend: L layers, B rows, T positions, H heads, K key width, V value width.
"""

import torch
from fast_transformers.masking import BaseMask
from torch import Tensor


class PassRows(BaseMask):
    """Passed to each layer's attention as the library's length mask.

    Unlike the library's own mask it never synchronizes with the device.

    Attributes:
        valid: lengths [B], or None where every position counts.
        boundaries: booleans [B, T], true where a segment begins; None: nowhere.
        before: positions [B] that the initial state has seen of each row's segment, or None.
        decay_products: factors G [B, T] of the initial state at each position (`attention.decay`);
            None: the sums do not decay from some position on.
        source: sums of each row's source, of all layers, that cross attentions see; () without any.
        keep: whether states are wanted.
        states: with `keep`, the state of each layer's attention after the last position, by layer.
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
        decay_products: Tensor | None = None,
        source: tuple[Tensor, ...] = (),
        keep: bool = False,
    ):
        self._n_rows, self._T, self._device = n_rows, T, device
        self.valid = lengths
        self.boundaries = boundaries
        self.before = before
        self.decay_products = decay_products
        self.source = source
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

    def store_state(self, layer: int, state: tuple[Tensor, ...]) -> None:
        """Store a layer's state after the last position, if states are wanted."""
        if self.keep:
            self.states[layer] = state

    def stacked_states(self) -> tuple[Tensor, ...]:
        """The states of all layers: one tensor [L, B, ...] for each part of a state."""
        return tuple(torch.stack(part) for part in zip(*self.states.values(), strict=True))
