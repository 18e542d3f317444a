"""What a model is asked to write: what it is given first, and in each bar.

Legend: T positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Given = Callable[[int], list[int]]
Review = Callable[[int, np.ndarray], float]


@dataclass(frozen=True)
class Request:
    """One thing to be written, bar by bar.

    Attributes:
        prompt: ids [T, 1] that the model takes first. They end with what is given of the first bar
            that it writes, if they hold its beginning.
        opening: what is given of a bar after the token that begins it; bars are counted from 0.
        after: ids that are given after an id that is drawn, by that id.
        begun: how many of the bars the prompt has begun.
        n_bars: how many there are; None: until the model ends, or a limit.
        forbidden: ids that must not be drawn.
        review: of a bar that is written, by its number and the tokens after the prompt up to its
            end [T, 1]: how far it is as asked, from 0 to 1. None: nothing is asked of single bars.
    """

    prompt: np.ndarray
    opening: Given
    after: Mapping[int, Sequence[int]] = field(default_factory=dict)
    begun: int = 0
    n_bars: int | None = None
    forbidden: tuple[int, ...] = ()
    review: Review | None = None


class Writing:
    """One answer to a request while it is drawn: a rule, as `decoding.rules` has it.

    Attributes:
        is_whole: whether all bars are written.
        tries: how often a bar is drawn at most.
    """

    is_passive = False

    def __init__(self, request: Request, free: Request, bar_id: int, *, tries: int = 1):
        """Begin.

        Args:
            request: what is to be written.
            free: the same without what is asked for, which guidance compares with.
            bar_id: of the token that begins a bar.
            tries: how often a bar is drawn at most of which something is asked.
        """
        self._request, self._free, self._bar_id = request, free, bar_id
        self._ids: list[int] = []  # what was taken
        self._n_begun = request.begun
        self.is_whole = False
        self.tries = 1 if request.review is None else tries

    def take(self, token: np.ndarray) -> bool:
        """Note a token [1]; return whether all that was asked for is written."""
        self._ids.append(int(token[0]))
        self._n_begun += self._ids[-1] == self._bar_id
        n_bars = self._request.n_bars
        self.is_whole = n_bars is not None and self._n_begun > n_bars
        return self.is_whole

    def given(self) -> np.ndarray:
        """Return what follows the latest token without a draw [T, 1]."""
        return self._after(self._request)

    def given_second(self) -> np.ndarray:
        """Return what follows it in the stream that guidance compares with [T, 1]."""
        return self._after(self._free)

    def review(self) -> float | None:
        """Return how far the bar that the latest token ends is as asked; None: there is none."""
        if self._request.review is None or self._ids[-1] != self._bar_id:
            return None
        return self._request.review(self._n_begun - 2, _column(self._ids[:-1]))

    def go_back(self, n_tokens: int) -> None:
        """Forget the latest tokens."""
        del self._ids[-n_tokens:]
        self._n_begun = self._request.begun + self._ids.count(self._bar_id)
        self.is_whole = False

    def _after(self, request: Request) -> np.ndarray:
        last = self._ids[-1]
        if last == self._bar_id:
            return _column(request.opening(self._n_begun - 1))
        return _column(request.after.get(last, ()))


def _column(ids: Sequence[int]) -> np.ndarray:
    """Return ids as tokens [T, 1]."""
    return np.array(ids, dtype=np.int64).reshape(-1, 1)
