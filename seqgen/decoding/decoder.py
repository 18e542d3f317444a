"""The interface of decoders: a model prepared to generate tokens.

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
    """A recurrent form that opens pools, in which streams continue step by step.

    Every decoder is tested against the `reference` one: the logits after the same tokens
    must agree at every position.

    Attributes:
        name: as in `--decoder`.
        weights: number format of the matrices in decode steps, as in `--weights`.
        supported_weights: the `weights` that it accepts.
        steps_per_call: steps that one call of `Pool.run` should make; 1 except on a GPU.
        chain: what the fields of a token say of later ones, as `OutputHead.chain`.
    """

    name: str
    supported_weights: tuple[str, ...] = ("float32",)
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
        if weights not in self.supported_weights:
            supported = ", ".join(self.supported_weights)
            raise UserError(
                f"weights = {weights}: the {self.name} decoder does not support them; it supports "
                f"{supported}"
            )
        super().__init__(model, decay_after, prefill=prefill)
        self.model, self.weights = model, weights
        self.chain = self.read_chain()

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the model: its decoders can exchange states and sessions."""
        return fingerprint(self.model)

    @abstractmethod
    def open(self, n_slots: int) -> Pool:
        """Return an empty pool for the states of `n_slots` streams."""

    def step(self, tokens: Tensor, state: State) -> tuple[Logits, State]:
        """Take tokens [B, F] and a state, which is not changed; return logits and the next state.

        For single steps; for many steps open a pool, where states are not copied.
        """
        pool, slots = self.open(state.n_rows), torch.arange(state.n_rows, device=self.device)
        pool.write(slots, state)
        return pool.advance(slots, tokens), pool.read(slots)
