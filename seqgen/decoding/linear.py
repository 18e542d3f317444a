"""Matrices prepared for repeated multiplication, in float32, 16 bits or 8.

The operators of oneDNN and FBGEMM are private to PyTorch, which does not document what they
accept. Here they get weights [M, K] with M, K ≥ 1, and rows [B, K] in float32 with B ≥ 0 and any
strides: `prepare` checks the weights, `_check_rows` the rows of each call.

Legend: B rows, M outputs of a matrix, K its inputs.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.decoding.matrices import Matrix
from seqgen.errors import UserError

WEIGHTS: tuple[str, ...] = ("float32", "bf16", "int8")
LEVELS = 63  # of activations beside int8 weights, on either side of 0
PACKED_FOR = 16  # rows; packed for 1, a matrix takes twice as long for 2, and not less for 1
TINY = torch.finfo(torch.float32).tiny
HALF = torch.finfo(torch.float16).max

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}

Linear = Callable[[Tensor], Tensor]  # float32 [B, K] -> float32 [B, M]


@dataclass(frozen=True)
class Plain:
    """An unpacked matrix: weight [M, K] and bias [M], in one dtype."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply float32 [B, K] in the weights' dtype -> float32 [B, M]."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias).float()


@dataclass(frozen=True)
class Activated:
    """A matrix followed by an activation that is not part of the product."""

    multiply: Linear
    activation: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply [B, K] -> [B, M], then activate."""
        return self.activation(self.multiply(x))


def prepare(matrix: Matrix, weights: str, *, activation: str = "none") -> Linear:
    """Prepare y = activation(A x + b) on the matrix's device: a function of x [B, K].

    All are float32 outside; the activation is none, relu or gelu.

    What is fastest differs between processors, so the choice depends on what this one supports:

    - "float32": as it says; packed on a CPU, where a row's result is then the same to the last bit
      whatever the other rows are, and how many.
    - "bf16": bfloat16 weights and activations; on a CPU that does not multiply those, float16
      weights and float32 activations, which is nearer to float32 still.
    - "int8": weights in 8 bits with a scale for each of the M outputs; activations in 7 bits with a
      scale for each row. This needs FBGEMM.

    In no case does a row's result depend on other rows' values.

    Raises:
        UserError: `weights` is unknown, or int8 is not available here.
        ValueError: the matrix has no outputs or inputs, or its bias is not one for each output.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights = {weights}: must be one of {', '.join(WEIGHTS)}")
    M, K = matrix.weight.shape
    if M < 1 or K < 1 or matrix.bias.shape != (M,):
        raise ValueError(
            f"a matrix of shape {[M, K]} with a bias of shape {list(matrix.bias.shape)}: must be "
            f"[M, K] and [M], with M and K of 1 or more"
        )
    # With a bias that might learn, oneDNN takes 300 times as long for one row.
    matrix = Matrix(matrix.weight.detach(), matrix.bias.detach())
    on_cpu = matrix.weight.device.type == "cpu"
    if weights == "int8" and not on_cpu:
        raise UserError("weights = int8 are not available on a GPU: use bf16 or float32 there")
    if weights == "int8" and not has_fbgemm():
        raise UserError(
            "weights = int8: this build of PyTorch has no FBGEMM, which multiplies them; use the "
            "native decoder, or float32 or bf16 weights"
        )
    dtype = torch.bfloat16 if weights == "bf16" else torch.float32
    if on_cpu and weights != "int8" and _can_pack(dtype):
        return _packed(matrix, dtype, activation)
    if weights == "int8":
        multiply = _int8(matrix)
    elif on_cpu and weights == "bf16" and has_fbgemm():
        # Without instructions for bf16, 64 rows in it take 7 times as long as in float32; one row
        # takes FBGEMM half of float32's time.
        multiply = _float16(matrix)
    else:
        multiply = Plain(matrix.weight.to(dtype), matrix.bias.to(dtype))
    if activation == "none":
        return multiply
    return Activated(multiply, ACTIVATIONS[activation])


def quantize_rows(a: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of a [M, K] to multiples of its largest magnitude / 127.

    Returns:
        int8 [M, K], and the scale [M] that brings it back; rows of zeros have scale 0.
    """
    scale = a.abs().amax(dim=1) / 127
    return (a / scale.clamp_min(TINY)[:, None]).round().to(torch.int8), scale


def has_fbgemm() -> bool:
    """Whether this build of torch has FBGEMM's matrices, and its processor what they need."""
    return "fbgemm" in torch.backends.quantized.supported_engines and hasattr(
        torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32"
    )


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN is here, with fast products of a dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _packed(matrix: Matrix, dtype: torch.dtype, activation: str) -> Linear:
    bias = matrix.bias.to(dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix.weight.to(dtype), PACKED_FOR)
    multiply = torch.ops.mkldnn._linear_pointwise
    K = matrix.weight.shape[1]

    def run(x: Tensor) -> Tensor:
        _check_rows(x, K)
        return multiply(x.to(dtype), packed, bias, activation, [], "none").float()

    return run


def _float16(matrix: Matrix) -> Linear:
    multiply = torch.ops.quantized.linear_dynamic_fp16
    with _fbgemm():
        weight = matrix.weight.clamp(-HALF, HALF)
        packed = torch.ops.quantized.linear_prepack_fp16(weight, matrix.bias)
    K = matrix.weight.shape[1]

    def run(x: Tensor) -> Tensor:
        _check_rows(x, K)
        return multiply(x, packed)

    return run


def _int8(matrix: Matrix) -> Linear:
    """Multiply by FBGEMM. Its own dynamic rounding has one scale for all rows, so ours goes first.

    Seven bits, because without VNNI two products of eight are added in sixteen.
    """
    weight, scale = quantize_rows(matrix.weight)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    with _fbgemm(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are deprecated; `has_fbgemm` will say
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        scale = scale.clamp_min(TINY).double()
        quantized = torch._make_per_channel_quantized_tensor(weight, scale, zeros, 0)
        packed = torch.ops.quantized.linear_prepack(quantized, None)
    K, bias = matrix.weight.shape[1], matrix.bias

    def run(x: Tensor) -> Tensor:
        _check_rows(x, K)
        largest = torch.linalg.vector_norm(x, math.inf, 1, True)
        # In a row of zeros all is NaN here, which rounds to some number, which is multiplied by 0.
        y = multiply(x / largest, 1 / LEVELS, LEVELS + 1, packed)
        return torch.addcmul(bias, y, largest)

    return run


def _check_rows(x: Tensor, K: int) -> None:
    """Refuse all but float32 [B, K]: a private operator may not check before it reads memory."""
    if x.dtype != torch.float32 or x.dim() != 2 or x.shape[1] != K:
        raise ValueError(f"rows of {x.dtype} {list(x.shape)}: must be torch.float32 [B, {K}]")


@contextmanager
def _fbgemm() -> Iterator[None]:
    """Pack matrices for FBGEMM, whichever engine is set."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before
