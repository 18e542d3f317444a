"""Tokens in, logits out: one embedding table and one linear head per field.

Legend: B rows, T positions, F fields, D model width, N_f vocabulary of a field.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """The sum of the embeddings of a token's fields."""

    def __init__(self, sizes: Sequence[int], d_model: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, d_model) for size in sizes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed tokens [..., F] -> [..., D]."""
        return sum(table(tokens[..., f]) for f, table in enumerate(self.tables))


class OutputHead(nn.Module):
    """Unnormalised scores for the next token, field by field."""

    def __init__(self, sizes: Sequence[int], d_model: int):
        super().__init__()
        linears = [nn.Linear(d_model, size) for size in sizes]
        for linear in linears:
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.linears = nn.ModuleList(linears)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Score hidden values [..., D] -> one tensor [..., N_f] per field."""
        return tuple(linear(x) for linear in self.linears)


class ShortConvolution(nn.Module):
    """A causal convolution over the input embeddings, added to them.

    Linear attention has no sharp way to look a few tokens back; this gives it one (as the short
    convolutions of H3, Mamba and gated linear attention do). Width W: the token and W - 1 earlier.
    """

    def __init__(self, d_model: int, width: int):
        super().__init__()
        self.width = width
        self.convolution = nn.Conv1d(d_model, d_model, width)

    def forward(self, x: Tensor, recent: Tensor, positions: Tensor | None = None) -> Tensor:
        """Mix x [B, T, D] after `recent` [B, W - 1, D] -> [B, T, D]; one position is T = 1.

        With `positions` [B, T], what lies before position 0 of a segment counts as zero.
        """
        context = torch.cat([recent, x], dim=1)  # [B, W - 1 + T, D]
        if positions is None and x.device.type == "cpu":
            return x + self.convolution(context.transpose(1, 2)).transpose(1, 2)
        # On a GPU it is a matrix product too: cuDNN convolves float32 in TF32 by default.
        seen = context.unfold(1, self.width, 1)  # [B, T, D, W]
        if positions is not None:
            back = torch.arange(self.width - 1, -1, -1, device=x.device)
            seen = seen * (positions[..., None] >= back).unsqueeze(2)
        weight, bias = self.convolution.weight, self.convolution.bias
        return x + F.linear(seen.flatten(2), weight.flatten(1), bias)
