"""Steps by Triton's kernels: five launches a layer, and no copy of a slot's sums.

Legend: B rows, D model width, M outputs of a matrix, K its inputs.
"""

from typing import cast

import torch
import triton
from torch import Tensor

from seqgen.decoding import triton_step_kernels as kernels
from seqgen.decoding.fused import Active, TorchDecoder, TorchPool, normalize
from seqgen.decoding.linear import Activated, Linear, Plain
from seqgen.decoding.matrices import Norm

MAPS = ("elu+1", "relu")  # feature maps that apply to each number separately


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


class TritonPool(TorchPool):
    """The torch decoder's pool, whose layers are kernels."""

    def run_layers(self, x: Tensor, active: Active) -> Tensor:
        """Run all layers on x [B, D]; a layer's last norm is taken by the next one."""
        activation = self.decoder.config.activation
        norm: Norm | None = None
        for i, layer in enumerate(self.network.layers):
            up = _plain(cast("Activated", layer.up).multiply)
            x, qkv = multiply(x, _plain(layer.qkv), norm=norm)
            _, x = multiply(self.attend(i, qkv, active), _plain(layer.out), residual=x)
            x, h = multiply(x, up, norm=layer.attention_norm, activation=activation)
            _, x = multiply(h, _plain(layer.down), residual=x)
            norm = layer.feed_forward_norm
        return normalize(x, self.network.layers[-1].feed_forward_norm)

    def attend(self, layer: int, qkv: Tensor, active: Active) -> Tensor:
        """Add the present position to a layer's sums, and attend, as `TorchPool.attend`."""
        B, width = len(qkv), self.S.shape[-1]
        out = torch.empty(B, qkv.shape[1] // 3, device=qkv.device)
        BW = max(16, triton.next_power_of_2(width))
        kernels.attend[(B * self.n_heads,)](
            qkv,
            active.slots,
            active.decay,
            self.S[layer],
            self.Z[layer],
            out,
            H=self.n_heads,
            W=width,
            BW=BW,
            BV=min(BW, 64),
            MAP=self.feature_map.name,
            num_warps=4 if BW <= 64 else 8,
            enable_fp_fusion=True,
        )
        return out


def multiply(
    x: Tensor,
    matrix: Plain,
    *,
    norm: Norm | None = None,
    activation: str = "none",
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Multiply by a matrix, with what stands before and after it, in one launch.

    Args:
        x: float32 [B, K].
        matrix: float32 or bf16 [M, K], which x is rounded to; sums are float32.
        norm: a layer norm of x that comes first.
        activation: of the product: relu, gelu or none.
        residual: added at the end [B, M].

    Returns:
        What was multiplied, x or its norm [B, K], and the result [B, M], both float32.
    """
    (B, K), M = x.shape, len(matrix.bias)
    y = torch.empty(B, M, device=x.device)
    normed = x if norm is None else torch.empty_like(x)
    tile = _tile(B, K)
    kernels.multiply[(triton.cdiv(M, tile["BM"]), triton.cdiv(B, tile["BB"]))](
        x,
        *((None, None, None) if norm is None else (norm.weight, norm.bias, normed)),
        matrix.weight,
        matrix.bias,
        residual,
        y,
        B,
        M=M,
        K=K,
        ACTIVATION=activation,
        # Float32 stays exact; bf16 is multiplied as it is, where it can be.
        PRECISION="tf32" if x.is_cuda and matrix.weight.dtype == torch.bfloat16 else "ieee",
        **tile,
    )
    return normed, y


def _plain(linear: Linear) -> Plain:
    """Return a layer's matrix, which is plain wherever `why_not` finds no reason."""
    return cast("Plain", linear)


def _tile(B: int, K: int) -> dict[str, int | bool]:
    """Choose blocks and warps: few rows in narrow blocks, so that all processors read weights.

    A row's result depends on these, not on other rows: 16 is the smallest that can be multiplied.
    """
    BB = min(64, max(16, triton.next_power_of_2(B)))
    BM, BK = (16, 128) if BB == 16 else (64, 64)
    BK = min(BK, max(16, triton.next_power_of_2(K)))
    options = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}
    return {"BB": BB, "BM": BM, "BK": BK, **options}
