"""What a model is asked to write: what it is given first, and in each bar.

Legend: T positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Given = Callable[[int], list[int]]


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
    """

    prompt: np.ndarray
    opening: Given
    after: Mapping[int, Sequence[int]] = field(default_factory=dict)
    begun: int = 0
    n_bars: int | None = None
    forbidden: tuple[int, ...] = ()


class Writing:
    """One answer to a request while it is drawn.

    Attributes:
        is_whole: whether all bars are written.
    """

    def __init__(self, request: Request, bar_id: int):
        """Begin; the id is that of the token that begins a bar."""
        self._request, self._bar_id = request, bar_id
        self._n_begun = request.begun
        self._last = -1  # the latest token
        self.is_whole = False

    def take(self, token: np.ndarray) -> bool:
        """Note a token [1]; return whether all that was asked for is written."""
        self._last = int(token[0])
        self._n_begun += self._last == self._bar_id
        n_bars = self._request.n_bars
        self.is_whole = n_bars is not None and self._n_begun > n_bars
        return self.is_whole

    def given(self, request: Request | None = None) -> np.ndarray:
        """Return what follows the latest token without a draw [T, 1], by default in its request."""
        request = request or self._request
        begins = self._last == self._bar_id
        ids = request.opening(self._n_begun - 1) if begins else request.after.get(self._last, ())
        return np.array(ids, dtype=np.int64).reshape(-1, 1)
