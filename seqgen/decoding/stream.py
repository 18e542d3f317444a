"""One stream of an engine: its request, and its tokens so far.

Legend: T positions, F fields.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from seqgen.decoding.guided import Guidance, Guide
from seqgen.decoding.prompts import PromptPrefill
from seqgen.decoding.session import Session
from seqgen.errors import UserError
from seqgen.model.state import State
from seqgen.sampling import SamplerState

Reason = Literal["eos", "stop", "length", "cancelled", "error"]
Stop = Callable[["Stream", np.ndarray], bool]
OnToken = Callable[["Stream", np.ndarray], None]
OnStart = Callable[["Stream", Session], None]


@dataclass(frozen=True)
class Beginning:
    """The start of a new stream: after its prompt, except for the last token.

    Attributes:
        prompt, sampler: of the stream.
        guidance, second: of a guided one, and the prompt of its second stream.
    """

    prompt: PromptPrefill
    sampler: SamplerState
    guidance: Guidance | None = None
    second: PromptPrefill | None = None

    @property
    def prompts(self) -> list[PromptPrefill]:
        """What has to be prefilled."""
        return [self.prompt] if self.second is None else [self.prompt, self.second]

    @property
    def state(self) -> State:
        """The state after the prompt, which has been prefilled."""
        return self.prompt.final_state

    @property
    def guide(self) -> Guide | None:
        """The second stream after its prompt, which has been prefilled."""
        if self.guidance is None or self.second is None:
            return None
        return Guide(self.second.final_state, self.guidance.prompt[-1], self.guidance.scale)


@dataclass(eq=False)
class Stream:
    """What `Engine.submit` and `Engine.resume` return. The engine alone changes it.

    Attributes:
        number: which of the engine's streams it is, unless the caller has numbered it.
        prompt: ids [T, F] given before the first drawn token; T = 0 for a resumed session.
        max_tokens: the most tokens that it may draw; None: no end, and `tokens` stays empty. Where
            all pieces are of one length (`Vocabulary.length`), at most what is left of it.
        stop: called with the stream and each token [F] it draws, but the one that ends it anyway
            (EOS, or the last of `max_tokens`); true ends it with that token, or after the last of
            tokens that it was forced to take together.
        on_token: called likewise, after it is known whether the stream ends with the token.
        is_forced: whether the token that these two are called with was forced and not drawn.
        on_start: called once before it draws, with its session.
        keep: whether its session can be read after its end.
        is_guided: whether it has a second stream.
        start: where it goes on from as soon as there is room; with `keep`, where it has ended.
        pending: the token [F] that it takes next.
        position: index of `pending`.
        tokens: what has been drawn or forced, ids [F] each.
        n_tokens: how many these are.
        forced: which of them were forced, counted from 0.
        finished: why it has ended ("eos": with EOS, or as a whole piece of the one length); None
            before that. All else is known when this is set.
        error: what `stop` or `on_token` raised, where they ended it.
        log_likelihood: of all that it has drawn, before its session too, in nats: at the end, with
            `Engine(scored=True)` and without guidance.
        slot: where it runs in the engine's pool; None: nowhere.
    """

    start: Beginning | Session | None
    pending: np.ndarray
    position: int
    number: int
    prompt: np.ndarray
    max_tokens: int | None = None
    stop: Stop | None = None
    on_token: OnToken | None = None
    on_start: OnStart | None = None
    keep: bool = False
    is_guided: bool = False
    tokens: list[np.ndarray] = field(default_factory=list)
    n_tokens: int = 0
    forced: list[int] = field(default_factory=list)
    is_forced: bool = False
    finished: Reason | None = None
    error: Exception | None = None
    log_likelihood: float | None = None
    slot: int | None = None

    @property
    def n_slots(self) -> int:
        """How many slots it takes."""
        return 2 if self.is_guided else 1

    @property
    def n_given(self) -> int:
        """How many tokens it begins with, its second stream included; only before it has begun."""
        second = self.start.second if isinstance(self.start, Beginning) else None
        return len(self.prompt) + (0 if second is None else len(second.tokens) + 1)

    @property
    def n_drawn(self) -> int:
        """How many tokens have been drawn here."""
        return self.n_tokens - len(self.forced)

    def take(self, token: np.ndarray, *, forced: bool = False) -> None:
        """Note a token [F] that was drawn, or forced. For the engine."""
        if forced:
            self.forced.append(self.n_tokens)
        self.pending = token
        self.position += 1
        self.n_tokens += 1
        if self.max_tokens is not None:
            self.tokens.append(token)

    def check_mark(self, session: Session) -> None:
        """Raise UserError unless `session` may be one of this stream's own."""
        n_tokens = self.n_tokens - (self.position - session.position)
        known = None  # the pending token then, if it is known
        if n_tokens == self.n_tokens:
            known = self.pending
        elif n_tokens == 0 and len(self.prompt):
            known = self.prompt[-1]
        elif 0 < n_tokens <= len(self.tokens):
            known = self.tokens[n_tokens - 1]
        is_other = known is not None and not np.array_equal(known, session.pending)
        is_other |= (session.guide is not None) != self.is_guided
        if not 0 <= n_tokens <= self.n_tokens or is_other:
            raise UserError(
                f"the session is not a mark of stream {self.number} since it began: resume it as a "
                f"separate stream"
            )

    def go_back(self, session: Session) -> None:
        """Return to a mark. For the engine."""
        self.n_tokens -= self.position - session.position
        del self.tokens[self.n_tokens :]
        self.forced = [i for i in self.forced if i < self.n_tokens]
        self.start, self.pending, self.position = session, session.pending, session.position
        self.finished = self.error = self.log_likelihood = None
