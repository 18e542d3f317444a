"""A model that reads a source in both directions, and writes a target given it.

The source goes through an encoder of its own, whose output each decoder layer turns into keys and
values and sums up (`attention.source`). Those sums are all that a target needs of its source: they
are a part of the state before its first token, and from there on it is a model like the other.

Legend: L layers, B rows, T positions of the target, U of the source, F fields, D model width, H
heads, K key width, V value width.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.rows import PassRows
from seqgen.config import ModelConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_parallel, encoder_arguments, run_encoder, sum_source
from seqgen.model.state import State
from seqgen.vocabulary import Vocabulary


class EncoderDecoder(SequenceModel):
    """A `SequenceModel` whose layers also attend to a source; both share the input embedding."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary):
        super().__init__(config, vocabulary)
        self.encoder = build_parallel(encoder_arguments(config))

    def initial_state(self, n_rows: int) -> State:
        """Return the state before the first token of targets without a source."""
        state, c = super().initial_state(n_rows), self.config
        V = c.d_model // c.n_heads
        K = FEATURE_MAPS[c.feature_map].width(V)
        S = torch.zeros(c.n_layers, n_rows, c.n_heads, K, V, device=state.recent.device)
        return replace(state, source=(S, S.new_zeros(S.shape[:-1])))

    def begin(self, source: Tensor, lengths: Tensor) -> State:
        """Return the state before the first token of a target: with the sums of its source."""
        memory = self.encode(source, lengths)
        sums = sum_source(self.stack, memory, lengths)
        return replace(self.initial_state(len(source)), source=sums)

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        """Read sources [B, U, F] of `lengths` [B] in both directions -> [B, U, D]."""
        positions = torch.arange(source.shape[1], device=source.device)
        in_force = self.in_force(source)
        x, _ = self.embed(
            *(source, positions),
            origins=self.positions.origins(source, positions),
            in_force=in_force,
        )
        rows = PassRows(*source.shape[:2], device=source.device, lengths=lengths)
        return run_encoder(self.encoder, x, rows, recompute=self.recompute and self.training)

    def run(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        *,
        state: State | None = None,
        **options: Any,
    ) -> tuple[Tensor, State | None]:
        """Run rows of targets after `begin`; see `SequenceModel.run`. None: without a source."""
        state = self.initial_state(tokens.shape[0]) if state is None else state
        return super().run(tokens, lengths, state=state, **options)


def build_model(config: ModelConfig, vocabulary: Vocabulary) -> SequenceModel:
    """Build the model that `model.kind` names, with random weights."""
    kinds = {"decoder": SequenceModel, "encoder-decoder": EncoderDecoder}
    return kinds[config.kind](config, vocabulary)
