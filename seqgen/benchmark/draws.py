"""What all variants of a place do with their logits: the same draw, or nothing.

Legend: B rows, F fields, N_f vocabulary of a field.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqgen.benchmark.subject import Subject
from seqgen.decoding.pool import Pool
from seqgen.sampling import Sampler, Sampling

SAMPLING = Sampling(temperature=1.0, top_k=40)


class Draws:
    """One sampler and B streams."""

    def __init__(self, subject: Subject, batch: int, *, sampling: Sampling = SAMPLING):
        vocabulary = subject.model.vocabulary
        self.slots = torch.arange(batch, device=subject.device)
        self._listed = list(range(batch))
        self._sampler = Sampler(vocabulary, batch, device=subject.device)
        prompt = np.full((1, len(vocabulary.sizes)), vocabulary.bos_id)
        for slot in self._listed:
            self._sampler.enter(slot, sampling, seed=(0, slot), prompt=prompt)

    def finish(self, logits: Sequence[Tensor]) -> Tensor:
        """Draw from logits [B, N_f] by field -> ids [B, F]."""
        self._sampler.prepare(self._listed, 1)
        return self._sampler.draw(logits, self.slots)

    def advance(self, pool: Pool, tokens: Tensor) -> Tensor:
        """Make a step of a pool with tokens [B, F] and a draw after it -> ids [1, B, F]."""
        self._sampler.prepare(self._listed, 1)
        return pool.run(self.slots, tokens, self._sampler, 1)


class NoDraws:
    """B streams whose logits are left as they are."""

    def __init__(self, subject: Subject, batch: int):
        self.slots = torch.arange(batch, device=subject.device)

    def finish(self, logits: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the logits."""
        return logits

    def advance(self, pool: Pool, tokens: Tensor) -> Sequence[Tensor]:
        """Make a step of a pool with tokens [B, F] -> logits [B, N_f] by field."""
        return pool.advance(self.slots, tokens)
