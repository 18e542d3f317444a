"""Pools: the states of streams, each in a slot, updated in place.

Legend: L layers, C slots, B rows, F fields, H heads, K key width, V value width, W convolution
width, D model width, G groups of marks, N_f vocabulary of a field.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from seqgen.model.state import State
from seqgen.sampling import Sampler


class Pool(ABC):
    """Room for the states of C streams. Slots [B] are int64 on the decoder's device, all different.

    What is in a slot depends on what was written to it and on its tokens, not on other slots: to
    the last bit in native pools (unless PyTorch multiplies their matrices), elsewhere up to the
    rounding of products with other numbers of rows, some 1e-6 of the logits.

    Attributes:
        host_may_read: whether steps may read values on the host: on a GPU that would synchronize,
            and a CUDA graph cannot record it.
    """

    host_may_read: bool = False

    @abstractmethod
    def write(self, slots: Tensor, state: State) -> None:
        """Put the rows of `state` into slots [B]; replacing what was there."""

    @abstractmethod
    def read(self, slots: Tensor) -> State:
        """Copy the states of slots [B] out; later steps do not change the copy."""

    @abstractmethod
    def advance(self, slots: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Give the streams in slots [B] their next tokens [B, F]; return logits [B, N_f] by field.

        The logits may be overwritten by the next call.
        """

    def get_ready(  # noqa: B027 (most pools are)
        self, slots: Tensor, tokens: Tensor, sampler: Sampler | None = None
    ) -> None:
        """Wait until calls with such arguments can be as fast as they will ever be.

        They can be made at any time. On a GPU the first ones are slower, unless this was called.
        """

    def run(self, slots: Tensor, tokens: Tensor, sampler: Sampler, n_steps: int = 1) -> Tensor:
        """Make steps with a draw after each, which the next one takes.

        Args:
            slots: [B], of the pool and of the sampler alike.
            tokens: what the streams take first [B, F].
            sampler: draws, and keeps the history of the draws.
            n_steps: how many steps.

        Returns:
            What was drawn, ids [n_steps, B, F]; the last ones have not been taken yet.
        """
        drawn = []
        for _ in range(n_steps):
            tokens = sampler.draw(self.advance(slots, tokens), slots)
            drawn.append(tokens)
        return torch.stack(drawn)


class SumsPool(Pool):
    """States of causal-linear attention as tensors with a slot dimension.

    Attributes:
        S, Z: sums [L, C, H, K, V] and [L, C, H, K], float32.
        recent: last embeddings [C, W - 1, D], oldest first.
        position: index of the next token [C], int64.
        origin: the position at which that index began [C], int64.
        held: number of the mark in force in each group [C, G], int64.
    """

    def __init__(self, empty: State):
        """Hold as many slots as `empty`, an initial state, has rows; its tensors are kept."""
        self.S, self.Z = empty.S, empty.Z
        self.recent = empty.recent
        self.position, self.origin, self.held = empty.position, empty.origin, empty.held

    def everything(self) -> State:
        """Return the states of all slots as they are stored: steps change them."""
        return State((self.S, self.Z), self.recent, self.position, self.origin, self.held)

    def write(self, slots: Tensor, state: State) -> None:
        """Put the rows of `state` into slots [B]."""
        self.S[:, slots], self.Z[:, slots] = state.S, state.Z
        self.recent[slots] = state.recent
        self.position[slots], self.origin[slots] = state.position, state.origin
        self.held[slots] = state.held

    def read(self, slots: Tensor) -> State:
        """Copy the states of slots [B] out."""
        return State(
            (self.S[:, slots], self.Z[:, slots]),
            self.recent[slots],
            self.position[slots],
            self.origin[slots],
            self.held[slots],
        )
