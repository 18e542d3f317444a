"""Turns: a lock that threads get in the order in which they ask for it."""

import threading
from collections import deque


class Turns:
    """A reentrant lock for threads that wait in a line.

    With `threading.RLock` a thread that takes the lock again and again can keep all others waiting.
    """

    def __init__(self):
        self._changed = threading.Condition()
        self._line: deque[int] = deque()  # threads; it is the first one's turn
        self._depth = 0  # how many times that one has entered

    @property
    def n_waiting(self) -> int:
        """How many threads wait for their turn."""
        return max(len(self._line) - 1, 0)

    def __enter__(self) -> None:
        """Wait for a turn; a thread whose turn it is already enters at once."""
        me = threading.get_ident()
        with self._changed:
            if not self._depth or self._line[0] != me:
                self._line.append(me)
                try:
                    self._changed.wait_for(lambda: self._line[0] == me)
                except BaseException:  # as on Ctrl-C: others must not wait for this thread
                    self._line.remove(me)
                    self._changed.notify_all()
                    raise
            self._depth += 1

    def __exit__(self, *error: object) -> None:
        """End the turn, if the thread has left as many times as it has entered."""
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._line.popleft()
                self._changed.notify_all()
