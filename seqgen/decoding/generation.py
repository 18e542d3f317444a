"""Generation: prefill the prompts, then one recurrent step and one draw per token.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seqgen.errors import UserError
from seqgen.model.state import State
from seqgen.sampling import Sampler, Sampling
from seqgen.vocabulary import Vocabulary

PREFILL_TOKENS = 65_536  # rows × positions per parallel pass, to bound its memory
Stop = Callable[[int, np.ndarray], bool]
PLAIN = Sampling()


class Decoder(Protocol):
    """What generation needs of a model; `RecurrentModel` is the reference."""

    vocabulary: Vocabulary
    device: torch.device
    max_positions: int | None

    def step(self, tokens: Tensor, state: State) -> tuple[tuple[Tensor, ...], State]:
        """Take tokens [B, F] and a state; return logits [B, N_f] per field and the next state."""

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], State]:
        """Take prompts [B, T, F]; return logits after each and the state there."""


@dataclass(frozen=True)
class Step:
    """The tokens of one decode step: `tokens[i]` [F] continues row `rows[i]`.

    `finished` lists the rows that end with this step; `ended` those of them whose token is EOS.
    """

    rows: tuple[int, ...]
    tokens: np.ndarray
    finished: tuple[int, ...]
    ended: tuple[int, ...]


def generate(
    decoder: Decoder,
    prompts: Sequence[np.ndarray],
    *,
    sampling: Sampling = PLAIN,
    max_tokens: int = 1024,
    stop: Stop | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Continue every prompt and yield tokens as they are drawn.

    A row ends with EOS, when `stop(row, token)` says so, or after `max_tokens`; others go on. The
    tokens of row r depend on the prompt, `seed` and r, not on how many rows there are.

    Args:
        decoder: the recurrent form of a model.
        prompts: one array [T, F] per row, T ≥ 1 (BOS at least); lengths may differ.
        sampling: filters and temperature.
        max_tokens: the most tokens that any row may draw.
        stop: called with each drawn token; the token that stops a row is still yielded.
        seed: of the draws.

    Raises:
        UserError: a prompt is empty, or does not fit the model's positions.
    """
    if max_tokens < 1:
        raise UserError(f"max_tokens = {max_tokens}: must be 1 or more")
    _check(prompts, decoder, max_tokens)
    sampler = Sampler(sampling, decoder.vocabulary, seed=seed, n_rows=len(prompts))
    for row, prompt in enumerate(prompts):
        sampler.observe(row, prompt)
    rows = list(range(len(prompts)))
    logits, state = _prefill(decoder, prompts)
    for drawn in range(1, max_tokens + 1):
        tokens = sampler.draw(logits, rows)
        ended = [
            row for row, t in zip(rows, tokens, strict=True) if t[0] == decoder.vocabulary.eos_id
        ]
        finished = [
            row
            for row, token in zip(rows, tokens, strict=True)
            if row in ended or drawn == max_tokens or (stop is not None and stop(row, token))
        ]
        yield Step(tuple(rows), tokens, tuple(finished), tuple(ended))
        kept = [i for i, row in enumerate(rows) if row not in finished]
        if not kept:
            return
        if finished:
            rows, tokens, state = [rows[i] for i in kept], tokens[kept], state.rows(kept)
        logits, state = decoder.step(torch.from_numpy(tokens).to(decoder.device), state)


def _check(prompts: Sequence[np.ndarray], decoder: Decoder, max_tokens: int) -> None:
    if not prompts:
        raise UserError("nothing to generate: give at least one prompt (BOS alone will do)")
    longest = max(len(prompt) for prompt in prompts)
    if min(len(prompt) for prompt in prompts) == 0:
        raise UserError("a prompt holds no token: begin it with BOS")
    limit = decoder.max_positions
    if limit is not None and longest + max_tokens - 1 > limit:
        raise UserError(
            f"a prompt of {longest} tokens and {max_tokens} new ones exceed the {limit} positions "
            f"this model has learned: shorten the prompt or lower max_tokens"
        )


def _prefill(decoder: Decoder, prompts: Sequence[np.ndarray]) -> tuple[tuple[Tensor, ...], State]:
    """Prefill prompts of any lengths; equal ones once, similar ones together."""
    distinct: dict[bytes, int] = {}
    of_row = [distinct.setdefault(prompt.tobytes(), len(distinct)) for prompt in prompts]
    first_row = {number: row for row, number in reversed(list(enumerate(of_row)))}
    by_length = sorted(first_row, key=lambda number: len(prompts[first_row[number]]))
    parts, order = [], []
    while by_length:
        longest = len(prompts[first_row[by_length[-1]]])
        group = by_length[-max(1, PREFILL_TOKENS // longest) :]
        del by_length[-len(group) :]
        parts.append(_prefill_together(decoder, [prompts[first_row[n]] for n in group]))
        order.extend(group)
    where = torch.tensor([order.index(number) for number in of_row], device=decoder.device)
    logits = tuple(torch.cat(scores)[where] for scores in zip(*(p[0] for p in parts), strict=True))
    return logits, State.join([state for _, state in parts]).rows(where)


def _prefill_together(
    decoder: Decoder, prompts: Sequence[np.ndarray]
) -> tuple[tuple[Tensor, ...], State]:
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    tokens = torch.full(
        (len(prompts), int(lengths.max()), prompts[0].shape[1]),
        decoder.vocabulary.pad_id,
        dtype=torch.long,
    )
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = torch.from_numpy(prompt)
    return decoder.prefill(tokens.to(decoder.device), lengths.to(decoder.device))
