"""The draw that follows the logits of every variant at one batch size and position.

Legend: B rows, F fields, N_f vocabulary of a field.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqgen.benchmark.model import BenchmarkModel
from seqgen.decoding.pool import Pool
from seqgen.sampling import Sampler, Sampling
from seqgen.vocabulary import Vocabulary

SAMPLING = Sampling(temperature=1.0, top_k=40)
NEVER = -1e6  # added to the logit of EOS


def endless_sampling(vocabulary: Vocabulary) -> Sampling:
    """Draw from the 40 most likely ids and never EOS, so that pieces have the length asked for."""
    return Sampling(top_k=40, logit_bias=((vocabulary.eos_id, NEVER),))


class Draws:
    """One sampler and B streams."""

    def __init__(self, model: BenchmarkModel, batch: int, *, sampling: Sampling = SAMPLING):
        vocabulary = model.model.vocabulary
        self.slots = torch.arange(batch, device=model.device)
        self._listed = list(range(batch))
        chain = model.model.lm_head.chain()
        self._sampler = Sampler(vocabulary, batch, device=model.device, chain=chain)
        prompt = np.full((1, len(vocabulary.sizes)), vocabulary.bos_id)
        for slot in self._listed:
            self._sampler.enter(slot, sampling, seed=(0, slot), prompt=prompt)

    def draw(self, logits: Sequence[Tensor]) -> Tensor:
        """Draw from logits [B, N_f] by field -> ids [B, F]."""
        self._sampler.prepare(self._listed, 1)
        return self._sampler.draw(logits, self.slots)

    def advance(self, pool: Pool, tokens: Tensor) -> Tensor:
        """Make a step of a pool with tokens [B, F] and a draw after it -> ids [B, F]."""
        self._sampler.prepare(self._listed, 1)
        return pool.run(self.slots, tokens, self._sampler, 1)[0]
