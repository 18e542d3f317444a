"""The contract of decoders: a model made ready to generate, by whatever means.

Legend: B rows, F fields.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from seqgen.decoding.fingerprint import fingerprint
from seqgen.decoding.pool import Pool
from seqgen.errors import UserError
from seqgen.model.recurrent_model import Logits, RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.state import State


class Decoder(RecurrentModel, ABC):
    """A recurrent form that opens pools, in which streams go on step by step.

    Every decoder is held to the `reference` one: logits after the same tokens, at every position.

    Attributes:
        name: as in `--decoder`.
        weights: what the matrices are kept in for steps, as in `--weights`.
        steps_per_call: steps that `Pool.run` should be asked for at once; 1 but on a GPU.
    """

    name: str
    knows: tuple[str, ...] = ("float32",)  # weights that it takes
    steps_per_call: int = 1

    def __init__(
        self,
        model: SequenceModel,
        weights: str = "float32",
        *,
        decay_after: int | None = None,
        prefill: str = "float32",
    ):
        """Take a model; arguments are those of `build_decoder`, and so are the errors."""
        if weights not in self.knows:
            raise UserError(
                f"the {self.name} decoder has no {weights} weights; it has {', '.join(self.knows)}"
            )
        super().__init__(model, decay_after, prefill=prefill)
        self.model, self.weights = model, weights

    @cached_property
    def fingerprint(self) -> str:
        """Which model this is: states and sessions go from one decoder of it to another."""
        return fingerprint(self.model)

    @abstractmethod
    def open(self, n_slots: int) -> Pool:
        """Make room for the states of `n_slots` streams; nothing is in it yet."""

    def step(self, tokens: Tensor, state: State) -> tuple[Logits, State]:
        """Take tokens [B, F] and a state, which is not changed; return logits and the next state.

        For single steps; whoever makes many of them opens a pool, where states are not copied.
        """
        pool, slots = self.open(state.n_rows), torch.arange(state.n_rows, device=self.device)
        pool.write(slots, state)
        return pool.advance(slots, tokens), pool.read(slots)
