"""Dropout whose masks are cheap to draw on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 256


class ByteDropout(nn.Module):
    """Dropout with a probability in steps of 1/256, eight masks to each random number on a CPU.

    PyTorch draws CPU masks one element at a time on one core, which took 30% of a training step of
    the quickstart model; one byte per element takes a quarter of that. Elsewhere: PyTorch's own.
    """

    def __init__(self, p: float):
        super().__init__()
        self.threshold = min(round(p * LEVELS), LEVELS - 1)
        if p > 0:
            self.threshold = max(self.threshold, 1)

    @property
    def p(self) -> float:
        """The share of elements that are dropped."""
        return self.threshold / LEVELS

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of x [...] with probability p and scale the others by 1 / (1 - p)."""
        if not self.training or self.threshold == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # which cannot draw bytes
            return F.dropout(x, self.p)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
        words.random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * (kept.to(x.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p:.3f}"
