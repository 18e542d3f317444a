"""The slots of running streams: a pool and a sampler.

Legend: C slots, B rows, F fields.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import torch

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.session import Session
from seqgen.model.state import State
from seqgen.sampling import Sampler, SamplerState


class Slots:
    """Room for C streams, each with its state, the token it takes next, and its sampling."""

    def __init__(self, decoder: Decoder, n_slots: int, *, scored: bool):
        vocabulary, self._device = decoder.vocabulary, decoder.device
        self._decoder = decoder
        self._pool = decoder.open(n_slots)
        self._sampler = Sampler(
            vocabulary, n_slots, device=self._device, scored=scored, chain=decoder.chain
        )
        self._tokens = np.zeros((n_slots, len(vocabulary.fields)), dtype=np.int64)
        self._free = list(range(n_slots))  # a heap
        # Slots and next tokens of the last run, as long as they are those of the next one too.
        self._batch: tuple[list[int], torch.Tensor, torch.Tensor] | None = None

    @property
    def n_free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def take(self) -> int:
        """Reserve the first free slot and return it."""
        return heapq.heappop(self._free)

    def write(self, slot: int, state: State, sampler: SamplerState, *, pending: np.ndarray) -> None:
        """Put a stream into a slot; nothing of what was there before remains.

        Args:
            slot: one that was taken.
            state: of one row, on any device; it is copied.
            sampler: what its draws depend on.
            pending: the token [F] that is taken next.
        """
        self._pool.write(self._index([slot]), state.to(self._device))
        self._sampler.restore(slot, sampler)
        self._tokens[slot] = pending
        self._batch = None

    def read(self, slot: int) -> Session:
        """Return a copy of the complete state of a slot's stream."""
        return Session(
            state=self._pool.read(self._index([slot])).to("cpu"),
            pending=self._tokens[slot].copy(),
            sampler=self._sampler.state(slot),
            fingerprint=self._decoder.fingerprint,
            decay_after=self._decoder.decay_after,
        )

    def log_likelihood(self, slot: int) -> float:
        """Of all tokens that a slot's stream has drawn, in nats."""
        return float(self._sampler.log_likelihood[slot])

    def leave(self, slot: int) -> None:
        """Free a slot that was taken."""
        self._sampler.leave(slot)
        heapq.heappush(self._free, slot)
        self._batch = None

    def run(self, slots: Sequence[int], n_steps: int) -> np.ndarray:
        """Let the streams in `slots` make steps with a draw after each.

        Returns:
            What was drawn, ids [n_steps, B, F], not to be changed.
        """
        slots = list(slots)
        if self._batch is None or self._batch[0] != slots:
            tokens = torch.from_numpy(self._tokens[slots]).to(self._device)
            self._batch = slots, self._index(slots), tokens
        _, index, tokens = self._batch
        self._sampler.prepare(slots, n_steps)
        drawn = self._pool.run(index, tokens, self._sampler, n_steps)
        self._batch = slots, index, drawn[-1]
        ids = drawn.cpu().numpy()
        self._tokens[slots] = ids[-1]
        return ids

    def _index(self, slots: list[int]) -> torch.Tensor:
        return torch.tensor(slots, device=self._device)
