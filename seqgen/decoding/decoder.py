"""The contract of decoders: a model made ready to generate, by whatever means.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

from seqgen.decoding.fingerprint import fingerprint
from seqgen.decoding.pool import Pool
from seqgen.errors import UserError
from seqgen.model.prefill import in_bfloat16, prefill
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.state import State
from seqgen.vocabulary import Vocabulary

Logits = tuple[Tensor, ...]  # [B, N_f], one for each field
PREFILLS = ("float32", "bf16")


class Decoder(ABC):
    """Prefills prompts in the parallel form, and opens pools in which streams go on step by step.

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
        window: int | None = None,
        prefill: str = "float32",
    ):
        """Take a model; arguments are those of `build_decoder`, and so are the errors."""
        if weights not in self.knows:
            raise UserError(
                f"the {self.name} decoder has no {weights} weights; it has {', '.join(self.knows)}"
            )
        if prefill not in PREFILLS:
            raise UserError(f"prefill = {prefill}: must be one of {', '.join(PREFILLS)}")
        self.model, self.weights = model, weights
        self.recurrent: RecurrentModel = model.recurrent(window=window)
        self._rounded = in_bfloat16(model) if prefill == "bf16" else None

    @cached_property
    def fingerprint(self) -> str:
        """Which model this is: states and sessions go from one decoder of it to another."""
        return fingerprint(self.model)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the model knows of tokens."""
        return self.recurrent.vocabulary

    @property
    def device(self) -> torch.device:
        """Where tokens, logits and states are."""
        return self.recurrent.device

    @property
    def max_positions(self) -> int | None:
        """Positions a row may reach, or None where there is no end."""
        return self.recurrent.max_positions

    @abstractmethod
    def open(self, n_slots: int) -> Pool:
        """Make room for the states of `n_slots` streams; nothing is in it yet."""

    def initial_state(self, n_rows: int) -> State:
        """Return the state before the first token, for B = `n_rows` rows."""
        return self.recurrent.initial_state(n_rows)

    def prefill(
        self, tokens: Tensor, lengths: Tensor, state: State | None = None
    ) -> tuple[Logits, State]:
        """Take prompts [B, T, F] of `lengths` [B], after `state` if given.

        Returns:
            Logits after each row's last token, and the state there. Pads enter no state.
        """
        if self._rounded is None or not len(tokens):
            return self.recurrent.prefill(tokens, lengths, state)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            logits, after = prefill(
                self._rounded, tokens, lengths, state, window=self.recurrent.window
            )
        return tuple(scores.float() for scores in logits), after

    def step(self, tokens: Tensor, state: State) -> tuple[Logits, State]:
        """Take tokens [B, F] and a state, which is not changed; return logits and the next state.

        For single steps; whoever makes many of them opens a pool, where states are not copied.
        """
        pool, slots = self.open(state.n_rows), torch.arange(state.n_rows, device=self.device)
        pool.write(slots, state)
        return pool.advance(slots, tokens), pool.read(slots)
