"""One draw per row and field, with a random series of each row's own.

Legend: B rows, F fields, N vocabulary of a field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqgen.errors import UserError
from seqgen.sampling.filters import (
    REMOVED,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)
from seqgen.vocabulary import Vocabulary

BLOCK = 256  # random numbers drawn ahead per row


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn from logits.

    Attributes:
        temperature: 0 means greedy, without a draw.
        top_k: keep the k most likely ids; None: all.
        top_p: keep the nucleus of this probability; None: all.
        min_p: keep ids at least this share as likely as the most likely; None: all.
        repetition_penalty: 1 for none.
        grammar: allow only ids that the vocabulary's grammar allows.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    grammar: bool = True

    def __post_init__(self) -> None:
        for name, good, accepted in (
            ("temperature", 0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "1 or more"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and up to 1"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1"),
            (
                "repetition_penalty",
                0 < self.repetition_penalty < float("inf"),
                "above 0 (1 changes nothing)",
            ),
        ):
            if not good:
                raise UserError(f"{name} = {getattr(self, name)}: must be {accepted}")


class Sampler:
    """Draws tokens for rows that may finish apart; row r depends on (seed, r) and nothing else."""

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary, *, seed: int, n_rows: int):
        self._sampling = sampling
        self._vocabulary = vocabulary
        self._series = [_RowSeries(seed, row) for row in range(n_rows)]
        self._seen = [torch.zeros(n_rows, size, dtype=torch.bool) for size in vocabulary.sizes]
        self._previous = np.zeros((n_rows, len(vocabulary.fields)), dtype=np.int64)
        self._has_unit = np.zeros(n_rows, dtype=bool)

    def observe(self, row: int, tokens: np.ndarray) -> None:
        """Tell what a row holds already: its prompt [T, F]."""
        for f, seen in enumerate(self._seen):
            seen[row, torch.from_numpy(tokens[:, f])] = True
        self._note(np.array([row]), tokens[-1:], completes=self._completes(tokens).any())

    def draw(self, logits: Sequence[Tensor], rows: Sequence[int]) -> np.ndarray:
        """Draw the next token of each of the given rows.

        Args:
            logits: one tensor [B, N_f] per field, on any device; B = len(rows).
            rows: which rows these are, as numbered from the start.

        Returns:
            ids [B, F], int64.
        """
        index = np.asarray(rows)
        fields = [
            self._draw_field(f, scores.float().cpu(), index) for f, scores in enumerate(logits)
        ]
        tokens = torch.stack(fields, dim=-1).numpy()
        for special in self._vocabulary.special_ids:  # a special token is so in every field
            tokens[tokens[:, 0] == special] = special
        for f, seen in enumerate(self._seen):
            seen[index, tokens[:, f]] = True
        self._note(index, tokens, completes=self._completes(tokens))
        return tokens

    def _draw_field(self, f: int, logits: Tensor, index: np.ndarray) -> Tensor:
        s = self._sampling
        if s.repetition_penalty != 1:
            logits = penalize_repetition(logits, self._seen[f][index], s.repetition_penalty)
        logits = logits.masked_fill(~self._allowed(f, index), REMOVED)
        if s.temperature == 0:
            return logits.argmax(-1)
        logits = apply_temperature(logits, s.temperature)
        if s.top_k is not None:
            logits = keep_top_k(logits, s.top_k)
        if s.top_p is not None:
            logits = keep_top_p(logits, s.top_p)
        if s.min_p is not None:
            logits = keep_min_p(logits, s.min_p)
        cumulative = logits.double().softmax(-1).cumsum(-1)
        draws = torch.tensor([[self._series[row].next()] for row in index], dtype=torch.float64)
        drawn = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
        return drawn.squeeze(-1).clamp(max=logits.shape[-1] - 1)

    def _allowed(self, f: int, index: np.ndarray) -> Tensor:
        v = self._vocabulary
        if f == 0 and self._sampling.grammar:
            allowed = v.allowed(self._previous[index], has_unit=self._has_unit[index])
        else:  # bos and pad are never generated; eos is decided by the first field
            allowed = np.ones((len(index), v.sizes[f]), dtype=bool)
            never = [v.bos_id, v.pad_id] if f == 0 else list(v.special_ids)
            allowed[:, never] = False
        return torch.from_numpy(allowed)

    def _completes(self, tokens: np.ndarray) -> np.ndarray:
        grammar = self._vocabulary.grammar
        if grammar is None:
            return np.ones(len(tokens), dtype=bool)
        return grammar.completes_unit[tokens[:, 0]]

    def _note(self, index: np.ndarray, tokens: np.ndarray, *, completes: np.ndarray) -> None:
        self._previous[index] = tokens
        self._has_unit[index] |= completes


class _RowSeries:
    """Random numbers in [0, 1) of one row."""

    def __init__(self, seed: int, row: int):
        self._rng = np.random.default_rng([seed, row])
        self._block: list[float] = []

    def next(self) -> float:
        if not self._block:
            self._block = self._rng.random(BLOCK).tolist()[::-1]
        return self._block.pop()
