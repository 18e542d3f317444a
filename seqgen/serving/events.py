"""Server-sent events: one hub for each project, one bounded queue for each listener."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic import BaseModel
from starlette.responses import StreamingResponse

MOST_WAITING = 512  # events of a listener that does not read
BEAT_SECONDS = 15.0  # of silence, after which a comment shows whether somebody still listens


Queue = asyncio.Queue[str | None]  # None ends it


class EventStream(StreamingResponse):
    """A response that tells events as they come."""

    media_type = "text/event-stream"

    @classmethod
    def of(cls, events: AsyncIterator[str]) -> "EventStream":
        """Return a response that nobody on the way keeps."""
        return cls(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def json_or_events(description: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers in JSON or, with `stream`, by events."""
    content: dict[str, dict] = {str(EventStream.media_type): {}}
    return {200: {"content": content, "description": description}}


def event(name: str, value: BaseModel, *, number: int | None = None) -> str:
    """Return one event as it is sent, with a number as its id if there is one."""
    id_line = "" if number is None else f"id: {number}\n"
    return f"{id_line}event: {name}\ndata: {value.model_dump_json()}\n\n"


class Hub:
    """Passes events on to all who listen. Any thread may publish."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[Queue, asyncio.AbstractEventLoop] = {}

    @property
    def n_listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def publish(self, name: str, value: BaseModel) -> None:
        """Tell all listeners; one that has not read for long is closed, and connects again."""
        text = event(name, value)
        with self._lock:
            for queue, loop in list(self._listeners.items()):
                with contextlib.suppress(RuntimeError):  # its loop has ended
                    loop.call_soon_threadsafe(_put, queue, text)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            for queue, loop in self._listeners.items():
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(_end, queue)

    def join(self, loop: asyncio.AbstractEventLoop) -> Queue:
        """Begin to listen, in a loop: what is published from now on is in the queue."""
        queue: Queue = asyncio.Queue(MOST_WAITING + 1)
        with self._lock:
            self._listeners[queue] = loop
        return queue

    async def events(self, queue: Queue, first: Sequence[str]) -> AsyncIterator[str]:
        """Yield `first`, then what comes into the queue, until nobody listens any more."""
        try:
            for text in first:
                yield text
            while True:
                try:
                    text_or_end = await asyncio.wait_for(queue.get(), BEAT_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if text_or_end is None:
                    return
                yield text_or_end
        finally:
            with self._lock:
                self._listeners.pop(queue, None)


def _put(queue: Queue, text: str) -> None:
    if queue.qsize() >= MOST_WAITING:
        _end(queue)
    else:
        queue.put_nowait(text)


def _end(queue: Queue) -> None:
    """Let a listener go: what it has not read is dropped."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
