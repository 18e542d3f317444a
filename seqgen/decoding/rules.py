"""What a stream follows beside its draws: a rule, and passages that are drawn again.

Legend: T positions, F fields.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from seqgen.decoding.engine import Engine
from seqgen.decoding.session import Session
from seqgen.decoding.stream import Stream

Tell = Callable[[Stream, np.ndarray], None]
Verdict = Literal["none", "taken", "short"]


class Rule(Protocol):
    """What ends a stream, what it is forced to take, and how well it does; by itself, nothing.

    Attributes:
        is_whole: whether all that was asked for is written.
        is_passive: whether it only ends streams; a pool may make several steps at once then.
        tries: how often a passage is drawn at most.
    """

    is_whole: bool = False
    is_passive: bool = True
    tries: int = 1

    def take(self, token: np.ndarray) -> bool:
        """Note a token [F] that was drawn or forced; return whether the stream ends with it."""
        return False

    def given(self) -> np.ndarray | None:
        """Return what follows the latest token without a draw, ids [T, F]; None: nothing."""
        return None

    def given_second(self) -> np.ndarray | None:
        """Return what follows it in the stream that guidance compares with; None: the same."""
        return None

    def review(self) -> float | None:
        """Return how far the passage that the latest token ends is as asked, from 0 to 1.

        None: no passage ends with it, or nothing is asked of the passage.
        """
        return None

    def go_back(self, n_tokens: int) -> None:
        """Forget the latest tokens."""


class Follower:
    """Lets a stream follow a rule; `stop` and `on_token` are those of the stream.

    A passage that falls short of what is asked is drawn again, from where it began, with other
    random numbers. After the last try the best is taken, of equal ones the first. So tokens are
    told when their passage is settled; at once where there is one try. Passages that EOS or
    `max_tokens` ends are not drawn again.
    """

    def __init__(
        self,
        engine: Engine,
        rule: Rule,
        tell: Tell = lambda stream, token: None,
        *,
        beginning: Session | None = None,
    ):
        """Begin.

        Args:
            engine: of the stream, with single steps.
            rule: that is followed.
            tell: called with the stream and each token [F] that stays.
            beginning: what the stream goes on from; needed with more than one try.
        """
        self._engine, self._rule, self._tell, self._mark = engine, rule, tell, beginning
        self._held: list[np.ndarray] = []  # tokens since the mark
        self._tries: list[tuple[float, list[np.ndarray]]] = []  # from the mark on
        self._verdict: Verdict = "none"  # on the passage that the latest token ends

    @property
    def n_held(self) -> int:
        """How many of the stream's tokens are not told yet."""
        return len(self._held)

    def stop(self, stream: Stream, token: np.ndarray) -> bool:
        """Whether a token [F] ends the stream."""
        ends = self._rule.take(token)
        if self._rule.tries == 1 or stream.is_forced:
            return ends
        score = self._rule.review()
        if score is None:
            return ends
        self._tries.append((score, [*self._held, token]))
        is_last_and_best = len(self._tries) >= self._rule.tries and self._best() is self._tries[-1]
        self._verdict = "taken" if score >= 1 or is_last_and_best else "short"
        return ends and self._verdict == "taken"

    def on_token(self, stream: Stream, token: np.ndarray) -> None:
        """Go on after a token [F]."""
        verdict, self._verdict = self._verdict, "none"
        if verdict == "short":
            self._draw_again(stream)
            return
        self._held.append(token)
        if self._rule.tries == 1 or stream.finished is not None:
            self._settle(stream)
        if stream.is_forced or stream.finished is not None:
            return
        if verdict == "taken":
            self._go_on(stream)
        else:
            self._give(stream)

    def _draw_again(self, stream: Stream) -> None:
        """Go back to the mark, and on from there; after the last try, with the best."""
        assert self._mark is not None
        self._rule.go_back(len(self._held) + 1)
        self._held.clear()
        n_tries = len(self._tries)
        self._engine.rewind(stream, self._mark.child(n_tries))
        if n_tries >= self._rule.tries:
            self._engine.force(stream, np.stack(self._best()[1]))
            self._go_on(stream)

    def _go_on(self, stream: Stream) -> None:
        """Take a passage as it is, and begin the next one."""
        self._tries.clear()
        self._settle(stream)
        if stream.finished is None:
            self._give(stream)
            self._settle(stream)
        if stream.finished is None:
            self._mark = self._engine.session(stream)

    def _give(self, stream: Stream) -> None:
        """Force what follows the latest token."""
        given = self._rule.given()
        if given is not None and len(given):
            self._engine.force(stream, given, self._rule.given_second())

    def _settle(self, stream: Stream) -> None:
        """Tell of all tokens that were held."""
        held, self._held = self._held, []
        for token in held:
            self._tell(stream, token)

    def _best(self) -> tuple[float, list[np.ndarray]]:
        return max(self._tries, key=lambda one: one[0])
