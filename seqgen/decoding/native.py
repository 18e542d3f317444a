"""The whole decode step as one call of compiled code, the draw included.

Legend: L layers, C slots, B rows, F fields, D model width, M outputs of a matrix, K its inputs,
N = sum of the vocabularies of all fields.
"""

import time
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.decoding.decoder import Decoder, Logits
from seqgen.decoding.fused import Active, Network, TorchPool
from seqgen.decoding.linear import quantize_rows
from seqgen.decoding.matrices import Matrix, ModelWeights, read_weights
from seqgen.decoding.pool import SumsPool
from seqgen.errors import UserError
from seqgen.model.positions import AnchoredPositions, LearnedPositions, frequencies
from seqgen.model.sequence_model import SequenceModel
from seqgen.native import why_missing
from seqgen.sampling import Sampler

# As numbered in native/step.h.
FORMATS = {"float32": 0, "bf16": 1, "int8": 2, "w8a8": 3}
ACTIVATIONS = {"relu": 0, "gelu": 1}
POSITIONS = {"none": 0, "sinusoidal": 1, "learned": 2, "bars": 3, "axes": 2}
MAX_FIELDS, MAX_FEATURES = 32, 1024  # of a token, and of a head
PANEL, STRIPE = 64, 16  # outputs are padded to whole panels and stored in stripes
NOTHING = torch.empty(0)
MEASURED = 0.03  # seconds of steps, to measure each implementation
MOST = 64  # rows in such steps
MANY = 8  # rows from which PyTorch's matrices are tried
CLEARLY = 0.7  # share of the time that they must take at most
LINE = 64  # bytes to which each block of the weights is padded


class NativeDecoder(Decoder):
    """Weights packed for the CPU's vectors; states and activations in float32.

    How a pool computes is measured when it is opened: with how many threads, and, in pools of many
    streams with float32 or bf16 weights, whether PyTorch multiplies the matrices much faster. In
    all other pools a row's logits are the same to the last bit whatever rows are beside it, and
    however many threads compute them.
    """

    name = "native"
    supported_weights = tuple(FORMATS)

    def __init__(self, model: SequenceModel, weights: str = "float32", **choices):
        """Pack a model's weights; UserError also where compiled code does not support it."""
        reason = why_not(model, weights)
        if reason:
            raise UserError(f"the native decoder cannot be used: {reason}")
        super().__init__(model, weights, **choices)
        self.shape = _describe(model, weights, self.decay_after)
        read = read_weights(model)
        self.packed = _pack_model(model, read, weights)
        decays = [layer.decay for layer in read.layers if layer.decay is not None]
        self.decay = torch.stack(decays) if decays else NOTHING  # [L, H]
        # By rows and threads of torch: threads of a step, or 0 for PyTorch's matrices.
        self._choices: dict[tuple[int, int], int] = {}

    @cached_property
    def network(self) -> Network:
        """The matrices prepared for PyTorch."""
        return Network.read(self.model, self.weights)

    def open(self, n_slots: int) -> SumsPool:
        """Make room for the states of `n_slots` streams."""
        rows = min(1 << (n_slots - 1).bit_length(), MOST)
        place = rows, torch.get_num_threads()
        if place not in self._choices:
            self._choices[place] = self._choose(rows)
        threads = self._choices[place]
        return (
            NativePool(self, n_slots, threads=threads)
            if threads
            else NativeMixedPool(self, n_slots)
        )

    def _choose(self, rows: int) -> int:
        most = torch.get_num_threads()
        counts = [2**i for i in range(most.bit_length()) if 2**i < most] + [most]
        if len(counts) == 1 and rows < MANY:
            return most
        seconds = {n: self._seconds(NativePool(self, rows, threads=n)) for n in counts}
        best = min(seconds, key=lambda n: seconds[n])
        if rows >= MANY and self.weights in ("float32", "bf16"):
            mixed = self._seconds(NativeMixedPool(self, rows))
            if mixed < CLEARLY * seconds[best]:
                return 0
        return best

    def _seconds(self, pool: SumsPool) -> float:
        """Time a step of all slots of a pool; its states are overwritten."""
        slots = torch.arange(len(pool.position))
        tokens = torch.zeros(len(slots), len(self.vocabulary.sizes), dtype=torch.long)
        seconds: list[float] = []
        begin = time.perf_counter()
        while len(seconds) < 3 or time.perf_counter() < begin + MEASURED:
            pool.position.zero_()  # learned ones end
            start = time.perf_counter()
            pool.advance(slots, tokens)
            seconds.append(time.perf_counter() - start)
        return min(seconds[1:])


class NativePool(SumsPool):
    """States that compiled code advances."""

    def __init__(self, decoder: NativeDecoder, n_slots: int, *, threads: int):
        super().__init__(decoder.initial_state(n_slots))
        self._decoder, self._threads = decoder, threads
        self._sizes, self._eos = decoder.vocabulary.sizes, decoder.vocabulary.eos_id
        self._logits = torch.empty(n_slots, sum(self._sizes))
        size = torch.ops.seqgen.scratch_bytes(decoder.shape, max(n_slots, 1), threads)
        self._scratch = torch.empty(size, dtype=torch.uint8)

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give the streams in slots [B] their next tokens [B, F]."""
        self._step(slots, tokens, [])
        return self._logits[: len(slots)].split(self._sizes, dim=1)

    def run(self, slots: Tensor, tokens: Tensor, sampler: Sampler, n_steps: int = 1) -> Tensor:
        """Make steps with a draw after each, in one call for each step."""
        sampler.take(len(slots), n_steps)
        tensors = _sampling(sampler)
        drawn = []
        for _ in range(n_steps):
            tokens = self._step(slots, tokens, tensors)
            drawn.append(tokens)
        return torch.stack(drawn)

    def _step(self, slots: Tensor, tokens: Tensor, sampler: list[Tensor]) -> Tensor:
        """Make one step and, with a sampler's tensors, the draw after it -> ids [B, F]."""
        drawn = torch.empty(tokens.shape, dtype=torch.long)
        torch.ops.seqgen.decode_step(
            *(self._decoder.shape, self._decoder.packed, self._decoder.decay, slots, tokens),
            *(self.S, self.Z, self.recent, self.position, self.origin, self.held),
            *(sampler, self._eos, self._scratch, self._logits[: len(slots)], drawn, self._threads),
        )
        return drawn


class NativeMixedPool(TorchPool):
    """PyTorch's matrices with compiled attention: for many rows where those are faster.

    Other rows may then change a row's logits by rounding errors.
    """

    decoder: NativeDecoder

    def attend(self, layer: int, qkv: Tensor, active: Active) -> Tensor:
        """Add the present position to a layer's sums, and attend: [B, 3 D] -> [B, D]."""
        return torch.ops.seqgen.attend(
            *(self.decoder.shape, self.decoder.decay, layer, qkv),
            *(active.slots, self.S, self.Z, self._before),
        )

    def _embed(self, tokens: Tensor, active: Active) -> Tensor:
        self._before = self.position.clone()  # decay depends on it
        return super()._embed(tokens, active)


def _sampling(sampler: Sampler) -> list[Tensor]:
    """List a sampler's tensors, in the order of native/step_library.cpp."""
    s = sampler
    return [
        *(s.settings, s.top_k, s.seen, s.counts, NOTHING if s.bias is None else s.bias),
        *(s.previous, s.has_unit, s.numbers, s.drawn),
        *(s.rules.allowed, s.rules.last_group, s.rules.completes_unit),
        *(s.registers, s.rules.bounds, s.rules.changes, s.rules.uses, s.rules.fills),
        NOTHING if s.chain is None else s.chain,
        s.log_likelihood if s.scored else NOTHING,
    ]


def why_not(model: SequenceModel, weights: str) -> str:
    """Return why compiled code cannot decode a model; an empty string where it can."""
    config = model.config
    if why_missing():
        return why_missing()
    if next(model.parameters()).device.type != "cpu":
        return "it is for CPUs"
    if config.attention != "causal-linear":
        return f"it does not support model.attention={config.attention}"
    if config.positions not in POSITIONS:
        return f"it does not support model.positions={config.positions}"
    n_fields = len(model.vocabulary.sizes)
    if n_fields > MAX_FIELDS:
        return f"it supports tokens of up to {MAX_FIELDS} fields, not {n_fields}"
    width = FEATURE_MAPS[config.feature_map].width(config.d_model // config.n_heads)
    if width > MAX_FEATURES:
        return f"it supports heads of up to {MAX_FEATURES} features, not {width}"
    if weights not in FORMATS:
        return f"it does not support {weights} weights, only {', '.join(FORMATS)}"
    return ""


def _describe(model: SequenceModel, weights: str, decay_after: int | None) -> Tensor:
    """Lay out a model's sizes and choices as native/step_library.cpp reads them."""
    c = model.config
    return torch.tensor(
        [
            *(c.d_model, c.n_layers, c.n_heads, c.d_ff or 4 * c.d_model, c.conv_width),
            *(model.positions.limit or 0, decay_after or 0, FORMATS[weights]),
            *(ACTIVATIONS[c.activation], list(FEATURE_MAPS).index(c.feature_map)),
            *(POSITIONS[c.positions], len(model.vocabulary.held)),
            model.held.table.num_embeddings if model.held else 0,
            *(len(model.vocabulary.sizes), *model.vocabulary.sizes),
        ]
    )


def _pack_model(model: SequenceModel, read: ModelWeights, weights: str) -> Tensor:
    """Put all weights into one tensor of bytes, in the order of native/step.cpp."""
    blocks = list(read.tables)
    if isinstance(model.positions, LearnedPositions):
        blocks.append(model.positions.rows())
    elif model.config.positions != "none":
        blocks.append(frequencies(model.config.d_model))
    if isinstance(model.positions, AnchoredPositions):
        blocks.append(model.positions.is_anchor)
    if model.held is not None and read.held is not None and read.held_logits is not None:
        blocks += (model.held.holds.int(), read.held, read.held_logits)
    if read.short_convolution:
        blocks += _pack(read.short_convolution, weights)
    for layer in read.layers:
        for matrices, norm in (
            ((layer.qkv, layer.out), layer.attention_norm),
            ((layer.up, layer.down), layer.feed_forward_norm),
        ):
            for matrix in matrices:
                blocks += _pack(matrix, weights)
            blocks += (norm.weight, norm.bias)
    blocks += (read.norm.weight, read.norm.bias, *_pack(read.lm_head, weights))
    sizes = [-(-block.nbytes // LINE) * LINE for block in blocks]
    packed = torch.empty(sum(sizes), dtype=torch.uint8)
    torch.ops.seqgen.prefer_large_pages(packed)
    for part, block in zip(packed.split(sizes), blocks, strict=True):
        flat = block.detach().contiguous().view(-1).view(torch.uint8)
        part[: len(flat)] = flat
        part[len(flat) :] = 0
    return packed


def _pack(matrix: Matrix, weights: str) -> list[Tensor]:
    """Pack a matrix [M, K] in stripes, followed by its scales and bias.

    The numbers are [M / STRIPE, K, STRIPE], of w8a8 [M / STRIPE, K / 4, STRIPE, 4].
    """
    M, K = matrix.weight.shape
    missing = -M % PANEL
    a = F.pad(matrix.weight, (0, 0, 0, missing))
    bias = F.pad(matrix.bias, (0, missing))
    if weights in ("float32", "bf16"):
        stripes = a.view(-1, STRIPE, K).transpose(1, 2)
        return [stripes.bfloat16() if weights == "bf16" else stripes, bias]
    quantized, scale = quantize_rows(a)
    if weights == "int8":
        return [quantized.view(-1, STRIPE, K).transpose(1, 2), scale, bias]
    quantized = F.pad(quantized, (0, -K % 4))
    fours = quantized.view(len(a) // STRIPE, STRIPE, -1, 4).transpose(1, 2)
    return [fours, scale, quantized.sum(1, dtype=torch.int32), bias]
