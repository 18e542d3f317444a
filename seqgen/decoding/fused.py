"""The `torch` decoder: plain PyTorch with fused matrices and states that are updated in place.

Legend: L layers, C slots, B rows, F fields, H heads, K key width, V value width, D model width,
W convolution width, N_f vocabulary of a field.
"""

from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.attention.decay import decay_factor
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.config import ModelConfig
from seqgen.decoding.decoder import Decoder, Logits
from seqgen.decoding.linear import WEIGHTS, Linear, prepare
from seqgen.decoding.matrices import LayerWeights, Norm, read_weights
from seqgen.decoding.pool import Pool, SumsPool
from seqgen.errors import UserError
from seqgen.model.positions import LearnedPositions
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.state import State
from seqgen.vocabulary import Vocabulary

EPS = 1e-6  # of the library's recurrent attention


class TorchDecoder(Decoder):
    """Steps of plain tensor operations, for causal-linear attention; on any device.

    Weights are read once: later training does not change the decoder. Activations and sums are
    always float32.

    Attributes:
        network: the prepared matrices.
    """

    name = "torch"
    supported_weights = WEIGHTS

    def __init__(self, model: SequenceModel, weights: str = "float32", **choices):
        """Read a model's weights.

        Raises:
            UserError: the model's attention is not supported, or `weights` are not available here.
        """
        super().__init__(model, weights, **choices)
        if model.config.attention != "causal-linear":
            raise UserError(
                f"decoder {self.name}: model.attention={model.config.attention} is not supported: "
                f"use the decoder reference"
            )
        self.network = Network.read(model, weights)

    def open(self, n_slots: int) -> Pool:
        """Make room for the states of `n_slots` streams."""
        return TorchPool(self, n_slots)


@dataclass(frozen=True)
class Layer:
    """One layer; see `LayerWeights`. `up` includes the activation."""

    decay: Tensor | None
    qkv: Linear
    out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    feed_forward_norm: Norm

    @classmethod
    def read(cls, layer: LayerWeights, weights: str, activation: str) -> "Layer":
        """Prepare a layer's matrices."""
        return cls(
            decay=layer.decay,
            qkv=prepare(layer.qkv, weights),
            out=prepare(layer.out, weights),
            attention_norm=layer.attention_norm,
            up=prepare(layer.up, weights, activation=activation),
            down=prepare(layer.down, weights),
            feed_forward_norm=layer.feed_forward_norm,
        )


@dataclass(frozen=True)
class Network:
    """All of a model; see `ModelWeights`."""

    tables: tuple[Tensor, ...]
    held: Tensor | None
    held_logits: Tensor | None
    short_convolution: Linear | None
    layers: tuple[Layer, ...]
    norm: Norm
    lm_head: Linear

    @classmethod
    @torch.no_grad()
    def read(cls, model: SequenceModel, weights: str) -> "Network":
        """Read a model and prepare its matrices."""
        read, activation = read_weights(model), model.config.activation
        convolution = read.short_convolution
        return cls(
            tables=read.tables,
            held=read.held,
            held_logits=read.held_logits,
            short_convolution=prepare(convolution, weights) if convolution else None,
            layers=tuple(Layer.read(layer, weights, activation) for layer in read.layers),
            norm=read.norm,
            lm_head=prepare(read.lm_head, weights),
        )


@dataclass(frozen=True)
class Active:
    """The rows of one step.

    Attributes:
        slots: of each row [B].
        rows: the same, as a slice where they are consecutive and the host may read them.
        sums: of each layer, where `rows` is a slice: the rows' S [B H, K, V] and Z [B H, K, 1], in
            their place.
        decay: factors γ of the sums before the step [B], besides the decays of the heads; None: 1.
    """

    slots: Tensor
    rows: slice | Tensor
    sums: tuple[tuple[Tensor, Tensor], ...] = ()
    decay: Tensor | None = None


class NetworkDecoder(Protocol):
    """What `TorchPool` needs of a decoder: the model, and its matrices prepared for PyTorch."""

    model: SequenceModel
    decay_after: int | None

    @property
    def config(self) -> ModelConfig: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def network(self) -> Network: ...

    def initial_state(self, n_rows: int) -> State: ...


class TorchPool(SumsPool):
    """States that are changed in place: consecutive slots without a copy."""

    def __init__(self, decoder: NetworkDecoder, n_slots: int, *, states: SumsPool | None = None):
        """Make room for `n_slots` streams, or step those that `states` holds."""
        super().__init__(decoder.initial_state(n_slots) if states is None else states.everything())
        self.decoder, self.network = decoder, decoder.network
        config = decoder.config
        self.n_heads, self.feature_map = config.n_heads, FEATURE_MAPS[config.feature_map]
        self.decay_after = decoder.decay_after
        self._positions, self._sizes = decoder.model.positions, decoder.vocabulary.sizes
        self._marks = decoder.model.held
        self.host_may_read = self.S.device.type == "cpu"
        self._last = Active(self.position, slice(0))

    def compile(self, slots: Tensor, tokens: Tensor) -> None:
        """Compile the kernels of steps of as many slots [B], with tokens [B, F].

        Nothing is computed. Other threads may make steps meanwhile.
        """

    @torch.no_grad()
    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give the streams in slots [B] their next tokens [B, F]; return logits [B, N_f] by field.

        On a CPU, ValueError for positions beyond the learned ones. On a GPU the check would
        synchronize, so the caller must check; positions beyond get the last one.
        """
        if not len(slots):
            return self.S.new_empty(0, sum(self._sizes)).split(self._sizes, dim=-1)
        active = self._active(slots)
        logits = self._score(self._embed(tokens, active), active)
        if self.network.held_logits is not None:
            in_force = self.held[active.rows]
            logits = logits + F.embedding(in_force, self.network.held_logits).sum(1)
        return logits.split(self._sizes, dim=-1)

    def _score(self, x: Tensor, active: Active) -> Tensor:
        """Run all layers on x [B, D], and the output head: logits [B, N] of all fields."""
        return self.network.lm_head(normalize(self.run_layers(x, active), self.network.norm))

    def run_layers(self, x: Tensor, active: Active) -> Tensor:
        """Run all layers on x [B, D]."""
        for i, layer in enumerate(self.network.layers):
            x = x + layer.out(self.attend(i, layer.qkv(x), active))
            x = normalize(x, layer.attention_norm)
            x = x + layer.down(layer.up(x))
            x = normalize(x, layer.feed_forward_norm)
        return x

    def attend(self, layer: int, qkv: Tensor, active: Active) -> Tensor:
        """Add the present position to a layer's sums, and attend.

        Args:
            layer: 0 to L - 1.
            qkv: queries, keys and values of all heads, side by side [B, 3 D].
            active: the rows; their sums of this layer are changed.

        Returns:
            [B, D], heads side by side.
        """
        B, H = len(qkv), self.n_heads
        D = qkv.shape[1] // 3
        qk, v = qkv.split([2 * D, D], dim=1)
        q, k = self.feature_map(qk.view(B, 2, H, -1)).transpose(1, 2).flatten(0, 1).split(1, dim=1)
        S, Z = active.sums[layer] if active.sums else self._gather(layer, active.slots)
        for gamma in (active.decay, self.network.layers[layer].decay):
            if gamma is not None:  # of rows [B], or of heads [H]
                gamma = (gamma[:, None] if gamma is active.decay else gamma).expand(B, H)
                gamma = gamma.reshape(-1, 1, 1)
                S.mul_(gamma)
                Z.mul_(gamma)
        k = k.transpose(1, 2)  # [B H, K, 1]; q is [B H, 1, K]
        # Both are products of matrices, so that each thread finds its part of S in its own cache.
        S.baddbmm_(k, v.reshape(B * H, 1, -1))
        Z.add_(k)
        out = torch.bmm(q, S).div_(torch.bmm(q, Z).add_(EPS))  # [B H, 1, V]
        if not active.sums:
            self.S[layer].index_copy_(0, active.slots, S.view(B, *self.S.shape[2:]))
            self.Z[layer].index_copy_(0, active.slots, Z.view(B, *self.Z.shape[2:]))
        return out.view(B, D)

    def _gather(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Copy a layer's sums of slots [B], in the shapes of `Active.sums`."""
        S, Z = self.S[layer].index_select(0, slots), self.Z[layer].index_select(0, slots)
        return S.flatten(0, 1), Z.flatten(0, 1).unsqueeze(2)

    def _active(self, slots: Tensor) -> Active:
        """Return the rows and the decay of their sums."""
        active = self._in_place(slots) if self.host_may_read else Active(slots, slots)
        if self.decay_after is None:
            return active
        return replace(active, decay=decay_factor(self.position[active.rows], self.decay_after))

    def _in_place(self, slots: Tensor) -> Active:
        """Find consecutive slots; those of the last step are reused."""
        listed = slots.tolist()
        first, end = listed[0], listed[0] + len(listed)
        if listed != list(range(first, end)):
            return Active(slots, slots)
        if self._last.rows != slice(first, end):
            sums = tuple(
                (S[first:end].flatten(0, 1), Z[first:end].flatten(0, 1).unsqueeze(2))
                for S, Z in zip(self.S, self.Z, strict=True)
            )
            self._last = Active(slots.clone(), slice(first, end), sums)
        return self._last

    def _embed(self, tokens: Tensor, active: Active) -> Tensor:
        """Turn tokens [B, F] into the layers' input [B, D], and advance positions."""
        tables = enumerate(self.network.tables)
        raw = reduce(torch.add, (F.embedding(tokens[:, f], table) for f, table in tables))
        x, rows = raw, active.rows
        if self.network.short_convolution is not None:
            context = torch.cat([self.recent[rows], raw.unsqueeze(1)], dim=1)  # [B, W, D]
            x = raw + self.network.short_convolution(context.flatten(1))
            self.recent[rows] = context[:, 1:]
        if self._marks is not None and self.network.held is not None:
            in_force = self._marks.in_force(tokens.unsqueeze(1), self.held[rows])[:, 0]
            x = x + F.embedding(in_force, self.network.held).sum(1)
            self.held[rows] = in_force
        position, origin = self.position[rows].unsqueeze(1), self.origin[rows]
        origins = self._positions.origins(tokens.unsqueeze(1), position, origin)  # [B, 1]
        x = self._place(x, (position - origins)[:, 0])
        self.origin[rows] = origins[:, 0]
        self.position[rows] = position[:, 0] + 1
        return x

    def _place(self, x: Tensor, index: Tensor) -> Tensor:
        """Add the position encoding of index [B] to x [B, D]."""
        positions = self._positions
        if self.host_may_read or not isinstance(positions, LearnedPositions):
            return positions(x, index)
        return x + positions.vectors(index.clamp(max=positions.limit - 1))


def normalize(x: Tensor, norm: Norm) -> Tensor:
    """Take the layer norm of x [B, D]."""
    return F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias)
