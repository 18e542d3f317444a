"""One stream of an engine: what was asked for, and what has come of it so far.

Legend: T positions, F fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from seqgen.decoding.prompts import Prompt
from seqgen.decoding.session import Session
from seqgen.errors import UserError
from seqgen.sampling import SamplerRow

if TYPE_CHECKING:
    from seqgen.decoding.engine import Engine

Reason = Literal["eos", "stop", "length", "cancelled", "error"]
Stop = Callable[["Stream", np.ndarray], bool]
OnToken = Callable[["Stream", np.ndarray], None]


@dataclass(frozen=True)
class Beginning:
    """Where a stream begins that no session goes before: after a prompt but for its last token."""

    prompt: Prompt
    sampler: SamplerRow


@dataclass(eq=False)
class Stream:
    """A handle that `Engine.submit` and `Engine.resume` return; the engine alone changes it.

    Attributes:
        engine: whose stream it is.
        number: which of the engine's streams it is, unless the caller has numbered it.
        prompt: ids [T, F] given before the first drawn token; T = 0 for a resumed session.
        max_tokens: the most tokens that it may draw; None: no end, and `tokens` stays empty.
        stop: called with the stream and each token [F] it draws, but the one that ends it anyway
            (EOS, or the last of `max_tokens`); true ends it with that token.
        on_token: called likewise, after it is known whether the stream ends with the token.
        keep: whether `session` works after the end.
        tokens: what has been drawn, ids [F] each.
        n_tokens: how many have been drawn here.
        finished: why it has ended; None before that.
        error: what `stop` or `on_token` raised, where they ended it.
        log_likelihood: of all that it has drawn, before its session too, in nats: at the end, and
            with `Engine(scored=True)`.
    """

    engine: Engine
    start: Beginning | Session | None  # where it goes on from as soon as there is room
    pending: np.ndarray  # [F], the token that it takes next
    position: int  # index of `pending`
    number: int
    prompt: np.ndarray
    max_tokens: int | None = None
    stop: Stop | None = None
    on_token: OnToken | None = None
    keep: bool = False
    tokens: list[np.ndarray] = field(default_factory=list)
    n_tokens: int = 0
    finished: Reason | None = None
    error: Exception | None = None
    log_likelihood: float | None = None
    slot: int | None = None

    def session(self) -> Session:
        """Return what `Engine.session` returns: all that this stream is now, as a value."""
        return self.engine.session(self)

    def rewind(self, session: Session) -> None:
        """Go back to `session`, a mark made on this stream: see `Engine.rewind`."""
        self.engine.rewind(self, session)

    def cancel(self) -> None:
        """End at once: see `Engine.cancel`."""
        self.engine.cancel(self)

    def take(self, token: np.ndarray) -> None:
        """Note a token [F] that was drawn. For the engine."""
        self.pending = token
        self.position += 1
        self.n_tokens += 1
        if self.max_tokens is not None:
            self.tokens.append(token)

    def check_mark(self, session: Session) -> None:
        """Raise UserError unless `session` may be one of this stream's own."""
        n_tokens = self.n_tokens - (self.position - session.position)
        known = None  # what was pending then, if that was kept
        if n_tokens == self.n_tokens:
            known = self.pending
        elif n_tokens == 0 and len(self.prompt):
            known = self.prompt[-1]
        elif 0 < n_tokens <= len(self.tokens):
            known = self.tokens[n_tokens - 1]
        is_other = known is not None and not np.array_equal(known, session.pending)
        if not 0 <= n_tokens <= self.n_tokens or is_other:
            raise UserError(
                f"the session is no mark of stream {self.number} since it began: resume it as a "
                f"stream of its own"
            )

    def go_back(self, session: Session) -> None:
        """Be what it was at a mark. For the engine."""
        self.n_tokens -= self.position - session.position
        del self.tokens[self.n_tokens :]
        self.start, self.pending, self.position = session, session.pending, session.position
        self.finished = self.error = self.log_likelihood = None
