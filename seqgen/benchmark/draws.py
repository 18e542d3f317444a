"""The draw that follows the logits of every variant at one batch size and position.

Legend: B rows, F fields, N_f vocabulary of a field.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.timing import Call
from seqgen.decoding.cuda import CudaRecorder, GraphPool, draw_kernel
from seqgen.decoding.pool import Pool
from seqgen.model.state import State
from seqgen.sampling import Sampler, Sampling
from seqgen.vocabulary import Vocabulary

SAMPLING = Sampling(temperature=1.0, top_k=40)
NEVER = -1e6  # added to the logit of EOS


def endless_sampling(vocabulary: Vocabulary) -> Sampling:
    """Draw from the 40 most likely ids and never EOS, so that pieces have the length asked for."""
    return Sampling(top_k=40, logit_bias=((vocabulary.eos_id, NEVER),))


def at_its_best(pool: Pool, device: torch.device) -> Pool:
    """On a GPU, make the steps of a peer CUDA graphs, as those of the cuda decoder are."""
    return GraphPool(pool, CudaRecorder(device)) if device.type == "cuda" else pool


class Draws:
    """One sampler and B streams."""

    def __init__(self, model: BenchmarkModel, batch: int, *, sampling: Sampling = SAMPLING):
        vocabulary = model.model.vocabulary
        self._limited = model.limit is not None
        self.slots = torch.arange(batch, device=model.device)
        self._listed = list(range(batch))
        chain = model.model.lm_head.chain()
        self._sampler = Sampler(vocabulary, batch, device=model.device, chain=chain)
        kernel = draw_kernel(vocabulary) if model.device.type == "cuda" else None
        self._sampler.draw_by = None if kernel is None else kernel.draw  # also for peers
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

    def call(self, pool: Pool, last: Tensor, state: State, *, again: bool = False) -> Call:
        """Make a call of steps of a pool that stands where `state` does, with tokens `last` [B, F].

        Steps continue from each other, unless they end (learned positions) or `again` is given:
        then the state is written before each step, outside the timed part.
        """
        begin = partial(pool.write, self.slots, state)
        begin()
        prepare = begin if again or self._limited else lambda: None
        if self.slots.device.type == "cuda":  # a graph is recorded in the second call
            pool.get_ready(self.slots, last, self._sampler)
            for _ in range(2):
                prepare()
                self.advance(pool, last)
        return Call(lambda _: self.advance(pool, last), prepare)
