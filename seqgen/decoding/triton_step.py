"""Steps by Triton's kernels: five launches a layer, or four between PyTorch's matrices.

Legend: B rows, F fields, D model width, W width of the short convolution, M outputs of a matrix, K
its inputs.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from seqgen.decoding import triton_step_kernels as kernels
from seqgen.decoding.fused import Active, TorchDecoder, TorchPool, normalize
from seqgen.decoding.linear import Activated, Linear, Plain
from seqgen.decoding.matrices import Norm
from seqgen.decoding.pool import SumsPool
from seqgen.model.positions import AnchoredPositions, LearnedPositions, frequencies
from seqgen.native.launches import capability, compiling_only, launch

MAPS = ("elu+1", "relu")  # feature maps that apply to each number separately
FEW = 2  # rows that are multiplied without tensor cores, each weight read once
MOST_INPUTS = 4096  # of such a matrix: a program holds whole rows of it
MULTIPROCESSORS = 128  # about as many as a large GPU has: programs that a launch should have


def why_not(decoder: TorchDecoder) -> str:
    """Return why the kernels cannot run a decoder's steps; an empty string where they can."""
    feature_map = decoder.config.feature_map
    if feature_map not in MAPS:
        return f"model.feature_map={feature_map} is not one of {', '.join(MAPS)}"
    if decoder.device.type != "cuda" and not triton.knobs.runtime.interpret:
        return f"Triton's kernels run on a GPU, not on {decoder.device}"
    if not isinstance(decoder.network.layers[0].qkv, Plain):
        return f"weights={decoder.weights} are packed in a format that the kernels do not read"
    return ""


class TritonPool(TorchPool):
    """The torch decoder's pool, whose whole step is kernels.

    Attributes:
        dtype: of weights, and of what is only multiplied by them.
    """

    def __init__(self, decoder: TorchDecoder, n_slots: int, *, states: SumsPool | None = None):
        super().__init__(decoder, n_slots, states=states)
        tables, positions = self.network.tables, self._positions
        self.dtype = _plain(self.network.layers[0].qkv).weight.dtype
        self._table = tables[0] if len(tables) == 1 else torch.cat(tables)
        self._starts = torch.tensor(decoder.vocabulary.starts, device=self.S.device)
        self._encoding, self._is_anchor = self._starts, self._starts  # not read
        self._holds, self._vectors = self._starts, self._starts
        if isinstance(positions, LearnedPositions):
            self._encoding = positions.rows()
        elif decoder.config.positions != "none":
            self._encoding = frequencies(decoder.config.d_model, device=self.S.device)
        if isinstance(positions, AnchoredPositions):
            self._is_anchor = positions.is_anchor
        if self._marks is not None and self.network.held is not None:
            self._holds, self._vectors = self._marks.holds, self.network.held

    @torch.no_grad()
    def compile(self, slots: Tensor, tokens: Tensor) -> None:
        """Compile the kernels of a step."""
        with compiling_only():
            self.advance(slots, tokens)

    def _score(self, x: Tensor, active: Active) -> Tensor:
        """Run all layers, and the output head: a layer's last norm is taken by what follows."""
        activation = self.decoder.config.activation
        norm: Norm | None = None
        for i, layer in enumerate(self.network.layers):
            up = _plain(cast("Activated", layer.up).multiply)
            x, qkv = multiply(x, _plain(layer.qkv), norm=norm)
            _, x = multiply(self.attend(i, qkv, active), _plain(layer.out), residual=x)
            x, h = multiply(x, up, norm=layer.attention_norm, activation=activation, rounded=True)
            _, x = multiply(h, _plain(layer.down), residual=x)
            norm = layer.feed_forward_norm
        return multiply(x, _plain(self.network.lm_head), norm=norm, last=self.network.norm)[1]

    def attend(self, layer: int, qkv: Tensor, active: Active) -> Tensor:
        """Add the present position to a layer's sums, and attend, as `TorchPool.attend`."""
        B, width = len(qkv), self.S.shape[-1]
        out = torch.empty(B, qkv.shape[1] // 3, dtype=self.dtype, device=qkv.device)
        BW = max(16, triton.next_power_of_2(width))
        launch(
            kernels.attend,
            (B * self.n_heads,),
            qkv,
            active.slots,
            active.decay,
            self.network.layers[layer].decay,
            self.S[layer],
            self.Z[layer],
            out,
            H=self.n_heads,
            W=width,
            BW=BW,
            BV=min(BW, 128),
            MAP=self.feature_map.name,
            num_warps=4 if BW <= 64 else 8,
        )
        return out

    def _active(self, slots: Tensor) -> Active:
        """Return the rows; `_embed` finds their decay."""
        decay = None
        if self.decay_after is not None:
            decay = torch.empty(len(slots), device=slots.device)
        return Active(slots, slots, decay=decay)

    def _embed(self, tokens: Tensor, active: Active) -> Tensor:
        """Turn tokens [B, F] into the layers' input [B, D], and advance positions."""
        (B, F), D = tokens.shape, self._table.shape[1]
        width = self.decoder.config.conv_width
        x = torch.empty(B, D, device=tokens.device)
        context = x.new_empty(B, max(width, 1) * D, dtype=self.dtype)
        launch(
            kernels.embed,
            (B,),
            tokens.contiguous(),
            active.slots,
            self._table,
            self._starts,
            self._encoding,
            self._is_anchor,
            self.recent,
            self.position,
            self.origin,
            self.held,
            self._holds,
            self._vectors,
            context,
            active.decay,
            x,
            self._positions.limit or 0,
            self.decay_after or 0,
            1 - 1 / (self.decay_after or 1),
            F=F,
            D=D,
            BD=triton.next_power_of_2(D),
            W=width,
            G=self.held.shape[1],
            POSITIONS="learned" if self._positions.limit else self.decoder.config.positions,
            num_warps=4,
        )
        if self.network.short_convolution is None:
            return x
        return self._convolve(context, _plain(self.network.short_convolution), x)

    def _convolve(self, context: Tensor, matrix: Plain, x: Tensor) -> Tensor:
        """Add the short convolution of context [B, W D] to x [B, D]."""
        return multiply(context, matrix, residual=x)[1]


class TritonMixedPool(TritonPool):
    """Triton's embedding, attention and norms, and PyTorch's matrices: for many rows."""

    def compile(self, slots: Tensor, tokens: Tensor) -> None:
        """Compile what `TritonPool` does not have: it has the rest."""
        x = torch.empty(len(slots), self._table.shape[1], dtype=self.dtype, device=slots.device)
        layer, config = self.network.layers[0], self.decoder.config
        with compiling_only():
            self.attend(0, x.repeat(1, 3), self._active(slots))
            for last in (None, self.network.norm):
                add_and_norm(x, x.float(), layer.attention_norm, last)
            activate(x.new_empty(len(x), config.d_ff or 4 * config.d_model), config.activation)

    def _score(self, x: Tensor, active: Active) -> Tensor:
        """Run all layers, and the output head."""
        rounded, end = x.to(self.dtype), len(self.network.layers) - 1
        for i, layer in enumerate(self.network.layers):
            qkv = _product(rounded, layer.qkv)
            out = _product(self.attend(i, qkv, active), layer.out)
            x, rounded = add_and_norm(out, x, layer.attention_norm)
            h = _product(rounded, cast("Activated", layer.up).multiply)
            down = _product(activate(h, self.decoder.config.activation), layer.down)
            last = self.network.norm if i == end else None
            x, rounded = add_and_norm(down, x, layer.feed_forward_norm, last)
        return _product(rounded, self.network.lm_head).float()

    def _convolve(self, context: Tensor, matrix: Plain, x: Tensor) -> Tensor:
        return x + _product(context, matrix)


def multiply(
    x: Tensor,
    matrix: Plain,
    *,
    norm: Norm | None = None,
    last: Norm | None = None,
    activation: str = "none",
    residual: Tensor | None = None,
    rounded: bool = False,
) -> tuple[Tensor, Tensor]:
    """Multiply by a matrix, with what stands before and after it, in one launch.

    Args:
        x: [B, K], float32 or rounded as the matrix.
        matrix: float32 or bf16 [M, K], which x is rounded to; sums are float32.
        norm: a layer norm of x that comes first.
        last: a second norm, which comes after it.
        activation: of the product: relu, gelu or none.
        residual: added at the end [B, M].
        rounded: whether the result may be rounded as the matrix, since another one takes it.

    Returns:
        What was multiplied, x or its norm [B, K], float32; and the result [B, M]. With a second
        norm, x after the first one is not kept.
    """
    (B, K), M = x.shape, len(matrix.bias)
    few = B <= FEW and K <= MOST_INPUTS
    if few:
        kernel, grid_rows = kernels.multiply_few, 1
        options = few_tile(B, M, K, matrix.weight.element_size())
    else:
        kernel, options = kernels.multiply_some, some_tile(B, matrix.weight)
        grid_rows = triton.cdiv(B, options["BB"])
        if norm is not None and options["BS"] * options["BK"] < K:
            x, norm = normalize(x, norm), None
            x, last = (x, None) if last is None else (normalize(x, last), None)
    y = torch.empty(B, M, dtype=matrix.weight.dtype if rounded else torch.float32, device=x.device)
    normed = None if norm is None or last is not None else torch.empty_like(x)
    launch(
        kernel,
        (triton.cdiv(M, options["BM"]), grid_rows),
        x,
        *((None, None) if norm is None else (norm.weight, norm.bias)),
        *((None, None) if last is None else (last.weight, last.bias)),
        normed,
        matrix.weight,
        matrix.bias,
        residual,
        y,
        B,
        M=M,
        K=K,
        ACTIVATION=activation,
        **options,
    )
    return (x if normed is None else normed), y


def few_tile(B: int, M: int, K: int, size: int) -> dict[str, int | bool]:
    """Choose blocks and warps for few rows: whole rows of the matrix, in as many programs as it
    takes to keep all multiprocessors reading.
    """
    BM = max(2, min(16, triton.next_power_of_2(M // MULTIPROCESSORS + 1) // 2))
    BK = max(16, triton.next_power_of_2(K))
    return {
        "BB": triton.next_power_of_2(B),
        "BM": BM,
        "BK": BK,
        "num_warps": 4 if BM * BK * size <= 1 << 15 else 8,
    }


def some_tile(B: int, weight: Tensor) -> dict[str, Any]:
    """Choose blocks and warps for more rows, so that all multiprocessors have a program.

    A row's result depends on these, not on other rows.
    """
    M, K = weight.shape
    B = triton.next_power_of_2(B)  # so that as few kernels as possible are compiled
    BB = 16 if B <= 64 else 32
    BM = 64
    while BM > 8 and triton.cdiv(M, BM) * triton.cdiv(B, BB) < MULTIPROCESSORS:
        BM //= 2
    inputs = min(512 if weight.dtype == torch.float32 else 2048, max(64, triton.next_power_of_2(K)))
    warps = 8 if inputs * max(BB, BM) > 1 << 14 else 4
    return {
        "BB": BB,
        "BM": BM,
        "BS": min(warps, inputs // 16),
        "BK": inputs // min(warps, inputs // 16),
        "PRECISION": _precision(weight),
        "num_warps": warps,
        "num_stages": 2,
    }


def add_and_norm(
    product: Tensor, residual: Tensor, norm: Norm, last: Norm | None = None
) -> tuple[Tensor, Tensor]:
    """Take the layer norm of product + residual [B, K], and a last one of that, in one launch.

    Returns:
        The result in float32, and the same in the product's type.
    """
    y = torch.empty_like(residual)
    rounded = y if product.dtype == y.dtype else torch.empty_like(product)
    B, K = y.shape
    launch(
        kernels.add_and_norm,
        (B,),
        product,
        residual,
        *(norm.weight, norm.bias),
        *((None, None) if last is None else (last.weight, last.bias)),
        y,
        None if rounded is y else rounded,
        K=K,
        BK=triton.next_power_of_2(K),
        num_warps=4,
    )
    return y, rounded


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply an activation to x, in its place."""
    grid = (triton.cdiv(x.numel(), 1024),)
    launch(kernels.activate_all, grid, x, x.numel(), BLOCK=1024, ACTIVATION=activation, num_warps=4)
    return x


def _product(x: Tensor, linear: Linear) -> Tensor:
    """Multiply x [B, K] by a matrix of its type, and leave the result in it."""
    matrix = _plain(linear)
    return F.linear(x, matrix.weight, matrix.bias)


def _precision(weight: Tensor) -> str:
    """Name how blocks multiply: bf16 as it is; float32 in three products that err by about 1e-6."""
    if capability(weight.device) < (8, 0):
        return "ieee"
    return "tf32" if weight.dtype == torch.bfloat16 else "tf32x3"


def _plain(linear: Linear) -> Plain:
    """Return a layer's matrix, which is plain wherever `why_not` finds no reason."""
    return cast("Plain", linear)
