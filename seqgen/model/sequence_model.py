"""The parallel form: all positions at once, used to train and to prefill. It owns every parameter.

Legend: B rows, T positions, F fields, D model width, W convolution width, N_f vocabulary of a
field, N_0 that of the first, G groups of marks.
"""

import torch
from torch import Tensor, nn

from seqgen.attention.decay import decay_products
from seqgen.attention.kinds import KINDS, check_decay
from seqgen.attention.operator import choose_kernel
from seqgen.attention.rows import PassRows
from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.model.dropout import ByteDropout
from seqgen.model.embedding import FieldEmbedding, HeldMarks, OutputHead, ShortConvolution
from seqgen.model.positions import build_positions, positions_in_segments
from seqgen.model.stack import build_parallel, inner_attentions, run_parallel, stack_arguments
from seqgen.model.state import State
from seqgen.vocabulary import Vocabulary


class SequenceModel(nn.Module):
    """embedding → short convolution → positions → causal stack → one head per field.

    Attributes:
        held: vectors of the marks in force, which are added before the stack and after it; None
            where the vocabulary has none.
        recompute: in training, compute what is inside a layer again instead of keeping it.
        uses: `Vocabulary.uses` [N_0, F] with several fields, else None; for the loss.
    """

    uses: Tensor | None

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary):
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.recompute = False
        widths = _widths(config, vocabulary)
        self.embedding = FieldEmbedding(vocabulary.sizes, config.d_model, widths)
        self.positions = build_positions(config, vocabulary)
        self.short_convolution = (
            ShortConvolution(config.d_model, config.conv_width) if config.conv_width else None
        )
        self.held = HeldMarks(vocabulary, config.d_model) if vocabulary.held else None
        self.dropout = ByteDropout(config.dropout)
        self.stack = build_parallel(stack_arguments(config))
        self.lm_head = OutputHead(vocabulary.sizes, config.d_model)
        several = len(vocabulary.fields) > 1
        uses = torch.tensor(vocabulary.uses, device="cpu") if several else None
        self.register_buffer("uses", uses, persistent=False)

    @property
    def n_recent(self) -> int:
        """Earlier embeddings that the short convolution sees: W - 1, or 0 without one."""
        return max(self.config.conv_width - 1, 0)

    def initial_state(self, n_rows: int) -> State:
        """Return the state before the first token, for B = `n_rows` rows."""
        c, device = self.config, next(self.parameters()).device
        sizes = (c.n_layers, n_rows, c.n_heads, c.d_model // c.n_heads)
        n_groups = len(self.vocabulary.held)
        return State(
            attention=KINDS[c.attention].initial(sizes, c.feature_map, device),
            recent=torch.zeros(n_rows, self.n_recent, c.d_model, device=device),
            position=torch.zeros(n_rows, dtype=torch.long, device=device),
            held=torch.zeros(n_rows, n_groups, dtype=torch.long, device=device),
        )

    def begin(self, source: Tensor, lengths: Tensor) -> State:
        """Return the state before the first token of a target: here its source is a prefix.

        Args:
            source: ids [B, U, F].
            lengths: valid positions of each row [B].
        """
        _, state = self.run(source, lengths, keep_state=True)
        assert state is not None
        return state

    def use_kernel(self, kernel: str) -> None:
        """Choose causal linear attention's kernel; ValueError where it cannot run on the device."""
        choose_kernel(kernel, next(self.parameters()).device)
        for attention in inner_attentions(self.stack):
            attention.kernel = kernel

    def embed(
        self,
        tokens: Tensor,
        positions: Tensor,
        recent: Tensor | None = None,
        *,
        origins: Tensor | int = 0,
        in_force: Tensor | None = None,
        in_segments: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Turn tokens [B, T, F] at positions [B, T] or [T] into the stack's input.

        Both forms go through here; the recurrent one passes T = 1 and its `recent` embeddings.
        Indices are counted from `origins`, which `positions.origins` finds. `in_force` [B, T, G]
        are the marks that `in_force` finds; None: none. With `in_segments`, rows hold several
        segments, and the convolution does not reach beyond position 0.

        Returns:
            The input [B, T, D], and `recent` followed by the raw embeddings [B, W - 1 + T, D].
        """
        raw = self.embedding(tokens)
        if recent is None:
            recent = raw.new_zeros(raw.shape[0], self.n_recent, raw.shape[2])
        x = raw
        if self.short_convolution is not None:
            x = self.short_convolution(raw, recent, positions if in_segments else None)
        if self.held is not None and in_force is not None:
            x = self.held.begin(x, in_force)
        return self.dropout(self.positions(x, positions - origins)), torch.cat([recent, raw], dim=1)

    def in_force(
        self, tokens: Tensor, before: State | None = None, boundaries: Tensor | None = None
    ) -> Tensor:
        """Number the marks in force at tokens [B, T, F] after a state: [B, T, G].

        See `HeldMarks.in_force`; without groups of marks G is 0.
        """
        if self.held is None:
            return tokens.new_zeros(*tokens.shape[:2], 0)
        return self.held.in_force(tokens, before and before.held, boundaries)

    def finish(self, hidden: Tensor, in_force: Tensor) -> Tensor:
        """Add to what the stack makes [B, T, D] what marks in force [B, T, G] say at its end."""
        return hidden if self.held is None else self.held.end(hidden, in_force)

    def run(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        *,
        boundaries: Tensor | None = None,
        state: State | None = None,
        keep_state: bool = False,
        decay_after: int | None = None,
    ) -> tuple[Tensor, State | None]:
        """Run embedding and stack over rows that may hold several segments and may continue others.

        Args:
            tokens: ids [B, T, F].
            lengths: valid positions of each row [B]; None: all of them.
            boundaries: booleans [B, T], true where a segment begins; None: nowhere.
            state: what came before the rows; None: nothing. It is not changed.
            keep_state: also return the state after each row's last valid position.
            decay_after: position from which the sums decay (`seqgen.attention.decay`); rows then
                have at most `longest_pass(decay_after)` positions. None: they never do.

        Returns:
            Hidden values [B, T, D], which mean nothing past a row's length, and the state or None.
        """
        B, T, _ = tokens.shape
        check_decay(self.config.attention, decay_after)
        positions = torch.arange(T, device=tokens.device)
        if boundaries is not None or state is not None:
            before = state and state.position
            positions = positions_in_segments(B, T, boundaries, before, tokens.device)
        origins = self.positions.origins(tokens, positions, state and state.origin)
        in_force = self.in_force(tokens, state, boundaries)
        recent, in_segments = state and state.recent, boundaries is not None
        x, embeddings = self.embed(
            *(tokens, positions, recent),
            origins=origins,
            in_force=in_force,
            in_segments=in_segments,
        )
        products = None
        if decay_after is not None and (state is not None or decay_after < T):
            products = decay_products(positions.expand(B, T), decay_after, lengths)
        rows = PassRows(
            *(B, T),
            device=tokens.device,
            lengths=lengths,
            boundaries=boundaries,
            initial=state and state.attention,
            before=state and state.position,
            decay_products=products,
            source=state.source if state else (),
            keep=keep_state,
        )
        hidden = run_parallel(self.stack, x, rows, recompute=self.recompute and self.training)
        hidden = self.finish(hidden, in_force)
        if not keep_state:
            return hidden, None
        return hidden, self._state_after(rows, embeddings, positions, origins, in_force, state)

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor | None = None,
        *,
        boundaries: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Score the next token at every position: as `run`, then logits [B, T, N_f] per field.

        Args:
            tokens, lengths, boundaries: as for `run`.
            targets: the next tokens [B, T, F]: each field is scored given those before it. None:
                given none of them, as `OutputHead` says.
        """
        return self.lm_head(self.run(tokens, lengths, boundaries=boundaries)[0], targets)

    def _state_after(
        self,
        rows: PassRows,
        embeddings: Tensor,
        positions: Tensor,
        origins: Tensor,
        in_force: Tensor,
        before: State | None,
    ) -> State:
        """Gather the state after the last valid position of each row; empty rows stay at `before`.

        Row b's last W - 1 embeddings [B, W - 1, D] begin at index length_b of [recent, embeddings];
        those from before the segment that the row ends in count as zeros.
        """
        lengths = rows.lengths
        last = (lengths - 1).clamp(min=0)[:, None]
        position, origin = (
            x.expand(len(last), -1).gather(1, last)[:, 0] for x in (positions + 1, origins)
        )
        row = torch.arange(len(lengths), device=lengths.device)
        held = in_force[row, last[:, 0]]
        if (lengths == 0).any():
            empty = lengths == 0
            position = torch.where(empty, before.position if before else 0, position)
            origin = torch.where(empty, before.origin if before else 0, origin)
            held = torch.where(empty[:, None], before.held if before else 0, held)
        back = torch.arange(self.n_recent, device=lengths.device)
        recent = embeddings[row[:, None], lengths[:, None] + back]
        inside = position[:, None] - self.n_recent + back >= 0
        recent = recent * inside.unsqueeze(-1)
        return State(rows.stacked_states(), recent, position, origin, held, rows.source)


def _widths(config: ModelConfig, vocabulary: Vocabulary) -> dict[int, int]:
    """Return `model.field_widths` by the number of the field."""
    names = [field.name for field in vocabulary.fields]
    unknown = [name for name in config.field_widths if name not in names]
    if unknown:
        raise UserError(
            f"model.field_widths is given for {', '.join(unknown)}: the fields of these tokens are "
            f"{', '.join(names)}"
        )
    return {names.index(name): width for name, width in config.field_widths.items()}
