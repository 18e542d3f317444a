"""A model's weights as decoders take them: matrices that are multiplied together, stacked.

Legend: D model width, W convolution width, M outputs of a matrix, K its inputs, N_f vocabulary of a
field, N all of them, Q held marks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqgen.model.sequence_model import SequenceModel


@dataclass(frozen=True)
class Matrix:
    """y = A x + b, with A [M, K] and b [M] in float32."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Norm:
    """Weight and bias [D] of a layer norm."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class LayerWeights:
    """One layer: `qkv` gives queries, keys and values of all heads, one after the other.

    `decay` [H] is γ of each head in float32; None: its sums only grow.
    """

    decay: Tensor | None
    qkv: Matrix
    out: Matrix
    attention_norm: Norm
    up: Matrix
    down: Matrix
    feed_forward_norm: Norm


@dataclass(frozen=True)
class ModelWeights:
    """All of a model.

    Attributes:
        tables: embeddings [N_f, D], one for each field.
        held: vectors of marks that stay in force [1 + Q, D], the first of them zeros; None: none.
        held_logits: what these add to the logits of all fields side by side [1 + Q, N].
        short_convolution: of the last W embeddings, oldest first, side by side; None without one.
        layers: from the first to the last.
        norm: after the last layer.
        lm_head: the output head: of all fields, one after the other.
    """

    tables: tuple[Tensor, ...]
    held: Tensor | None
    held_logits: Tensor | None
    short_convolution: Matrix | None
    layers: tuple[LayerWeights, ...]
    norm: Norm
    lm_head: Matrix


@torch.no_grad()
def read_weights(model: SequenceModel) -> ModelWeights:
    """Take a model's weights, in float32."""
    convolution, held = model.short_convolution, model.held
    lm_head = _stacked(*model.lm_head.linears)
    before, after = (None, None) if held is None else held.rows()
    return ModelWeights(
        tables=model.embedding.rows(),
        held=before,
        held_logits=None if after is None else after @ lm_head.weight.T,
        short_convolution=_as_matrix(convolution.convolution) if convolution else None,
        layers=tuple(_layer(layer) for layer in model.stack.layers),
        norm=_norm(model.stack.norm),
        lm_head=lm_head,
    )


def _layer(layer: Any) -> LayerWeights:
    """Take the weights of a layer of the library's stack."""
    attention = layer.attention
    decay = attention.inner_attention.decay
    return LayerWeights(
        decay=None if decay is None else decay().float(),
        qkv=_stacked(
            attention.query_projection, attention.key_projection, attention.value_projection
        ),
        out=_stacked(attention.out_projection),
        attention_norm=_norm(layer.norm1),
        up=_stacked(layer.linear1),
        down=_stacked(layer.linear2),
        feed_forward_norm=_norm(layer.norm2),
    )


def _stacked(*linears: nn.Linear) -> Matrix:
    if len(linears) == 1:
        return Matrix(linears[0].weight.float(), linears[0].bias.float())
    return Matrix(
        torch.cat([linear.weight for linear in linears]).float(),
        torch.cat([linear.bias for linear in linears]).float(),
    )


def _as_matrix(convolution: nn.Conv1d) -> Matrix:
    """Turn a convolution [D, D, W] into a matrix [D, W × D]."""
    return Matrix(
        convolution.weight.transpose(1, 2).flatten(1).float(),
        convolution.get_parameter("bias").float(),
    )


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(norm.weight.float(), norm.bias.float())
