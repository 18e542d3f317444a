"""The recurrent form: one position per call, with a state; the weights are the parallel form's own.

Legend: L layers, B rows, T positions, F fields, H heads, K key width, V value width, D model width,
W input window, N_f vocabulary of a field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqgen.attention.kinds import KINDS, check_window
from seqgen.model.prefill import prefill
from seqgen.model.stack import build_recurrent, share_weights, stack_arguments
from seqgen.model.state import State

if TYPE_CHECKING:
    from seqgen.model.sequence_model import SequenceModel


class RecurrentModel:
    """Runs a `SequenceModel` step by step. Holds no parameters of its own, never trains.

    Move the parallel model to its device before making this one. Sums need float32: a model in
    another precision is copied to it, one in float32 is shared.

    Attributes:
        window: positions after which the sums fade, for streams longer than what was learned from;
            the formula is in `seqgen.attention.fading`. None: they never do.
    """

    def __init__(self, model: SequenceModel, window: int | None = None):
        """Take a model's weights; UserError where its attention cannot have such a window."""
        check_window(model.config.attention, window)
        self.window = window
        with torch.device("meta"):
            self._parallel = type(model)(model.config, model.vocabulary)
            self._stack = build_recurrent(stack_arguments(model.config))
        weights = {name: value.float() for name, value in model.state_dict().items()}
        self._parallel.load_state_dict(weights, strict=True, assign=True)
        self._parallel.to(next(model.parameters()).device)  # what is no weight
        share_weights(self._parallel.stack, self._stack)
        self._parallel.eval()
        self._stack.eval()
        self._kind = KINDS[model.config.attention]

    @property
    def config(self):
        """Sizes and choices of the model."""
        return self._parallel.config

    @property
    def vocabulary(self):
        """What the model knows of tokens."""
        return self._parallel.vocabulary

    @property
    def device(self) -> torch.device:
        """Where weights and states live."""
        return next(self._parallel.parameters()).device

    @property
    def max_positions(self) -> int | None:
        """Positions a row may reach, or None where there is no end."""
        return self._parallel.positions.limit

    def initial_state(self, n_rows: int) -> State:
        """Return the state before the first token, for B = `n_rows` rows."""
        c = self.config
        sizes = (c.n_layers, n_rows, c.n_heads, c.d_model // c.n_heads)
        return State(
            attention=self._kind.initial(sizes, c.feature_map, self.device),
            recent=torch.zeros(n_rows, self._parallel.n_recent, c.d_model, device=self.device),
            position=torch.zeros(n_rows, dtype=torch.long, device=self.device),
        )

    @torch.no_grad()
    def step(self, tokens: Tensor, state: State) -> tuple[tuple[Tensor, ...], State]:
        """Take one token per row and score the next.

        Args:
            tokens: ids [B, F].
            state: what came before; it is not changed.

        Returns:
            Logits [B, N_f], one tensor per field, and the new state.
        """
        if not len(tokens):
            return self._no_logits(), state
        tokens, positions = tokens.unsqueeze(1), state.position.unsqueeze(1)
        origins = self._parallel.positions.origins(tokens, positions, state.origin)
        x, recent = self._parallel.embed(tokens, positions, state.recent, origins=origins)
        hidden, attention = self._kind.step(
            state.attention,
            state.position,
            lambda layers: self._stack(x.squeeze(1), layers)[0],
            self.window,
        )
        new_state = State(attention, recent[:, 1:], state.position + 1, origins[:, 0])
        return self._parallel.heads(hidden), new_state

    @torch.no_grad()
    def prefill(
        self, tokens: Tensor, lengths: Tensor, state: State | None = None
    ) -> tuple[tuple[Tensor, ...], State]:
        """Take whole prompts in the parallel form: what stepping through them gives, sooner.

        Args:
            tokens: ids [B, T, F], each row padded at its end with anything.
            lengths: prompt length of each row [B], at least 1.
            state: what came before the prompts; None: nothing. It is not changed.

        Returns:
            Logits [B, N_f] for the token after each prompt, one tensor per field, and the state.
        """
        if not len(tokens):
            return self._no_logits(), self.initial_state(0)
        return prefill(self._parallel, tokens, lengths, state, window=self.window)

    def _no_logits(self) -> tuple[Tensor, ...]:
        """Logits [0, N_f] of no rows: the library's layers cannot be run on none."""
        return tuple(torch.empty(0, size, device=self.device) for size in self.vocabulary.sizes)
