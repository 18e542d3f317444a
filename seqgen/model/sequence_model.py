"""The parallel form: all positions at once, used to train and to prefill. It owns every parameter.

Legend: B rows, T positions, F fields, D model width, N_f vocabulary of a field.
"""

import torch
from torch import Tensor, nn

from seqgen.config import ModelConfig
from seqgen.model.dropout import ByteDropout
from seqgen.model.embedding import FieldEmbedding, FieldHeads, InputWindow
from seqgen.model.positions import build_positions
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.stack import build_parallel, run_parallel, stack_arguments
from seqgen.vocabulary import Vocabulary


class SequenceModel(nn.Module):
    """embedding → positions → input window → causal-linear stack → one head per field."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary):
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.embedding = FieldEmbedding(vocabulary.sizes, config.d_model)
        self.positions = build_positions(
            config.positions, config.d_model, limit=config.max_positions
        )
        self.input_window = (
            InputWindow(config.d_model, config.input_window) if config.input_window else None
        )
        self.dropout = ByteDropout(config.dropout)
        self.stack = build_parallel(stack_arguments(config))
        self.heads = FieldHeads(vocabulary.sizes, config.d_model)

    @property
    def n_recent(self) -> int:
        """Earlier embeddings that the input window sees: W - 1, or 0 without a window."""
        return max(self.config.input_window - 1, 0)

    def embed(
        self, tokens: Tensor, positions: Tensor, recent: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Turn tokens [B, T, F] at positions [B, T] or [T] into the stack's input.

        Both forms go through here; the recurrent one passes T = 1 and its `recent` embeddings.

        Returns:
            The input [B, T, D], and `recent` followed by the raw embeddings [B, W - 1 + T, D].
        """
        raw = self.embedding(tokens)
        if recent is None:
            recent = raw.new_zeros(raw.shape[0], self.n_recent, raw.shape[2])
        x = raw if self.input_window is None else self.input_window(raw, recent)
        return self.dropout(self.positions(x, positions)), torch.cat([recent, raw], dim=1)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        """Score the next token at every position.

        Args:
            tokens: ids [B, T, F].
            lengths: valid positions of each row [B]; None: all of them.

        Returns:
            Logits [B, T, N_f], one tensor per field. Values past a row's length mean nothing.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x, _ = self.embed(tokens, positions)
        return self.heads(run_parallel(self.stack, x, lengths))

    def recurrent(self) -> RecurrentModel:
        """Return the recurrent form on the same storage: later training steps show in it."""
        return RecurrentModel(self)
