"""What a stream follows beside its draws: a rule, and passages that are drawn again.

Legend: T positions, F fields.
"""

from typing import Any, Literal, Protocol

import numpy as np

from seqgen.decoding.engine import Engine
from seqgen.decoding.session import Session
from seqgen.decoding.stream import OnToken, Stream

Verdict = Literal["taken", "short"]


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

        None: no passage ends with it. 1 where nothing is asked of the passage.
        """
        return None

    def go_back(self, n_tokens: int) -> None:
        """Forget the latest tokens."""
        return  # a body: a rule without passages inherits it


class Follower:
    """Lets a stream follow a rule; `stop`, `on_token` and `on_start` are those of the stream.

    A passage that falls short of what is asked is drawn again, from where it began, with other
    random numbers. After the last try the best of them is drawn once more, of equal ones the first,
    and stays. So tokens are told when their passage is settled; at once where there is one try.
    Passages that EOS or `max_tokens` ends are not drawn again.
    """

    def __init__(
        self, engine: Engine, rule: Rule, tell: OnToken = lambda stream, token: None
    ) -> None:
        """Begin.

        Args:
            engine: of the stream, with single steps.
            rule: that is followed.
            tell: called with the stream and each token [F] that stays.
        """
        self._engine, self._rule, self._tell = engine, rule, tell
        self._mark: Session | None = None  # where the passage begins
        self._seed: tuple[int, ...] = ()  # of the stream
        self._n_passages = 0
        self._held: list[np.ndarray] = []  # tokens since the mark
        self._scores: list[float] = []  # of the tries of this passage
        self._verdict: Verdict | None = None  # on the passage that the latest token ends

    @property
    def n_held(self) -> int:
        """How many of the stream's tokens are not told yet."""
        return len(self._held)

    @property
    def options(self) -> dict[str, Any]:
        """What the stream is submitted with."""
        options = {"stop": self.stop, "on_token": self.on_token}
        return options | ({"on_start": self.on_start} if self._rule.tries > 1 else {})

    def on_start(self, stream: Stream, session: Session) -> None:
        """Take note of where the stream begins."""
        self._mark, self._seed = session, session.sampler.seed

    def stop(self, stream: Stream, token: np.ndarray) -> bool:
        """Whether a token [F] ends the stream."""
        ends = self._rule.take(token)
        if self._rule.tries == 1 or stream.is_forced:
            return ends
        score = self._rule.review()
        if score is None:
            return ends
        self._scores.append(score)
        # The best is drawn once more at the end, unless it was the last one anyway.
        is_last = len(self._scores) >= self._rule.tries and self._best == len(self._scores) - 1
        is_again = len(self._scores) > self._rule.tries
        self._verdict = "taken" if score >= 1 or is_last or is_again else "short"
        return ends and self._verdict == "taken"

    def on_token(self, stream: Stream, token: np.ndarray) -> None:
        """Go on after a token [F]."""
        verdict, self._verdict = self._verdict, None
        if verdict == "short":
            self._draw_again(stream)
            return
        self._held.append(token)
        if self._rule.tries == 1 or stream.finished is not None:
            self._settle(stream)
        if stream.is_forced or stream.finished is not None:
            return
        if verdict == "taken":
            self._settle(stream)
        if stream.finished is None:
            self._give(stream)
        if verdict == "taken" and stream.finished is None:
            self._settle(stream)
            self._scores.clear()
            self._n_passages += 1
            self._mark = self._engine.session(stream)

    @property
    def _best(self) -> int:
        """Which of the tries is the best; of equal ones the first."""
        return int(np.argmax(self._scores[: self._rule.tries]))

    def _draw_again(self, stream: Stream) -> None:
        """Go back to the mark; a try has random numbers of its own, also when it is drawn again."""
        assert self._mark is not None
        self._rule.go_back(len(self._held) + 1)
        self._held.clear()
        n_tries = len(self._scores)
        number = n_tries if n_tries < self._rule.tries else self._best
        mark = self._mark
        if number > 0:
            mark = mark.reseeded((*self._seed, mark.n_drawn, self._n_passages, number))
        self._engine.rewind(stream, mark)

    def _give(self, stream: Stream) -> None:
        """Force what follows the latest token."""
        given = self._rule.given()
        if given is not None and len(given):
            self._engine.force(stream, given, self._rule.given_second())

    def _settle(self, stream: Stream) -> None:
        """Tell of all tokens that were held, as long as nobody cancels the stream."""
        held, self._held = self._held, []
        for token in held:
            if stream.finished != "cancelled":
                self._tell(stream, token)
