"""The model that is measured, its decoders, and the library's stacks on the same weights.

Legend: B rows, T positions, F fields, H heads, K key width, V value width, D model width, L layers,
N_f vocabulary of a field.
"""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from seqgen.attention.kinds import KINDS
from seqgen.benchmark.machine import THREADS, hardware, versions
from seqgen.benchmark.records import LIBRARY, BenchmarkSetting
from seqgen.checkpoint import load_model
from seqgen.config import load_config
from seqgen.decoding.choose import build_decoder
from seqgen.decoding.decoder import Decoder, Logits
from seqgen.decoding.pool import Pool, SumsPool
from seqgen.errors import UserError
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_parallel, build_recurrent, run_parallel, stack_arguments
from seqgen.model.state import State
from seqgen.native import has_bfloat16
from seqgen.vocabulary import Field, Vocabulary

LINEAR, SOFTMAX = "causal-linear", "softmax"  # as configurations name them
LIBRARY_LINEAR, LIBRARY_SOFTMAX = "causal-linear", "full"  # as fast_transformers registers them
SOFTMAX_TYPE = KINDS[SOFTMAX].attention_type  # our own, in training
PREFIX = 64  # tokens from which states of any position are made

# By variant: a decoder and the number format of its matrices.
DECODERS = {
    "recurrent": ("reference", "float32"),
    "torch": ("torch", "float32"),
    "torch-bf16": ("torch", "bf16"),
    "torch-int8": ("torch", "int8"),
    "native": ("native", "float32"),
    "native-bf16": ("native", "bf16"),
    "native-int8": ("native", "int8"),
    "native-w8a8": ("native", "w8a8"),
    "onnx": ("onnx", "float32"),
    "onnx-int8": ("onnx", "int8"),
    "cuda": ("cuda", "float32"),
    "cuda-bf16": ("cuda", "bf16"),
}
NOT_ON = {"cpu": ("cuda",), "cuda": ("native", "onnx")}  # by device: what can never run there
NOT_QUICK = ("torch-bf16", "torch-int8", "native-bf16", "native-int8", "onnx", "onnx-int8")
SIZES = ("n_layers", "n_heads", "d_model", "d_ff", "feature_map", "positions", "conv_width")


class BenchmarkModel:
    """A model with its decoders, and the library's stacks; all compute with the same weights."""

    def __init__(
        self,
        model: SequenceModel,
        *,
        weights: str,  # their source, in words
        run: Path | None = None,  # the folder that they are from; None: they are random
        quick: bool = False,  # whether variants that take long to prepare are left out
    ):
        self.model = model.eval()
        self.weights = weights
        self.run, self.quick = run, quick
        self.config = model.config
        self.device = next(model.parameters()).device
        self.limit: int | None = model.positions.limit
        self.decoders: dict[str, Decoder] = {}  # those that were built so far
        self._random = torch.Generator().manual_seed(0)

    def decoder(self, variant: str) -> Decoder:
        """Build a decoder when it is first needed; UserError where it is not available."""
        if variant not in self.decoders:
            name, weights = DECODERS[variant]
            self.decoders[variant] = build_decoder(self.model, name, weights=weights)
        return self.decoders[variant]

    def why_not(self, variant: str) -> str:
        """Return why a decoder is not available here, or an empty string."""
        try:
            if variant != LIBRARY:
                self.decoder(variant)
        except UserError as error:
            return f"not available: {error}"
        return ""

    def dtype(self, variant: str) -> str:
        """Return the number format of a variant's matrices."""
        return DECODERS.get(variant, ("", "float32"))[1]

    @property
    def decoder_names(self) -> list[str]:
        """The decoders to measure on this device: never those of another kind of device."""
        absent = NOT_ON[self.device.type]
        names = [name for name, (decoder, _) in DECODERS.items() if decoder not in absent]
        return [name for name in names if not (self.quick and name in NOT_QUICK)]

    def open(self, variant: str, n_rows: int) -> Pool:
        """Return a pool of the library's recurrent stack, or of a decoder, before any token."""
        if variant == LIBRARY:
            return LibraryPool(self, n_rows)
        return self.decoder(variant).open(n_rows)

    @property
    def recurrent(self) -> Decoder:
        """Our recurrent form, as the reference decoder runs it."""
        return self.decoder("recurrent")

    @cached_property
    def bf16_prefill(self) -> Decoder:
        """A decoder that prefills in bf16."""
        return build_decoder(self.model, "reference", prefill="bf16")

    @cached_property
    def library_recurrent(self) -> nn.Module:
        """The library's recurrent causal-linear stack."""
        return self._on_our_weights(build_recurrent, LIBRARY_LINEAR)

    @cached_property
    def softmax_parallel(self) -> nn.Module:
        """The library's softmax attention stack over all positions."""
        return self._on_our_weights(build_parallel, LIBRARY_SOFTMAX)

    @cached_property
    def softmax_twin(self) -> RecurrentModel:
        """Our own softmax model on the same weights, in its recurrent form."""
        config = self.config.model_copy(update={"attention": SOFTMAX})
        with torch.device("meta"):
            twin = SequenceModel(config, self.model.vocabulary)
        twin.load_state_dict(self.model.state_dict(), strict=True, assign=True)
        return RecurrentModel(twin.to(self.device))  # buffers move too

    @cached_property
    def has_library_kernel(self) -> bool:
        """Whether the library's compiled parallel kernel exists for this device."""
        stack = build_parallel(self.arguments(LIBRARY_LINEAR) | {"n_layers": 1}).to(self.device)
        x = torch.randn(1, 2, self.config.d_model, device=self.device)
        try:
            run_parallel(stack, x)
        except (RuntimeError, TypeError):  # not built: a stand-in that raises, or None is called
            return False
        return True

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def has_bfloat16(self) -> bool:
        """Whether the device multiplies bfloat16 in hardware."""
        return has_bfloat16() if self.device.type == "cpu" else torch.cuda.is_bf16_supported()

    def arguments(self, attention_type: str) -> dict:
        """Return the stack arguments with another attention (softmax drops out like the rest)."""
        changed = {"attention_type": attention_type, "attention_dropout": self.config.dropout}
        return stack_arguments(self.config) | changed

    def random_tokens(self, n_rows: int, length: int) -> Tensor:
        """Draw ids [B, T, F], each field over all its ids."""
        fields = [
            torch.randint(size, (n_rows, length), generator=self._random)
            for size in self.model.vocabulary.sizes
        ]
        return torch.stack(fields, dim=-1).to(self.device)

    def embed(self, tokens: Tensor, before: State | None = None) -> tuple[Tensor, ...]:
        """Embed tokens [B, T, F] that come after a state (None: after nothing).

        Returns the stacks' input [B, T, D], the state's embeddings with the new ones
        [B, W - 1 + T, D], where each token's index is counted from, [B, T] or [T], and the marks
        in force [B, T, G].
        """
        positions = torch.arange(tokens.shape[1], device=self.device)
        if before is not None:
            positions = before.position.unsqueeze(1) + positions
        origins = self.model.positions.origins(tokens, positions, before and before.origin)
        in_force = self.model.in_force(tokens, before)
        x, recent = self.model.embed(
            tokens, positions, before and before.recent, origins=origins, in_force=in_force
        )
        return x, recent, origins, in_force

    def recompute(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Run softmax attention over tokens [B, T, F], score after the last -> logits [B, N_f]."""
        x, *_, in_force = self.embed(tokens)
        hidden = self.model.finish(run_parallel(self.softmax_parallel, x), in_force)
        return self.model.lm_head(hidden[:, -1])

    def state_at(self, position: int, n_rows: int) -> State:
        """Make a state as large as after `position` tokens: a short one, scaled up."""
        length = min(PREFIX, self.limit or PREFIX)
        lengths = torch.full((n_rows,), length, device=self.device)
        state = self.recurrent.prefill(self.random_tokens(n_rows, length), lengths)[1]
        sums = tuple(x * (position / length) for x in state.attention)
        position_now = torch.full_like(lengths, position)
        return State(sums, state.recent, position_now, state.origin, state.held)

    def cache_bytes(self, position: int, n_rows: int, *, itemsize: int = 4) -> int:
        """Return the bytes of a KV cache."""
        return 2 * itemsize * n_rows * self.config.n_layers * position * self.config.d_model

    def setting(self, command: str = "") -> BenchmarkSetting:
        """Describe this machine and the model."""
        sizes = {name: getattr(self.config, name) for name in SIZES} | {
            "vocabulary": list(self.model.vocabulary.sizes),
            "parameters": self.n_parameters,
            "weights": self.weights,
        }
        on_gpu = self.device.type == "cuda"
        return BenchmarkSetting(
            device=torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            hardware=hardware(),
            versions=versions(),
            sizes=sizes,
            environment={name: os.environ[name] for name in THREADS if name in os.environ},
            command=command,
        )

    def _on_our_weights(self, build: Callable[[dict], nn.Module], attention_type: str) -> nn.Module:
        with torch.device("meta"):
            stack = build(self.arguments(attention_type))
        stack.load_state_dict(self.model.stack.state_dict(), strict=True, assign=True)
        return stack.eval()


class LibraryPool(SumsPool):
    """Rows that step with the library's recurrent stack; embedding and output head are the model's.

    All of its rows step together.
    """

    def __init__(self, model: BenchmarkModel, n_rows: int):
        super().__init__(model.recurrent.initial_state(n_rows))
        self._model = model
        self._layers = [[S, Z] for S, Z in zip(self.S, self.Z, strict=True)]  # changed in place

    @torch.no_grad()
    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Take tokens [B, F]; return logits [B, N_f]."""
        state = State((), self.recent, self.position, self.origin, self.held)
        x, recent, origins, in_force = self._model.embed(tokens.unsqueeze(1), state)
        hidden, _ = self._model.library_recurrent(x.squeeze(1), self._layers)
        self.recent, self.position, self.origin = recent[:, 1:], self.position + 1, origins[:, 0]
        self.held = in_force[:, 0]
        hidden = self._model.model.finish(hidden.unsqueeze(1), in_force)[:, 0]
        return self._model.model.lm_head(hidden)


def load_benchmark_model(
    target: Path, *, device: str = "cpu", quick: bool = False
) -> BenchmarkModel:
    """Take the model of a run folder with its weights, or that of a configuration with random ones.

    It does not forget, whatever the run does: the library, beside which speed is measured, has no
    decay. Steps take as long with it, up to a few per cent. `quick` is as in `BenchmarkModel`.
    UserError where it is missing, not readable, or of another kind.
    """
    run = target if target.is_dir() else None
    trained = load_model(run, device=device).model if run else None
    config = trained.config if trained else load_config(target).model
    if config.kind != "decoder":
        raise UserError(
            f"{target} has model.kind={config.kind}, which the benchmark cannot measure: give a "
            f"model with model.kind=decoder"
        )
    if config.attention != LINEAR:
        raise UserError(
            f"{target} has model.attention={config.attention}: give a causal-linear model, which "
            f"is measured against softmax attention of the same sizes"
        )
    vocabulary = Vocabulary((Field("token", 512),), bos_id=1, eos_id=2, pad_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        without_decay = config.model_copy(update={"decay": "none"})
        model = SequenceModel(without_decay, trained.vocabulary if trained else vocabulary)
    weights = "random weights"
    if trained:
        known = trained.state_dict()
        model.load_state_dict({name: known[name] for name in model.state_dict()})
        weights = f"weights of {target.name}"
        weights += ", speed without their decay" * (config.decay != "none")
    return BenchmarkModel(model.to(device), weights=weights, run=run, quick=quick)
