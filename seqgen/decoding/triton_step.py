"""Steps by Triton's kernels: five launches a layer, and no copy of a slot's sums.

Legend: B rows, F fields, D model width, M outputs of a matrix, K its inputs, N ids of all fields, P
parts of a row's statistics.
"""

from typing import NamedTuple, cast

import torch
import triton
from torch import Tensor

from seqgen.decoding import triton_step_kernels as kernels
from seqgen.decoding.fused import Active, TorchDecoder, TorchPool, normalize
from seqgen.decoding.linear import Activated, Linear, Plain
from seqgen.decoding.matrices import Norm
from seqgen.decoding.pool import SumsPool
from seqgen.model.positions import AnchoredPositions, LearnedPositions, frequencies
from seqgen.native.launches import compiling_only, launch

MAPS = ("elu+1", "relu")  # feature maps that apply to each number separately
FEW = 8  # rows that are multiplied without tensor cores, each weight read once
MOST_INPUTS = 4096  # of such a matrix: a program holds whole rows of it
MULTIPROCESSORS = 128  # about as many as a large GPU has: programs that a launch should have


def why_not(decoder: TorchDecoder) -> str:
    """Return why the kernels cannot run a decoder's steps; an empty string where they can."""
    feature_map = decoder.config.feature_map
    if feature_map not in MAPS:
        return f"model.feature_map={feature_map} is not one of {', '.join(MAPS)}"
    if decoder.config.decay != "none":
        return f"model.decay={decoder.config.decay} is not supported by them yet"
    if decoder.device.type != "cuda" and not triton.knobs.runtime.interpret:
        return f"Triton's kernels run on a GPU, not on {decoder.device}"
    if not isinstance(decoder.network.layers[0].qkv, Plain):
        return f"weights={decoder.weights} are packed in a format that the kernels do not read"
    return ""


class Rows(NamedTuple):
    """Rows that are to be normalised: x [B, K], and the statistics of its parts.

    Attributes:
        x: [B, K].
        norm: the layer norm to take; None: x is taken as it is.
        parts: mean and squared deviation of each `size` columns [B, P, 2]; None: of few rows, which
            are read whole.
        size: columns of a part.
    """

    x: Tensor
    norm: Norm | None = None
    parts: Tensor | None = None
    size: int = 1 << 20


class TritonPool(TorchPool):
    """The torch decoder's pool, whose whole step is kernels."""

    def __init__(self, decoder: TorchDecoder, n_slots: int, *, states: SumsPool | None = None):
        super().__init__(decoder, n_slots, states=states)
        tables, positions = self.network.tables, self._positions
        self._table = tables[0] if len(tables) == 1 else torch.cat(tables)
        self._starts = torch.tensor(decoder.vocabulary.starts, device=self.S.device)
        self._encoding, self._is_anchor = self._starts, self._starts  # not read
        if isinstance(positions, LearnedPositions):
            self._encoding = positions.table.get_parameter("weight").detach().float()
        elif decoder.config.positions != "none":
            self._encoding = frequencies(decoder.config.d_model, device=self.S.device)
        if isinstance(positions, AnchoredPositions):
            self._is_anchor = positions.is_anchor

    @torch.no_grad()
    def compile(self, slots: Tensor, tokens: Tensor) -> None:
        """Compile the kernels of a step."""
        with compiling_only():
            self.advance(slots, tokens)

    def _score(self, x: Tensor, active: Active) -> Tensor:
        """Run all layers, and the output head: logits [B, N]."""
        rows, head = self._layers(x, active), _plain(self.network.lm_head)
        return multiply(rows, head, last=self.network.norm)[1].x

    def _layers(self, x: Tensor, active: Active) -> Rows:
        """Run all layers on x [B, D], but for the last norm."""
        activation = self.decoder.config.activation
        rows = Rows(x)
        for i, layer in enumerate(self.network.layers):
            up = _plain(cast("Activated", layer.up).multiply)
            x, qkv = multiply(rows, _plain(layer.qkv))
            attended = self.attend(i, qkv.x, active)
            _, rows = multiply(Rows(attended), _plain(layer.out), residual=x, with_parts=True)
            x, h = multiply(rows._replace(norm=layer.attention_norm), up, activation=activation)
            _, rows = multiply(h, _plain(layer.down), residual=x, with_parts=True)
            rows = rows._replace(norm=layer.feed_forward_norm)
        return rows

    def attend(self, layer: int, qkv: Tensor, active: Active) -> Tensor:
        """Add the present position to a layer's sums, and attend, as `TorchPool.attend`."""
        B, width = len(qkv), self.S.shape[-1]
        out = torch.empty(B, qkv.shape[1] // 3, device=qkv.device)
        BW = max(16, triton.next_power_of_2(width))
        launch(
            kernels.attend,
            (B * self.n_heads,),
            qkv,
            active.slots,
            active.decay,
            getattr(self.network.layers[layer], "decay", None),
            self.S[layer],
            self.Z[layer],
            out,
            H=self.n_heads,
            W=width,
            BW=BW,
            BV=min(BW, 128),
            MAP=self.feature_map.name,
            num_warps=4 if BW <= 64 else 8,
            enable_fp_fusion=True,
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
        context = x.new_empty(B, max(width, 1) * D)
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
            POSITIONS=self.decoder.config.positions,
            num_warps=4,
        )
        if self.network.short_convolution is None:
            return x
        return multiply(Rows(context), _plain(self.network.short_convolution), residual=x)[1].x


class MixedPool(TritonPool):
    """Triton's embedding and attention, and PyTorch's matrices: for many rows."""

    def compile(self, slots: Tensor, tokens: Tensor) -> None:
        """Its kernels are among those of `TritonPool`."""

    def _score(self, x: Tensor, active: Active) -> Tensor:
        return TorchPool._score(self, x, active)


def multiply(
    rows: Rows,
    matrix: Plain,
    *,
    last: Norm | None = None,
    activation: str = "none",
    residual: Tensor | None = None,
    with_parts: bool = False,
) -> tuple[Tensor, Rows]:
    """Multiply by a matrix, with what stands before and after it, in one launch.

    Args:
        rows: float32 [B, K], and perhaps a norm that comes first.
        matrix: float32 or bf16 [M, K], which x is rounded to; sums are float32.
        last: a second norm, of few rows.
        activation: of the product: relu, gelu or none.
        residual: added at the end [B, M].
        with_parts: whether the result is to be normalised next.

    Returns:
        What was multiplied, x or its norm [B, K], and the result [B, M], both float32. With a
        second norm, x after the first one is not kept.
    """
    x, norm = rows.x, rows.norm
    (B, K), M = x.shape, len(matrix.bias)
    y = torch.empty(B, M, device=x.device)
    normed = x if norm is None or last is not None else torch.empty_like(x)
    of_norm = (None, None) if norm is None else (norm.weight, norm.bias)
    kept = None if normed is x else normed
    if _are_few(B, K):
        of_last = (None, None) if last is None else (last.weight, last.bias)
        tile = few_tile(B, M, K, matrix.weight.element_size())
        launch(
            kernels.multiply_few,
            (triton.cdiv(M, tile["BM"]),),
            *(x, *of_norm, *of_last, kept, matrix.weight, matrix.bias, residual, y, B),
            M=M,
            K=K,
            ACTIVATION=activation,
            **tile,
        )
        return normed, Rows(y)
    if last is not None or rows.parts is None:
        for each in (norm, last):
            x = x if each is None else normalize(x, each)
        normed, kept, of_norm = x, None, (None, None)
    tile = many_tile(B, M, K, matrix.weight.dtype)
    parts = None
    if with_parts:
        parts = x.new_empty(B, triton.cdiv(M, tile["BM"]), 2)
    launch(
        kernels.multiply_many,
        (triton.cdiv(M, tile["BM"]), triton.cdiv(B, tile["BB"])),
        *(x, rows.parts, *of_norm, kept, matrix.weight, matrix.bias, residual, y, parts, B),
        M=M,
        K=K,
        SIZE=rows.size,
        BP=triton.next_power_of_2(triton.cdiv(K, rows.size)),
        ACTIVATION=activation,
        PRECISION=_precision(matrix.weight),
        **tile,
    )
    return normed, Rows(y, parts=parts, size=tile["BM"])


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
        "enable_fp_fusion": True,
    }


def many_tile(B: int, M: int, K: int, dtype: torch.dtype) -> dict[str, int | bool]:
    """Choose blocks and warps for many rows: the largest that keep all multiprocessors busy.

    A row's result depends on these, not on other rows: 16 is the smallest that can be multiplied.
    """
    BB = 16 if B <= 64 else 32 if B <= 256 else 64
    BM = 64
    while BM > 16 and triton.cdiv(M, BM) * triton.cdiv(B, BB) < MULTIPROCESSORS:
        BM //= 2
    BK = 128 if BB == 16 else 64
    if dtype == torch.float32:
        BK //= 2
    BK = min(BK, max(16, triton.next_power_of_2(K)))
    return {
        "BB": BB,
        "BM": BM,
        "BK": BK,
        "num_warps": 4,
        "num_stages": 3,
        "enable_fp_fusion": True,
    }


def _are_few(B: int, K: int) -> bool:
    return B <= FEW and K <= MOST_INPUTS


def _precision(weight: Tensor) -> str:
    """Name how tiles multiply: bf16 as it is; float32 in three products that err by about 1e-6."""
    if not weight.is_cuda:
        return "ieee"
    if weight.dtype == torch.bfloat16:
        return "tf32"
    return "tf32x3" if torch.cuda.get_device_capability(weight.device) >= (8, 0) else "ieee"


def _plain(linear: Linear) -> Plain:
    """Return a layer's matrix, which is plain wherever `why_not` finds no reason."""
    return cast("Plain", linear)
