"""Sampling for streams in slots, each with its own settings, history and random numbers.

Legend: C slots, B rows, F fields, N_f vocabulary of a field, M the largest of them, N ids of all
fields side by side, N0 ids of the first field, R registers of the grammar.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from seqgen.errors import UserError
from seqgen.sampling import filters
from seqgen.sampling.drawing import draw_ids
from seqgen.sampling.filters import REMOVED
from seqgen.sampling.flags import Flags
from seqgen.sampling.rules import Rules
from seqgen.sampling.series import BLOCK, RING, Series
from seqgen.sampling.settings import (
    FREQUENCY_PENALTY,
    GRAMMAR,
    MIN_P,
    NEUTRAL,
    REPETITION_PENALTY,
    SMALL,
    TEMPERATURE,
    TOP_P,
    TYPICAL_P,
    Sampling,
)
from seqgen.sampling.state import SamplerState
from seqgen.vocabulary import FOLLOW, LESS, RESET, Vocabulary

# Bounds of logits: NaN and what lies below are LOWEST, which is drawn only where nothing else is
# allowed, and no temperature takes either out of float32.
LOWEST, HIGHEST = -1e30, 1e30

# Draws with a sampler, from logits [B, N_f] by field, for slots [B]: ids [B, F].
DrawBy = Callable[["Sampler", Sequence[Tensor], Tensor], Tensor]


class Sampler:
    """Draws tokens for the streams in C slots.

    What a stream draws depends on its logits, settings, prompt and seed: not on its slot, on other
    streams, or on how steps are grouped. Other implementations of the draw may
    use the tensors, all on `device`, and must update them as `draw` does.

    Attributes:
        flags: operations that the streams need.
        settings: [C, F, 7] float32, columns as numbered in `seqgen.sampling.settings`.
        top_k: [C, F] int64, at most M; 0: all ids.
        bias: what is added to logits [C, N] float32, or None until a stream uses it.
        seen: ids of the prompt and of what was drawn [C, N] bool.
        counts: how often each id was drawn [C, N] int32.
        previous: first field of the last token [C] int64.
        has_unit: whether the stream holds a whole unit [C] bool.
        registers: of the grammar [C, R] int32.
        drawn: how many draws were made [C] int64.
        numbers: random numbers [C, RING, F] float64; draw n uses row `n % RING`, as `Series` says.
        rules: which ids may follow.
        chain: what ids add to the logits of later fields [N - N_{F-1}, N - N0] float32, a row for
            each id but those of the last field, a column for each but those of the first; None:
            nothing.
        starts: places of each field's first id among the ids of all, and N [F + 1] int64.
        prepared: rows B, and how many draws of them are prepared.
        draw_by: an implementation that `draw` calls instead of its own; None: its own.
        log_likelihood: [C] float64; if `scored`, the sum over what was drawn of log p in all
            fields, under the softmax of the logits and the chain; else 0.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        n_slots: int,
        *,
        device: torch.device | str = "cpu",
        scored: bool = False,
        chain: Tensor | None = None,
    ):
        """Make room for `n_slots` streams."""
        sizes = vocabulary.sizes
        self.vocabulary, self.scored = vocabulary, scored
        self.rules = Rules.of(vocabulary, device=device)
        self.chain = chain if len(sizes) > 1 else None
        self.settings = torch.from_numpy(NEUTRAL).repeat(n_slots, len(sizes), 1).to(device)
        self.top_k = torch.zeros(n_slots, len(sizes), dtype=torch.int64, device=device)
        self.bias: Tensor | None = None
        self.seen = torch.zeros(n_slots, sum(sizes), dtype=torch.bool, device=device)
        self.counts = torch.zeros(n_slots, sum(sizes), dtype=torch.int32, device=device)
        self.previous = torch.full((n_slots,), vocabulary.bos_id, device=device)
        self.has_unit = torch.zeros(n_slots, dtype=torch.bool, device=device)
        registers = (n_slots, self.rules.n_registers)
        self.registers = torch.full(registers, RESET, dtype=torch.int32, device=device)
        self.drawn = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.log_likelihood = torch.zeros(n_slots, dtype=torch.float64, device=device)
        self._series = Series(n_slots, len(sizes), device=device)
        self.numbers = self._series.numbers
        self._samplings: dict[int, Sampling] = {}
        self._slot_flags = np.zeros((n_slots, len(Flags._fields)), dtype=np.int64)  # of each slot
        self.flags = Flags(*[0] * len(Flags._fields))
        self.prepared = 0, 0
        self.draw_by: DrawBy | None = None
        self.starts = torch.tensor([*vocabulary.starts, sum(sizes)], device=device)
        # Where each field's ids stand among those of all fields.
        self._places = [slice(a, a + n) for a, n in zip(vocabulary.starts, sizes, strict=True)]
        self._forbidden = (~self.rules.allowed).split(sizes, dim=-1)  # by field [G + 1, 2, N_f]

    def enter(
        self, slot: int, sampling: Sampling, *, seed: Sequence[int], prompt: np.ndarray
    ) -> None:
        """Put a new stream into a slot; nothing of what was there before remains.

        Args:
            slot: 0 to C - 1.
            sampling: its settings.
            seed: of its random numbers; stream r of seed s has (s, r).
            prompt: what it holds already [T, F], T ≥ 1 (BOS at least).

        Raises:
            UserError: `logit_bias` names an id that the first field does not have, or a setting a
                field that the tokens do not have.
            ValueError: the prompt is empty.
        """
        state = SamplerState.first(self.vocabulary, sampling, seed=seed, prompt=prompt)
        self.restore(slot, state)

    def restore(self, slot: int, state: SamplerState) -> None:
        """Put a stream into a slot with a state from `state`, from which it continues."""
        sampling, largest = state.sampling, max(self.vocabulary.sizes)
        names = [field.name for field in self.vocabulary.fields]
        columns, top_k = sampling.columns(names), sampling.top_ks(names)
        self._write_bias(slot, sampling)
        self.settings[slot] = torch.from_numpy(columns)
        self.top_k[slot] = torch.from_numpy(top_k.clip(max=largest))
        self.seen[slot], self.counts[slot] = state.seen, state.counts
        self.previous[slot], self.has_unit[slot] = state.previous, state.has_unit
        self.registers[slot] = torch.tensor(state.registers, dtype=torch.int32)
        self.drawn[slot], self.log_likelihood[slot] = state.drawn, state.log_likelihood
        self._series.start(slot, state.seed, drawn=state.drawn)
        self._samplings[slot] = sampling
        has_bias = bool(sampling.logit_bias)
        flags = Flags.of(columns, top_k, has_bias=has_bias, largest_field=largest)
        self._set_flags(slot, flags)

    def state(self, slot: int) -> SamplerState:
        """Return a copy of the sampler state of a slot; later draws do not change it."""
        return SamplerState(
            self._samplings[slot],
            seed=self._series.seeds[slot],
            drawn=int(self.drawn[slot]),
            seen=self.seen[slot].cpu().clone(),
            counts=self.counts[slot].cpu().clone(),
            previous=int(self.previous[slot]),
            has_unit=bool(self.has_unit[slot]),
            registers=tuple(self.registers[slot].tolist()),
            log_likelihood=float(self.log_likelihood[slot]),
        )

    def leave(self, slot: int) -> None:
        """Remove a slot's stream, so that its operations are no longer run for others."""
        self._samplings.pop(slot, None)
        self._set_flags(slot, 0)

    def prepare(self, slots: Sequence[int], n_steps: int = 1) -> None:
        """Prepare random numbers for exactly `n_steps` draws of these slots, the next ones.

        Raises:
            ValueError: a slot has no stream, or there are more steps than numbers kept ahead.
        """
        if not 1 <= n_steps <= BLOCK:
            raise ValueError(f"n_steps = {n_steps}: must be from 1 to {BLOCK}")
        if not self._samplings.keys() >= set(slots):
            raise ValueError(f"no stream has entered slots {set(slots) - self._samplings.keys()}")
        self._series.prepare(slots, n_steps)
        self.prepared = len(slots), n_steps

    def take(self, n_rows: int, n_steps: int = 1) -> None:
        """Consume prepared draws; implementations that replace `draw` call this.

        Raises:
            ValueError: fewer draws were prepared, or of another number of rows.
        """
        rows, steps = self.prepared
        if steps < n_steps or rows != n_rows:
            raise ValueError(
                f"a draw of {n_rows} rows was not prepared (prepared: {steps} draws of {rows} rows)"
            )
        self.prepared = rows, steps - n_steps

    def draw(self, logits: Sequence[Tensor], slots: Tensor) -> Tensor:
        """Draw the next token of each row, field by field, without synchronizing with the device.

        Penalties, bias, grammar, temperature, top-k, top-p, min-p and typical are applied in this
        order, each to the result of the one before. An id whose logit is NaN
        or -inf is drawn only where nothing else is allowed; then all such ids are equally likely.
        Where a later field has no id left in order, the token is EOS.

        Args:
            logits: one tensor [B, N_f] per field, to which the chain is added; not changed.
            slots: which slots the rows are, [B] int64, all different and as prepared.

        Returns:
            ids [B, F], int64.

        Raises:
            ValueError: this draw of B rows was not prepared.
        """
        self.take(len(slots))
        if self.draw_by is not None:
            return self.draw_by(self, logits, slots)
        settings = self.settings.index_select(0, slots)  # [B, F, 7]
        follows = settings[:, 0, GRAMMAR].bool()
        registers = self.registers.index_select(0, slots)
        stuck = torch.zeros_like(follows)
        added: Tensor | None = None  # to the logits of all fields but the first [B, N - N0]
        exact: list[Tensor] = []  # logits [B, N_f]
        drawn: list[Tensor] = []  # ids [B]
        for f, (field, place) in enumerate(zip(logits, self._places, strict=True)):
            exact.append(field.detach().float())
            if added is not None:
                exact[f] = exact[f] + added.split(self.vocabulary.sizes[1:], dim=-1)[f - 1]
            forbidden = self._find_forbidden(f, follows, registers, slots)
            scores = self._penalize(exact[f], f, settings, slots)
            scores = scores.clamp(LOWEST, HIGHEST).nan_to_num(LOWEST)
            ids = self._choose(scores.masked_fill(forbidden, REMOVED), f, settings, slots)
            if f > 0:
                is_used = self.rules.uses[:, f].index_select(0, drawn[0])
                ids = torch.where(is_used, ids, self.rules.fills.index_select(0, drawn[0]))
                stuck |= forbidden.all(-1) & is_used
            drawn.append(ids)
            registers = self._change(registers, place.start + ids)
            if self.chain is not None and f + 1 < len(self._places):
                row = self.chain.index_select(0, place.start + ids)
                added = row if added is None else added + row
        tokens = torch.stack(drawn, dim=-1)
        if len(drawn) > 1:
            tokens = tokens.masked_fill(stuck[:, None], self.vocabulary.eos_id)
        if self.scored:
            self._score(exact, tokens, slots)
        self._record(tokens, slots)
        if self.rules.n_registers:
            held = self.registers.index_select(0, slots)
            self.registers.index_copy_(0, slots, torch.where(stuck[:, None], held, registers))
        return tokens

    def _penalize(self, logits: Tensor, f: int, settings: Tensor, slots: Tensor) -> Tensor:
        """Apply penalties and bias to logits [B, N_f] of field f; settings are [B, F, 7]."""
        place = self._places[f]
        if self.flags.repetition:
            seen = self.seen[:, place].index_select(0, slots)
            penalty = settings[:, f, REPETITION_PENALTY, None]
            logits = filters.penalize_repetition(logits, seen, penalty)
        if self.flags.frequency:
            counts = self.counts[:, place].index_select(0, slots)
            penalty = settings[:, f, FREQUENCY_PENALTY, None]
            logits = filters.penalize_frequency(logits, counts, penalty)
        if self.flags.bias:
            assert self.bias is not None  # made before the flag is set
            logits = logits + self.bias[:, place].index_select(0, slots)
        return logits

    def _find_forbidden(self, f: int, follows: Tensor, registers: Tensor, slots: Tensor) -> Tensor:
        """Look up which ids of field f may not follow, booleans [B, N_f].

        Args:
            f: the field; the grammar's groups are about the first.
            follows: whether each row follows the grammar [B].
            registers: [B, R].
            slots: of the rows.
        """
        group = self.rules.last_group.index_select(0, self.previous.index_select(0, slots))
        group = group * follows  # without the grammar: entry 0
        forbidden = self._forbidden[f][group, self.has_unit.index_select(0, slots).long()]
        if self.rules.n_registers:
            bounds = self.rules.bounds[:, self._places[f]]
            late = (bounds <= registers.unsqueeze(-1)).any(1)
            forbidden |= late & follows[:, None]
            if f == 0:  # where nothing is left, EOS is
                forbidden[:, self.vocabulary.eos_id] &= ~forbidden.all(-1)
        return forbidden

    def _change(self, registers: Tensor, places: Tensor) -> Tensor:
        """Return what registers [B, R] hold after ids [B], given as places among all fields'."""
        if not self.rules.n_registers:
            return registers
        made = self.rules.changes.index_select(1, places).T  # [B, R]
        new = torch.where(made >= RESET, made, registers - (made == LESS).int())
        changed = (new != registers).cumsum(1) > 0  # this register or one before it
        return torch.where((made == FOLLOW) & changed, RESET, new)

    def _choose(self, scores: Tensor, f: int, settings: Tensor, slots: Tensor) -> Tensor:
        """Choose ids [B] of field f by scores [B, N_f] and settings [B, F, 7]."""
        flags, own = self.flags, settings[:, f, :, None]  # [B, 7, 1]
        temperature = own[:, TEMPERATURE]
        if not flags.random:
            return scores.argmax(-1)
        kept = filters.apply_temperature(scores, temperature.clamp_min(SMALL))
        top_k = self.top_k[:, f].index_select(0, slots).unsqueeze(-1)
        if flags.top_p:
            kept = filters.keep_top_k_and_p(kept, top_k, own[:, TOP_P])
        elif flags.top_k:
            kept = filters.keep_top_k(kept, top_k, largest=flags.top_k)
        if flags.min_p:
            kept = filters.keep_min_p(kept, own[:, MIN_P])
        if flags.typical:
            kept = filters.keep_typical(kept, own[:, TYPICAL_P])
        numbers = self.numbers[slots, self.drawn.index_select(0, slots) % RING, f]  # [B]
        drawn = draw_ids(kept, numbers)
        if flags.greedy:
            return torch.where(temperature[:, 0] == 0, scores.argmax(-1), drawn)
        return drawn

    def _score(self, exact: Sequence[Tensor], tokens: Tensor, slots: Tensor) -> None:
        """Add up log p of tokens [B, F] under logits [B, N_f], in the fields that they use."""
        used = self.rules.uses.index_select(0, tokens[:, 0])
        for f, field in enumerate(exact):
            shares = field.double().log_softmax(-1).gather(-1, tokens[:, f, None])[:, 0]
            self.log_likelihood.index_add_(0, slots, shares.masked_fill(~used[:, f], 0))

    def _record(self, tokens: Tensor, slots: Tensor) -> None:
        """Remember tokens [B, F]. Slots differ, so that each entry is written once."""
        width = self.seen.shape[1]
        places = ((slots * width).unsqueeze(-1) + self.starts[:-1] + tokens).view(-1)
        ones = torch.ones_like(places, dtype=torch.int32)
        first = tokens[:, 0]
        units = self.rules.completes_unit.index_select(0, first)
        self.seen.view(-1).index_fill_(0, places, True)
        self.counts.view(-1).index_add_(0, places, ones)
        self.previous.index_copy_(0, slots, first)
        self.has_unit.index_copy_(0, slots, units | self.has_unit.index_select(0, slots))
        self.drawn.index_add_(0, slots, torch.ones_like(slots))

    def _write_bias(self, slot: int, sampling: Sampling) -> None:
        for i, _ in sampling.logit_bias:
            if i >= self.vocabulary.sizes[0]:
                raise UserError(
                    f"logit_bias names id {i}: the first field has ids 0 to "
                    f"{self.vocabulary.sizes[0] - 1}"
                )
        if self.bias is None and sampling.logit_bias:
            self.bias = torch.zeros(self.seen.shape, device=self.seen.device)
        if self.bias is not None:
            row = torch.zeros(self.seen.shape[1])
            for i, added in sampling.logit_bias:
                row[i] = added
            self.bias[slot] = row

    def _set_flags(self, slot: int, flags: Flags | int) -> None:
        self._slot_flags[slot] = flags
        self.flags = Flags(*self._slot_flags.max(axis=0).tolist())
