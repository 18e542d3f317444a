"""Those who wait for a slot: first come, first served, and not too many."""

from collections import deque

from seqgen.decoding.stream import Stream
from seqgen.errors import UserError


class EngineFull(UserError):
    """There is no room to wait in: let the engine step, or come back later."""


class Queue:
    """A line of streams, bounded in number and in the tokens of their prompts."""

    def __init__(self, *, max_streams: int, max_prompt_tokens: int, max_tokens: int):
        self._max_streams = max_streams
        self._max_prompt_tokens = max_prompt_tokens
        self._max_tokens = max_tokens
        self._line: deque[Stream] = deque()
        self._n_tokens = 0

    def __len__(self) -> int:
        return len(self._line)

    def check(self, stream: Stream) -> None:
        """Raise where a stream finds no room.

        Raises:
            UserError: the prompt is longer than any may be.
            EngineFull: too many streams or tokens are waiting.
        """
        n_tokens = len(stream.prompt)
        if n_tokens > self._max_prompt_tokens:
            raise UserError(
                f"a prompt of {n_tokens} tokens: at most {self._max_prompt_tokens} are taken; "
                f"shorten it"
            )
        if len(self._line) >= self._max_streams:
            raise EngineFull(
                f"{len(self._line)} streams are waiting, which is as many as may: try again later"
            )
        if self._line and self._n_tokens + n_tokens > self._max_tokens:
            raise EngineFull(
                f"prompts of {self._n_tokens} tokens are waiting, and {n_tokens} more would exceed "
                f"{self._max_tokens}: try again later"
            )

    def append(self, stream: Stream) -> None:
        """Let a stream wait; `check` first."""
        self._line.append(stream)
        self._n_tokens += len(stream.prompt)

    def popleft(self) -> Stream:
        """Return who has waited longest."""
        stream = self._line.popleft()
        self._n_tokens -= len(stream.prompt)
        return stream

    def remove(self, stream: Stream) -> None:
        """Take a stream out, if it is there."""
        if stream in self._line:
            self._line.remove(stream)
            self._n_tokens -= len(stream.prompt)
