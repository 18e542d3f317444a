"""Positions of tokens by explicit index, never inferred from the length of the input.

Legend: B rows, T positions, F fields, D model width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.vocabulary import Vocabulary


class Positions(nn.Module):
    """Base class, and `model.positions=none`: nothing is added for the index of a token.

    Order is then known only from the recurrence and the short convolution.

    Attributes:
        limit: how many indices there are; None: no end.
    """

    limit: int | None = None

    def origins(self, tokens: Tensor, positions: Tensor, before: Tensor | None = None) -> Tensor:
        """Return the position from which the index of each token is counted: 0 unless it restarts.

        Args:
            tokens: ids [B, T, F].
            positions: of the tokens in their segments, [B, T] or [T].
            before: the origin that each row continues with [B]; None: 0.

        Returns:
            What is to be subtracted from `positions`, of their shape or [B, T].
        """
        return torch.zeros_like(positions)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return x [..., D] as it is."""
        return x


class SinusoidalPositions(Positions):
    """Adds sines and cosines of the index (Vaswani et al. 2017, section 3.5); any index works."""

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Add to x [..., D] the encoding of index [...]."""
        angles = index.unsqueeze(-1).float() * frequencies(x.shape[-1], device=x.device)
        return x + torch.cat([angles.sin(), angles.cos()], dim=-1).to(x.dtype)


class AnchoredPositions(SinusoidalPositions):
    """Sines and cosines of the index since the last anchor, which has 0 itself.

    Before the first anchor of a segment the index is counted from its beginning. As long as anchors
    keep coming, no index is new, however long the sequence.

    Attributes:
        is_anchor: booleans, for each id of the first field.
    """

    is_anchor: Tensor

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self.register_buffer("is_anchor", _anchors(vocabulary), persistent=False)

    def origins(self, tokens: Tensor, positions: Tensor, before: Tensor | None = None) -> Tensor:
        """Return the position of the last anchor [B, T], or 0 in segments without one so far."""
        begins = self.is_anchor[tokens[..., 0]] | (positions == 0)
        place = torch.arange(begins.shape[1], device=tokens.device)
        last = torch.where(begins, place, -1).cummax(1).values  # -1: in an earlier row
        origin = positions.expand_as(last).gather(1, last.clamp(min=0))
        return origin if before is None else torch.where(last >= 0, origin, before[:, None])


class NumberedBars(SinusoidalPositions):
    """Sines and cosines of how many anchors there were since BOS: all of a bar have its number.

    So a target finds in its source what is told of the same bar, however many tokens each takes.
    """

    is_anchor: Tensor

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self.bos_id = vocabulary.bos_id
        self.register_buffer("is_anchor", _anchors(vocabulary), persistent=False)

    def origins(self, tokens: Tensor, positions: Tensor, before: Tensor | None = None) -> Tensor:
        """Return the position [B, T] minus the number of the bar."""
        first = tokens[..., 0]
        begins = (positions == 0) | (first == self.bos_id)
        anchors = (self.is_anchor[first] & ~begins).long().cumsum(1)
        at_begin = torch.where(begins, anchors, -1).cummax(1).values  # -1: in an earlier row
        positions = positions.expand_as(anchors)
        number = anchors - at_begin.clamp(min=0)
        if before is not None:
            earlier = positions[:, :1] - 1 - before[:, None]
            number = torch.where(at_begin < 0, number + earlier, number)
        return positions - number


class LearnedPositions(Positions):
    """Adds a learned vector per index, and has none beyond the last."""

    limit: int

    def __init__(self, d_model: int, limit: int):
        super().__init__()
        self.limit = limit
        self.table = nn.Embedding(limit, d_model)

    def vectors(self, index: Tensor) -> Tensor:
        """Return what is added at index [...] -> [..., D]."""
        return self.table(index)

    @torch.no_grad()
    def rows(self) -> Tensor:
        """Return what is added at each index: float32 [limit, D]."""
        device = next(self.parameters()).device
        return self.vectors(torch.arange(self.limit, device=device)).float()

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Add to x [..., D] the vectors of index [...]; ValueError beyond the last."""
        last = int(index.max()) if index.numel() else 0
        if last >= self.limit:
            raise ValueError(f"position {last} is beyond the {self.limit} learned ones")
        return x + self.vectors(index)


class AxisPositions(LearnedPositions):
    """Adds a learned vector for the place along each axis of a piece, such as row and column.

    The last axis is the fastest. At index i a model has taken i tokens of the piece, and scores the
    one that lies at i. There is one more place on the first axis, for what comes after a whole
    piece: EOS, and padding. For decoders all sums are one table, as that of learned positions.
    """

    def __init__(self, d_model: int, axes: Sequence[int]):
        nn.Module.__init__(self)
        self.limit = math.prod(axes) + 2  # the last one takes EOS
        self.axes = (axes[0] + 1, *axes[1:])
        self.tables = nn.ModuleList(nn.Embedding(size, d_model) for size in self.axes)
        for table in self.tables:  # so that their sum begins as one vector of learned positions
            nn.init.normal_(table.get_parameter("weight"), std=len(axes) ** -0.5)

    def vectors(self, index: Tensor) -> Tensor:
        """Return the sum of the vectors of all axes at index [...] -> [..., D]."""
        sums: Tensor | None = None
        for size, table in zip(reversed(self.axes), reversed(list(self.tables)), strict=True):
            vector = table(index % size)
            sums, index = vector if sums is None else sums + vector, index // size
        assert sums is not None
        return sums

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Add to x [..., D] the vectors of index [...]; padding may lie beyond the last one."""
        return x + self.vectors(index)


def _anchors(vocabulary: Vocabulary) -> Tensor:
    """Which ids of the first field are anchors [N_0]."""
    # The recurrent form is built on meta, where nothing is stored; no checkpoint holds this.
    is_anchor = torch.zeros(vocabulary.sizes[0], dtype=torch.bool, device="cpu")
    is_anchor[list(vocabulary.anchors)] = True
    return is_anchor


def positions_in_segments(
    B: int, T: int, boundaries: Tensor | None, first: Tensor | None, device: torch.device
) -> Tensor:
    """Index each position of rows [B, T] from the start of its segment.

    Args:
        B, T: rows and positions.
        boundaries: booleans [B, T], true where a segment begins; None: nowhere.
        first: index [B] of a row's first position, if it goes on from before; None: 0.
        device: of the result.
    """
    index = torch.arange(T, device=device).expand(B, T)
    origin = torch.zeros(B, 1, dtype=torch.long, device=device)
    if first is not None:
        origin = origin - first[:, None]
    if boundaries is None:
        return index - origin
    # A boundary's own index is above every origin before it.
    return index - torch.where(boundaries, index, origin).cummax(1).values


def frequencies(d_model: int, *, device: torch.device | None = None) -> Tensor:
    """Return the angle [D / 2] by which each pair of sine and cosine turns from index to index."""
    half = d_model // 2
    return (torch.arange(half, device=device, dtype=torch.float32) * (-math.log(1e4) / half)).exp()


def build_positions(config: ModelConfig, vocabulary: Vocabulary) -> Positions:
    """Build the positions that a configuration names.

    Raises:
        UserError: they count from anchors or along axes, and the vocabulary has none.
    """
    if config.positions in ("bars", "bar-numbers"):
        if not vocabulary.anchors:
            raise UserError(
                f"model.positions={config.positions} needs tokens that begin a bar, and this "
                f"vocabulary has none: use tokenizer.type=remi, or model.positions=none, "
                f"sinusoidal or learned"
            )
        is_number = config.positions == "bar-numbers"
        return NumberedBars(vocabulary) if is_number else AnchoredPositions(vocabulary)
    if config.positions == "axes":
        if not vocabulary.axes:
            raise UserError(
                "model.positions=axes is for pieces of one length with rows and columns, such as "
                "images, and this vocabulary is for others: use model.positions=none, sinusoidal "
                "or learned"
            )
        return AxisPositions(config.d_model, vocabulary.axes)
    if config.positions == "sinusoidal":
        return SinusoidalPositions()
    if config.positions == "learned":
        return LearnedPositions(config.d_model, config.max_positions)
    return Positions()
