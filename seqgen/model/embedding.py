"""Tokens in, logits out: one embedding table and one linear head per field.

Legend: B rows, T positions, F fields, D model width, N_f vocabulary of a field, N all of them side
by side, G groups of marks.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqgen.vocabulary import Vocabulary

HELD_STD = 0.5  # several marks are in force at a time; a token's embedding begins with 1
# Adam moves each number of a rare mark as far as one of the short convolution, whose part of the
# input grows tenfold in training: what is stored is scaled, so that vectors of marks keep up.
HELD_SCALE = 16.0


class FieldEmbedding(nn.Module):
    """The sum of the embeddings of a token's fields.

    A field may have a table of a width of its own, followed by a matrix to the model's: as if the
    tables stood side by side before one linear layer (Hsiao et al. 2021).
    """

    def __init__(self, sizes: Sequence[int], d_model: int, widths: Mapping[int, int] | None = None):
        """Build the tables; `widths` are those of some fields, by their number."""
        super().__init__()
        widths = widths or {}
        self.tables = nn.ModuleList(
            nn.Embedding(size, widths.get(f, d_model)) for f, size in enumerate(sizes)
        )
        self.projections = nn.ModuleDict(
            {str(f): nn.Linear(width, d_model, bias=False) for f, width in widths.items()}
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed tokens [..., F] -> [..., D]."""
        fields = (self._widened(f, table(tokens[..., f])) for f, table in enumerate(self.tables))
        return reduce(torch.add, fields)

    def rows(self) -> tuple[Tensor, ...]:
        """What each id of each field adds: float32 [N_f, D]."""
        weights = [table.get_parameter("weight") for table in self.tables]
        return tuple(self._widened(f, weight).float() for f, weight in enumerate(weights))

    def _widened(self, f: int, x: Tensor) -> Tensor:
        return self.projections[str(f)](x) if str(f) in self.projections else x


class OutputHead(nn.Module):
    """Unnormalised scores for the next token, field by field, each given the ones before it.

    logits_f = head_f(h + Σ_{g<f} A_g[x_g]) with the hidden value h, the token's own earlier fields
    x_g, and learned tables A_g: so the product over fields can be any joint distribution that the
    heads can form, and not only one of independent fields. (Hsiao et al. 2021, "Compound Word
    Transformer", draw the token type first; Ryu et al. 2024, "Nested Music Transformer", all fields
    in a chain.) One field has no tables.
    """

    def __init__(self, sizes: Sequence[int], d_model: int):
        super().__init__()
        self.sizes = tuple(sizes)
        linears = [nn.Linear(d_model, size) for size in sizes]
        for linear in linears:
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.linears = nn.ModuleList(linears)
        self.tables = nn.ModuleList(nn.Embedding(size, d_model) for size in self.sizes[:-1])
        for table in self.tables:
            nn.init.normal_(table.get_parameter("weight"), std=0.02)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> tuple[Tensor, ...]:
        """Score hidden values [..., D] -> one tensor [..., N_f] per field.

        Args:
            x: hidden values.
            targets: the tokens that follow [..., F]: each field is given those before it. None: the
                terms of earlier fields are left out, and `add_chain` can add them.
        """
        scores = []
        for f, linear in enumerate(self.linears):
            if f > 0 and targets is not None:
                x = x + self.tables[f - 1](targets[..., f - 1])
            scores.append(linear(x))
        return tuple(scores)

    @torch.no_grad()
    def chain(self) -> Tensor:
        """Return what each id adds to the logits of the fields after its own.

        Heads are linear, so logits_f = head_f(h) + Σ_{g<f} W_f A_g[x_g], where the sum is over rows
        of this matrix.

        Returns:
            float32 [N - N_{F-1}, N - N_0]: a row for each id but those of the last field, a column
            for each but those of the first, both side by side; zeros where a column's field is not
            after the row's.
        """
        starts = np.cumsum([0, *self.sizes])
        heads = [linear.get_parameter("weight").float() for linear in self.linears]
        chain = heads[0].new_zeros(starts[-2], starts[-1] - starts[1])
        for g, table in enumerate(self.tables):
            terms = table.get_parameter("weight").float() @ torch.cat(heads[g + 1 :]).T
            chain[starts[g] : starts[g + 1], starts[g + 1] - starts[1] :] = terms
        return chain


def add_chain(logits: Sequence[Tensor], chain: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Add to logits what the earlier fields of a token say of the later ones.

    Args:
        logits: [..., N_f] per field, as `OutputHead` gives them without targets.
        chain: `OutputHead.chain()`.
        targets: the tokens [..., F].
    """
    sizes = [field.shape[-1] for field in logits]
    if len(sizes) == 1:
        return tuple(logits)
    starts = torch.tensor(np.cumsum([0, *sizes[:-2]]), device=targets.device)
    added = F.embedding(targets[..., :-1] + starts, chain).sum(-2)
    later = zip(logits[1:], added.split(sizes[1:], dim=-1), strict=True)
    return (logits[0], *(field + more for field, more in later))


class HeldMarks(nn.Module):
    """Vectors of the marks that are in force, of each group one, at each position.

    A mark that was given once is then as near to a late position as to the next one, which sums
    that forget, or grow, do not offer. Each has a vector that is added to the input embedding, and
    one that is added to the hidden value after the stack: the second is learned in few steps.

    Attributes:
        holds: `Vocabulary.holds` [N_0, G].
        table, output: these vectors by number of a mark, over `HELD_SCALE`; those of number 0 are
            zeros.
    """

    holds: Tensor

    def __init__(self, vocabulary: Vocabulary, d_model: int):
        super().__init__()
        # The recurrent form is built on meta, where nothing is stored; no checkpoint holds this.
        holds = torch.tensor(vocabulary.holds, device="cpu")
        self.register_buffer("holds", holds, persistent=False)
        self.table = nn.Embedding(int(holds.max()) + 1, d_model, padding_idx=0)
        self.output = nn.Embedding(self.table.num_embeddings, d_model, padding_idx=0)
        nn.init.normal_(self.table.weight[1:], std=HELD_STD / HELD_SCALE)
        nn.init.zeros_(self.output.weight)

    def in_force(
        self, tokens: Tensor, before: Tensor | None = None, boundaries: Tensor | None = None
    ) -> Tensor:
        """Number the marks that are in force at each position, its own token included.

        Args:
            tokens: ids [B, T, F].
            before: what was in force before the rows [B, G]; None: nothing.
            boundaries: booleans [B, T], true where a segment begins, with nothing in force.

        Returns:
            int64 [B, T, G]; 0: none.
        """
        sets = self.holds[tokens[..., 0]]  # [B, T, G]
        if boundaries is not None:
            sets = torch.where(boundaries.unsqueeze(-1), sets.clamp(min=0), sets)
        first = sets[:, :1]
        start = torch.zeros_like(first) if before is None else before.unsqueeze(1)
        sets = torch.cat([torch.where(first < 0, start, first), sets[:, 1:]], dim=1)
        place = torch.arange(sets.shape[1], device=sets.device)[:, None]
        return sets.gather(1, torch.where(sets >= 0, place, 0).cummax(1).values)

    def begin(self, x: Tensor, in_force: Tensor) -> Tensor:
        """Add to input embeddings x [B, T, D] what marks [B, T, G] say."""
        return x + _sums(self.table, in_force)

    def end(self, hidden: Tensor, in_force: Tensor) -> Tensor:
        """Add to hidden values [B, T, D] what marks [B, T, G] say."""
        return hidden + _sums(self.output, in_force)

    def rows(self) -> tuple[Tensor, Tensor]:
        """What each mark adds before the stack and after it: float32 [1 + Q, D] each."""
        return HELD_SCALE * self.table.weight.float(), HELD_SCALE * self.output.weight.float()


def _sums(table: nn.Embedding, numbers: Tensor) -> Tensor:
    """Add up the vectors of each row of numbers [B, T, G] -> [B, T, D]."""
    bags = numbers.flatten(0, 1)
    sums = F.embedding_bag(bags, table.weight, mode="sum", padding_idx=0)
    return HELD_SCALE * sums.view(*numbers.shape[:2], -1)


class ShortConvolution(nn.Module):
    """A causal convolution over the input embeddings, added to them.

    Linear attention has no sharp way to look a few tokens back; this gives it one (as the short
    convolutions of H3, Mamba and gated linear attention do). Width W: the token and W - 1 earlier.
    """

    def __init__(self, d_model: int, width: int):
        super().__init__()
        self.width = width
        self.convolution = nn.Conv1d(d_model, d_model, width)

    def forward(self, x: Tensor, recent: Tensor, positions: Tensor | None = None) -> Tensor:
        """Mix x [B, T, D] after `recent` [B, W - 1, D] -> [B, T, D]; one position is T = 1.

        With `positions` [B, T], what lies before position 0 of a segment counts as zero.
        """
        context = torch.cat([recent, x], dim=1)  # [B, W - 1 + T, D]
        if positions is None and x.device.type == "cpu":
            return x + self.convolution(context.transpose(1, 2)).transpose(1, 2)
        # On a GPU it is a matrix product too: cuDNN convolves float32 in TF32 by default.
        seen = context.unfold(1, self.width, 1)  # [B, T, D, W]
        if positions is not None:
            back = torch.arange(self.width - 1, -1, -1, device=x.device)
            seen = seen * (positions[..., None] >= back).unsqueeze(2)
        weight, bias = self.convolution.weight, self.convolution.bias
        return x + F.linear(seen.flatten(2), weight.flatten(1), bias)
