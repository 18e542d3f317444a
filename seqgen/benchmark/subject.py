"""The model under measurement, and the peers it is compared with on the same weights.

Legend: B rows, T positions, F fields, H heads, K key width, V value width, D model width, L layers,
N_f vocabulary of a field.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from seqgen.attention.kinds import KINDS
from seqgen.benchmark.machine import available_bytes
from seqgen.decoding.choose import build_decoder
from seqgen.decoding.decoder import Decoder
from seqgen.errors import UserError
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import (
    build_parallel,
    build_recurrent,
    inner_attentions,
    run_parallel,
    share_weights,
    stack_arguments,
)
from seqgen.model.state import State

LIBRARY_TYPE, LIBRARY_FULL_TYPE = "causal-linear", "full"  # as fast_transformers registers them
FULL_TYPE = KINDS["full"].attention_type
RESERVE = 2**30  # bytes that stay free: a process that takes the last ones may be killed
PREFIX = 64  # tokens from which states and caches of any position are made

# By variant: a decoder and what it keeps matrices in.
DECODERS = {
    "recurrent": ("reference", "float32"),
    "torch": ("torch", "float32"),
    "torch-bf16": ("torch", "bf16"),
    "torch-int8": ("torch", "int8"),
    "native": ("native", "float32"),
    "native-bf16": ("native", "bf16"),
    "native-int8": ("native", "int8"),
    "native-w8a8": ("native", "w8a8"),
    "cuda": ("cuda", "float32"),
    "cuda-bf16": ("cuda", "bf16"),
}

LayerStates = list[list[Tensor]]  # per layer [S, Z], or [keys, values] each [B, H, T, K]


class Subject:
    """A model with its decoders, the library's own step, and full attention in three ways.

    All of them compute with the same weights, the same embedding and the same heads.

    Attributes:
        weights: where they are from, in words.
        run: the folder that they are from; None: they are random.
        beside: another run of the same data, whose likelihood is set beside this one's.
        decoders: those of `DECODERS` that were built so far.
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        weights: str,
        run: Path | None = None,
        beside: Path | None = None,
    ):
        self.model = model.eval()
        self.weights = weights
        self.run, self.beside = run, beside
        self.config = model.config
        self.device = next(model.parameters()).device
        self.limit: int | None = model.positions.limit
        self.decoders: dict[str, Decoder] = {}
        self._random = torch.Generator().manual_seed(0)

    def decoder(self, variant: str) -> Decoder:
        """Return a decoder, built when it is first asked for.

        Raises:
            UserError: it cannot be had for this model or device.
        """
        if variant not in self.decoders:
            name, weights = DECODERS[variant]
            self.decoders[variant] = build_decoder(self.model, name, weights=weights)
        return self.decoders[variant]

    def why_not(self, variant: str) -> str:
        """Say why a decoder cannot be had here, or nothing."""
        try:
            self.decoder(variant)
        except UserError as error:
            return f"not here: {error}"
        return ""

    @property
    def recurrent(self) -> RecurrentModel:
        """Our recurrent form."""
        return self.decoder("recurrent")

    @cached_property
    def rounded(self) -> Decoder:
        """A decoder that prefills in bf16."""
        return build_decoder(self.model, "reference", prefill="bf16")

    @cached_property
    def library_recurrent(self) -> nn.Module:
        """The library's recurrent causal-linear stack."""
        return self._on_our_weights(build_recurrent, LIBRARY_TYPE)

    @cached_property
    def full_parallel(self) -> nn.Module:
        """The library's full attention stack over all positions."""
        return self._on_our_weights(build_parallel, LIBRARY_FULL_TYPE)

    @cached_property
    def full_recurrent(self) -> nn.Module:
        """The library's full attention stack with a KV cache."""
        stack = self._built(build_recurrent, LIBRARY_FULL_TYPE)
        share_weights(self.full_parallel, stack)
        return stack.eval()

    @cached_property
    def full_preallocated(self) -> RecurrentModel:
        """Our own full attention, whose KV cache is allocated ahead and written in place."""
        config = self.config.model_copy(update={"attention": "full"})
        with torch.device("meta"):
            twin = SequenceModel(config, self.model.vocabulary)
        twin.load_state_dict(self.model.state_dict(), strict=True, assign=True)
        return RecurrentModel(twin.to(self.device))  # what is no weight moves too

    @cached_property
    def has_library_kernel(self) -> bool:
        """Whether the library's compiled parallel kernel exists for this device."""
        stack = build_parallel(self.arguments(LIBRARY_TYPE) | {"n_layers": 1}).to(self.device)
        x = torch.randn(1, 2, self.config.d_model, device=self.device)
        try:
            run_parallel(stack, x)
        except (RuntimeError, TypeError):  # not built: a stand-in that raises, or None is called
            return False
        return True

    def arguments(self, attention_type: str) -> dict:
        """Return the stack arguments with another attention (full: it drops out like the rest)."""
        changed = {"attention_type": attention_type, "attention_dropout": self.config.dropout}
        return stack_arguments(self.config) | changed

    def random_tokens(self, n_rows: int, length: int) -> Tensor:
        """Draw ids [B, T, F], each field over all its ids."""
        fields = [
            torch.randint(size, (n_rows, length), generator=self._random)
            for size in self.model.vocabulary.sizes
        ]
        return torch.stack(fields, dim=-1).to(self.device)

    def embed(self, tokens: Tensor, before: State | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Embed tokens [B, T, F] that come after a state (None: after nothing).

        Returns:
            The stacks' input [B, T, D], the state's embeddings with the new ones
            [B, W - 1 + T, D], and where each token's index is counted from, [B, T] or [T].
        """
        positions = torch.arange(tokens.shape[1], device=self.device)
        if before is not None:
            positions = before.position.unsqueeze(1) + positions
        origins = self.model.positions.origins(tokens, positions, before and before.origin)
        x, recent = self.model.embed(tokens, positions, before and before.recent, origins=origins)
        return x, recent, origins

    def step(
        self, stack: nn.Module, tokens: Tensor, before: State, layers: LayerStates
    ) -> tuple[Tensor, ...]:
        """Embed tokens [B, F], run a recurrent stack of the library, score -> logits [B, N_f].

        `layers` is changed: sums in place, a cache by replacing its tensors. `before` says where
        the rows are and is not changed.
        """
        x, *_ = self.embed(tokens.unsqueeze(1), before)
        hidden, _ = stack(x.squeeze(1), layers)
        return self.model.heads(hidden)

    def recompute(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Run full attention over tokens [B, T, F] and score after the last -> logits [B, N_f]."""
        x, *_ = self.embed(tokens)
        return self.model.heads(run_parallel(self.full_parallel, x)[:, -1])

    def cache_after(self, tokens: Tensor) -> LayerStates:
        """Return the KV cache after tokens [B, T, F], from one parallel pass of full attention."""
        x, *_ = self.embed(tokens)
        return [
            [keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()]
            for _, keys, values, *_ in attention_inputs(self.full_parallel, x)
        ]

    def state_at(self, position: int, n_rows: int) -> State:
        """Make a state as large as after `position` tokens: a short one, scaled up."""
        tokens = self.random_tokens(n_rows, self._prefix)
        lengths = torch.full((n_rows,), self._prefix, device=self.device)
        state = self.recurrent.prefill(tokens, lengths)[1]
        scale = position / self._prefix
        sums = tuple(x * scale for x in state.attention)
        return State(sums, state.recent, torch.full_like(lengths, position), state.origin)

    def cache_at(self, position: int, n_rows: int) -> LayerStates:
        """Make a KV cache of `position` tokens: a short one, repeated."""
        times = -(-position // self._prefix)
        return [
            [x.repeat(1, 1, times, 1)[:, :, :position].contiguous() for x in kv]
            for kv in self.short_cache(n_rows)
        ]

    def short_cache(self, n_rows: int) -> LayerStates:
        """Make the KV cache from which those of any position are made."""
        return self.cache_after(self.random_tokens(n_rows, self._prefix))

    def cache_bytes(self, position: int, n_rows: int) -> int:
        """Foresee the bytes of a KV cache."""
        return 2 * 4 * n_rows * self.config.n_layers * position * self.config.d_model

    def too_large(self, n_bytes: int) -> str:
        """Say why something of this size is left out, or nothing."""
        room = max(0.0, 0.9 * available_bytes(self.device) - RESERVE)
        if n_bytes <= room:
            return ""
        return f"skipped: needs {n_bytes / 2**30:.1f} GiB, {room / 2**30:.1f} are free"

    def score_bytes(self, length: int, n_rows: int) -> int:
        """Foresee the bytes of one layer's attention scores over a whole window."""
        return 4 * n_rows * self.config.n_heads * length**2

    @property
    def _prefix(self) -> int:
        return min(PREFIX, self.limit or PREFIX)

    def _built(self, build: Callable[[dict], nn.Module], attention_type: str) -> nn.Module:
        with torch.device("meta"):
            return build(self.arguments(attention_type))

    def _on_our_weights(self, build: Callable[[dict], nn.Module], attention_type: str) -> nn.Module:
        stack = self._built(build, attention_type)
        stack.load_state_dict(self.model.stack.state_dict(), strict=True, assign=True)
        return stack.eval()


def sums_of(state: State) -> LayerStates:
    """Copy a state's sums into the form that the library changes in place."""
    S, Z = state.S.clone(), state.Z.clone()
    return [[S[layer], Z[layer]] for layer in range(len(S))]


@torch.no_grad()
def attention_inputs(stack: nn.Module, x: Tensor) -> list[tuple]:
    """Run a parallel stack on x [B, T, D] and return what each inner attention was called with.

    Queries and keys [B, T, H, K], values [B, T, H, V], then the causal, query and key masks.
    """
    seen: list[tuple] = []
    hooks = [
        attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
        for attention in inner_attentions(stack)
    ]
    try:
        run_parallel(stack, x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
