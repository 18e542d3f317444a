"""The slots of running streams: a pool and a sampler.

Legend: C slots, B rows, F fields.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import torch

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.guided import Guide, guided_logits
from seqgen.decoding.session import Session
from seqgen.model.state import State
from seqgen.sampling import Sampler, SamplerState


class Slots:
    """Room for C streams, each with its state, the token it takes next, and its sampling.

    A guided stream takes two slots; it is called by the first.
    """

    def __init__(self, decoder: Decoder, n_slots: int, *, scored: bool):
        vocabulary, self._device = decoder.vocabulary, decoder.device
        self._decoder = decoder
        self._pool = decoder.open(n_slots)
        self._sampler = Sampler(
            vocabulary, n_slots, device=self._device, scored=scored, chain=decoder.chain
        )
        self._tokens = np.zeros((n_slots, len(vocabulary.fields)), dtype=np.int64)
        self._free = list(range(n_slots))  # a heap
        self._second: dict[int, int] = {}  # other slots of guided streams, by their first
        self._scale: dict[int, float] = {}  # of guided streams, by their first slot
        # Slots and next tokens of the last run, as long as they are those of the next one too.
        self._batch: tuple[list[int], torch.Tensor, torch.Tensor] | None = None

    @property
    def n_slots(self) -> int:
        """How many slots there are."""
        return len(self._tokens)

    @property
    def n_free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def take(self, *, is_guided: bool = False) -> int:
        """Reserve the first free slot and return it; with guidance, the first two."""
        slot = heapq.heappop(self._free)
        if is_guided:
            self._second[slot] = heapq.heappop(self._free)
        return slot

    def write(
        self,
        slot: int,
        state: State,
        sampler: SamplerState,
        *,
        pending: np.ndarray,
        guide: Guide | None = None,
    ) -> None:
        """Put a stream into a slot; nothing of what was there before remains.

        Args:
            slot: one that was taken.
            state: of one row, on any device; it is copied.
            sampler: what its draws depend on.
            pending: the token [F] that is taken next.
            guide: of a guided stream.
        """
        self._pool.write(self._index([slot]), state.to(self._device))
        self._sampler.restore(slot, sampler)
        self._tokens[slot] = pending
        self._batch = None
        if guide is not None:
            second = self._second[slot]
            self._pool.write(self._index([second]), guide.state.to(self._device))
            self._tokens[second] = guide.pending
            self._scale[slot] = guide.scale

    def read(self, slot: int) -> Session:
        """Return a copy of the complete state of a slot's stream."""
        second = self._second.get(slot)
        guide = None
        if second is not None:
            guide = Guide(*self._stream(second), self._scale[slot])
        state, pending = self._stream(slot)
        return Session(
            state=state,
            pending=pending,
            sampler=self._sampler.state(slot),
            fingerprint=self._decoder.fingerprint,
            decay_after=self._decoder.decay_after,
            guide=guide,
        )

    def log_likelihood(self, slot: int) -> float:
        """Of all tokens that a slot's stream has drawn, in nats."""
        return float(self._sampler.log_likelihood[slot])

    def leave(self, slot: int) -> None:
        """Free a slot that was taken."""
        self._sampler.leave(slot)
        heapq.heappush(self._free, slot)
        if slot in self._second:
            heapq.heappush(self._free, self._second.pop(slot))
            self._scale.pop(slot, None)
        self._batch = None

    def run(self, slots: Sequence[int], n_steps: int) -> np.ndarray:
        """Let the streams in `slots` make steps with a draw after each.

        Returns:
            What was drawn, ids [n_steps, B, F], not to be changed.
        """
        guided = [slot for slot in slots if slot in self._second]
        if not guided:
            return self._run(list(slots), n_steps)
        # Apart, so that what the others draw does not depend on these.
        drawn = np.empty((n_steps, len(slots), self._tokens.shape[1]), dtype=np.int64)
        is_guided = np.isin(slots, guided)
        if len(guided) < len(slots):
            others = [slot for slot in slots if slot not in self._second]
            drawn[:, ~is_guided] = self._run(others, n_steps)
        for step in range(n_steps):
            drawn[step, is_guided] = self._run_guided(guided)
        return drawn

    def _run(self, slots: list[int], n_steps: int) -> np.ndarray:
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

    def _run_guided(self, slots: list[int]) -> np.ndarray:
        """Let guided streams make one step; return what was drawn [B, F]."""
        seconds = [self._second[slot] for slot in slots]
        both = self._index([*slots, *seconds])
        tokens = torch.from_numpy(self._tokens[[*slots, *seconds]]).to(self._device)
        scale = torch.tensor([[self._scale[slot]] for slot in slots], device=self._device)
        logits = guided_logits(self._pool.advance(both, tokens), scale)
        self._sampler.prepare(slots)
        drawn = self._sampler.draw(logits, both[: len(slots)]).cpu().numpy()
        self._tokens[slots] = self._tokens[seconds] = drawn
        return drawn

    def _stream(self, slot: int) -> tuple[State, np.ndarray]:
        """Return copies of the state in a slot, and of the token [F] that it takes next."""
        state = self._pool.read(self._index([slot])).to("cpu")
        return state, self._tokens[slot].copy()

    def _index(self, slots: list[int]) -> torch.Tensor:
        return torch.tensor(slots, device=self._device)
