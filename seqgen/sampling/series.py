"""Random numbers of streams, drawn on the host ahead of use.

Legend: C slots, F fields.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 256  # draws whose numbers are made at once
RING = 2 * BLOCK


class Series:
    """A series of random numbers for the stream in each slot: F for each draw.

    Block b of a stream is `np.random.default_rng([*seed, b]).random((BLOCK, F))`, so the numbers of
    draw n depend on the seed and n alone. Two blocks of a stream are there at a time, in a ring:
    the next one can be made while numbers of the one before are still to be used.

    Attributes:
        numbers: [C, RING, F] float64 in [0, 1) on the device; draw n uses row `n % RING`.
        seeds: of each slot.
    """

    def __init__(self, n_slots: int, n_fields: int, *, device: torch.device | str):
        self.numbers: Tensor = torch.zeros(
            n_slots, RING, n_fields, dtype=torch.float64, device=device
        )
        self.seeds: list[tuple[int, ...]] = [()] * n_slots
        self._drawn = [0] * n_slots
        self._n_blocks = [0] * n_slots  # made so far

    def start(self, slot: int, seed: Sequence[int], *, drawn: int = 0) -> None:
        """Start the series of another stream in a slot, after its first `drawn` draws."""
        self.seeds[slot] = tuple(int(part) for part in seed)
        self._drawn[slot] = drawn
        self._n_blocks[slot] = drawn // BLOCK

    def prepare(self, slots: Sequence[int], n_steps: int) -> None:
        """Copy the numbers of the next `n_steps` draws (up to BLOCK) of slots to the device."""
        for slot in slots:
            self._drawn[slot] += n_steps
            while self._n_blocks[slot] * BLOCK < self._drawn[slot]:
                self._make(slot, self._n_blocks[slot])
                self._n_blocks[slot] += 1

    def _make(self, slot: int, block: int) -> None:
        rng = np.random.default_rng([*self.seeds[slot], block])
        numbers = torch.from_numpy(rng.random((BLOCK, self.numbers.shape[-1])))
        if self.numbers.is_cuda:
            numbers = numbers.pin_memory()  # otherwise the host would wait for the device
        first = block * BLOCK % RING
        self.numbers[slot, first : first + BLOCK].copy_(numbers, non_blocking=True)
