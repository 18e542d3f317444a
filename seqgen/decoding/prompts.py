"""The prefill of waiting prompts: piece by piece and in turns, equal prompts only once.

Legend: B rows, T positions, F fields.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from weakref import WeakValueDictionary

import numpy as np
import torch

from seqgen.decoding.decoder import Decoder
from seqgen.errors import UserError
from seqgen.model.state import State
from seqgen.sampling import Sampling
from seqgen.vocabulary import Vocabulary

# Positions of one prompt in one parallel pass. Prompts are always cut at its
# multiples, so that rounding does not depend on other streams.
PIECE = 512
Key = tuple[bytes, bytes | None]  # the tokens of a prompt, and those of its source


class PromptPrefill:
    """The prefill of one prompt: its tokens [T, F], how many are done, and the state after those.

    Attributes:
        source: for which the tokens begin a target [U, F]; None: there is none.
        state: of one row; None before the source, or without one before the first piece.
        turn: prompts with smaller numbers go first.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        state: State | None,
        turn: int,
        source: np.ndarray | None = None,
    ):
        self.tokens = tokens
        self.source = source
        self.state = state
        self.turn = turn
        self.taken = 0

    @property
    def piece(self) -> np.ndarray:
        """The tokens of the next pass; empty when all are done."""
        return self.tokens[self.taken : self.taken + PIECE]

    @property
    def is_done(self) -> bool:
        """Whether the state holds all tokens."""
        return self.state is not None and self.taken == len(self.tokens)

    @property
    def final_state(self) -> State:
        """The state after all tokens, when all are done."""
        assert self.state is not None
        return self.state

    def advance(self, state: State, *, turn: int) -> None:
        """Record that the piece is done, with `state` after it."""
        self.taken += len(self.piece)
        self.state, self.turn = state, turn


class Prompts:
    """Prefills the prompts of waiting streams; a state is kept while its prompt is referenced."""

    def __init__(self, decoder: Decoder):
        self._decoder = decoder
        self._known: WeakValueDictionary[Key, PromptPrefill] = WeakValueDictionary()
        self._turns = count()

    def get(self, tokens: np.ndarray, source: np.ndarray | None = None) -> PromptPrefill:
        """Return the prompt of `tokens` [T, F], one and the same for all who ask; T may be 0."""
        key = tokens.tobytes(), None if source is None else source.tobytes()
        prompt = self._known.get(key)
        if prompt is None:
            is_empty = source is None and not len(tokens)
            prompt = self._known[key] = PromptPrefill(
                tokens,
                state=self._decoder.initial_state(1) if is_empty else None,
                turn=next(self._turns),
                source=source,
            )
        return prompt

    def prefill(self, prompts: Iterable[PromptPrefill], n_tokens: int) -> None:
        """Take pieces of `prompts` in turns, until `n_tokens` or more of them have been taken."""
        unfinished = {id(prompt): prompt for prompt in prompts if not prompt.is_done}
        while unfinished and n_tokens > 0:
            chosen = []
            for prompt in sorted(unfinished.values(), key=lambda prompt: prompt.turn):
                if n_tokens > 0:
                    chosen.append(prompt)
                    n_tokens -= len(prompt.piece) + self._begin(prompt)
            for group in self._groups([prompt for prompt in chosen if not prompt.is_done]):
                self._take(group)
            unfinished = {key: p for key, p in unfinished.items() if not p.is_done}

    def state_after(self, tokens: np.ndarray, before: State | None = None) -> State:
        """Return the state after `tokens` [T, F] at once; `before` is one of one row, None: new."""
        prompt = self.get(tokens)
        if before is not None:
            prompt = PromptPrefill(tokens, state=before, turn=next(self._turns))
        self.prefill([prompt], len(tokens))
        return prompt.final_state

    def _begin(self, prompt: PromptPrefill) -> int:
        """Read the source of a prompt, if that is still to be done; return its length, or 0."""
        if prompt.source is None or prompt.state is not None:
            return 0
        source = torch.from_numpy(prompt.source).to(self._decoder.device)[None]
        lengths = torch.tensor([source.shape[1]], device=source.device)
        prompt.state = self._decoder.begin(source, lengths)
        return len(prompt.source)

    def _groups(self, prompts: list[PromptPrefill]) -> list[list[PromptPrefill]]:
        """Group prompts that share a pass: on a GPU those of one length (but for a quarter).

        On a CPU it is one at a time: a row's rounding would change with the shape of its batch.
        """
        if self._decoder.device.type != "cuda":
            return [[prompt] for prompt in prompts]
        groups: list[list[PromptPrefill]] = []
        for prompt in sorted(prompts, key=lambda p: (p.state is None, len(p.piece)), reverse=True):
            first = groups[-1][0] if groups else None
            if (
                first is not None
                and (first.state is None) == (prompt.state is None)
                and 4 * len(prompt.piece) >= 3 * len(first.piece)
            ):
                groups[-1].append(prompt)
            else:
                groups.append([prompt])
        return groups

    def _take(self, group: Sequence[PromptPrefill]) -> None:
        """Run the next pieces of prompts in one pass: all of them their first ones, or none."""
        vocabulary, device = self._decoder.vocabulary, self._decoder.device
        lengths = torch.tensor([len(prompt.piece) for prompt in group])
        shape = (len(group), int(lengths.max()), len(vocabulary.fields))
        tokens = torch.full(shape, vocabulary.pad_id, dtype=torch.long)
        for row, prompt in zip(tokens, group, strict=True):
            row[: len(prompt.piece)] = torch.from_numpy(prompt.piece)
        states = [prompt.state for prompt in group if prompt.state is not None]
        before = State.join(states) if states else None
        _, after = self._decoder.prefill(tokens.to(device), lengths.to(device), before)
        for row, prompt in enumerate(group):
            prompt.advance(after.rows([row]), turn=next(self._turns))


def checked_prompt(
    prompt: np.ndarray, vocabulary: Vocabulary, *, name: str = "a prompt"
) -> np.ndarray:
    """Return a copy of the prompt as int64 [T, F]; UserError where it is invalid."""
    if len(prompt) == 0:
        raise UserError(f"{name} has no tokens: begin it with BOS")
    return checked_tokens(prompt, vocabulary, name=name)


def checked_tokens(tokens: np.ndarray, vocabulary: Vocabulary, *, name: str) -> np.ndarray:
    """Return a copy of tokens as int64 [T, F]; UserError, which calls them so, where they are not.

    T may be 0.
    """
    tokens = np.asarray(tokens)
    sizes = vocabulary.sizes
    if tokens.shape[1:] != (len(sizes),) or not np.issubdtype(tokens.dtype, np.integer):
        raise UserError(
            f"{name} of shape {tokens.shape} and type {tokens.dtype}: must be ids "
            f"[tokens, {len(sizes)}]"
        )
    if (tokens < 0).any() or (tokens >= sizes).any():
        raise UserError(
            f"{name} with ids from {tokens.min()} to {tokens.max()}: its fields have {sizes} ids"
        )
    return tokens.astype(np.int64)


def check_positions(limit: int | None, n_tokens: int, max_tokens: int | None) -> None:
    """Raise UserError where a prompt of `n_tokens` and new tokens exceed `limit` positions."""
    if limit is not None and (max_tokens is None or n_tokens + max_tokens - 1 > limit):
        new = "unlimited" if max_tokens is None else max_tokens
        raise UserError(
            f"a prompt of {n_tokens} tokens and {new} new ones exceed the {limit} positions "
            f"this model has learned: shorten the prompt or lower max_tokens"
        )


def check_sampling(sampling: Sampling, vocabulary: Vocabulary) -> None:
    """Raise UserError for settings that do not fit this vocabulary."""
    names = [field.name for field in vocabulary.fields]
    sampling.columns(names)
    sampling.top_ks(names)
    for i, _ in sampling.logit_bias:
        if i >= vocabulary.sizes[0]:
            raise UserError(
                f"logit_bias names id {i}: the first field has ids 0 to {vocabulary.sizes[0] - 1}"
            )
