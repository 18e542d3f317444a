"""The state of a stream's sampling, as a value.

Legend: T positions, F fields, N ids of all fields side by side, R registers of the grammar.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from seqgen.sampling.settings import Sampling
from seqgen.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class SamplerState:
    """What a stream's next draws depend on; tensors are on the CPU.

    Attributes:
        sampling: the settings.
        seed: of the stream's random numbers.
        drawn: how many draws were made.
        seen: ids of the prompt and of what was drawn [N], bool.
        counts: how often each id was drawn [N], int32.
        previous: the first field of the last token.
        has_unit: whether the stream holds a whole unit.
        registers: of the grammar, R numbers.
        log_likelihood: of what was drawn, in nats; 0 where the sampler does not score.
    """

    sampling: Sampling
    seed: tuple[int, ...]
    drawn: int
    seen: Tensor
    counts: Tensor
    previous: int
    has_unit: bool
    registers: tuple[int, ...]
    log_likelihood: float

    @classmethod
    def first(
        cls,
        vocabulary: Vocabulary,
        sampling: Sampling,
        *,
        seed: Sequence[int],
        prompt: np.ndarray,
    ) -> "SamplerState":
        """Return the state before the first draw, after a prompt [T, F].

        Raises:
            ValueError: the prompt is empty; it should hold BOS at least.
        """
        if len(prompt) == 0:
            raise ValueError("a stream needs a prompt, BOS at least")
        places = vocabulary.side_by_side(prompt)
        seen = torch.zeros(sum(vocabulary.sizes), dtype=torch.bool)
        seen[torch.from_numpy(places)] = True
        grammar = vocabulary.grammar
        return cls(
            sampling,
            seed=tuple(int(part) for part in seed),
            drawn=0,
            seen=seen,
            counts=torch.zeros(len(seen), dtype=torch.int32),
            previous=int(prompt[-1, 0]),
            has_unit=grammar is None or bool(grammar.completes_unit[prompt[:, 0]].any()),
            registers=() if grammar is None else grammar.registers_after(places),
            log_likelihood=0.0,
        )

    def after(self, vocabulary: Vocabulary, tokens: np.ndarray) -> "SamplerState":
        """Return the state after tokens [T, F], T ≥ 1, that were given and not drawn.

        They are seen as a prompt is: no random number is used, and they do not count as drawn.
        """
        places = vocabulary.side_by_side(tokens)
        seen = self.seen.clone()
        seen[torch.from_numpy(places)] = True
        grammar = vocabulary.grammar
        if grammar is None:
            return replace(self, seen=seen, previous=int(tokens[-1, 0]))
        return replace(
            self,
            seen=seen,
            previous=int(tokens[-1, 0]),
            has_unit=self.has_unit or bool(grammar.completes_unit[tokens[:, 0]].any()),
            registers=grammar.registers_after(places, self.registers),
        )
