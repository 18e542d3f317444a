"""Where a token stands, by explicit index: never inferred from the length of what is passed in.

Legend: D model width.
"""

import math

import torch
from torch import Tensor, nn


class NoPositions(nn.Module):
    """Adds nothing; order is known from the recurrence and the input window alone."""

    limit = None

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return x [..., D] as it is."""
        return x


class SinusoidalPositions(nn.Module):
    """Adds sines and cosines of the index (Vaswani et al. 2017, section 3.5); any index works."""

    limit = None

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add to x [..., D] the encoding of positions [...]."""
        half = x.shape[-1] // 2
        scale = torch.arange(half, device=x.device, dtype=torch.float32) * (-math.log(1e4) / half)
        angles = positions.unsqueeze(-1).float() * scale.exp()
        return x + torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)


class LearnedPositions(nn.Module):
    """Adds a learned vector per index, and has none beyond the last."""

    def __init__(self, d_model: int, limit: int):
        super().__init__()
        self.limit = limit
        self.table = nn.Embedding(limit, d_model)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add to x [..., D] the vectors of positions [...]; ValueError beyond the table."""
        last = int(positions.max()) if positions.numel() else 0
        if last >= self.limit:
            raise ValueError(f"position {last} is beyond the {self.limit} learned ones")
        return x + self.table(positions)


def positions_in_pieces(
    B: int, T: int, starts: Tensor | None, first: Tensor | None, device: torch.device
) -> Tensor:
    """Index each position of rows [B, T] from the start of its piece.

    Args:
        B, T: rows and positions.
        starts: booleans [B, T], true where a piece begins; None: nowhere.
        first: index [B] of a row's first position, if it goes on from before; None: 0.
        device: where the indices shall be.
    """
    index = torch.arange(T, device=device).expand(B, T)
    origin = torch.zeros(B, 1, dtype=torch.long, device=device)
    if first is not None:
        origin = origin - first[:, None]
    if starts is None:
        return index - origin
    # A start's own index is above every origin before it.
    return index - torch.where(starts, index, origin).cummax(1).values


def build_positions(kind: str, d_model: int, *, limit: int) -> nn.Module:
    """Build the named kind of positions: sinusoidal, learned or none."""
    if kind == "sinusoidal":
        return SinusoidalPositions()
    if kind == "learned":
        return LearnedPositions(d_model, limit)
    if kind == "none":
        return NoPositions()
    raise ValueError(f"unknown positions {kind!r}; known are sinusoidal, learned, none")
