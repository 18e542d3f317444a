"""Tokens of one stream as server-sent events, while it is written.

The id of an event is the number of tokens up to its end. A client that has lost its connection asks
again with `Last-Event-ID`: the stream is drawn again, the same, and told from there on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import TypeVar

import numpy as np
from pydantic import BaseModel

from seqgen.errors import UserError
from seqgen.serving.engines import Player
from seqgen.serving.events import event
from seqgen.serving.problems import sentence_of
from seqgen.serving.projects import music_event
from seqgen.serving.schemas import Music, Problem, ShownPiece, Tokens

T = TypeVar("T")


def music_so_far(before: ShownPiece | None, piece: ShownPiece) -> Music:
    """Return how a piece differs from what was told of it before."""
    return music_event("", before, piece)


class StreamEvents:
    """The events of a stream that its client does not have yet; other threads add to them."""

    def __init__(
        self,
        player: Player,
        *,
        begin: int = 0,
        after: int = 0,
        told: Callable[[ShownPiece | None, ShownPiece], BaseModel] = music_so_far,
    ) -> None:
        """Prepare to tell, in the running loop.

        Args:
            player: what writes.
            begin: how many tokens there were before the first one that comes.
            after: how many of them, with those, the client knows.
            told: what is told of a piece, after the one that was told before.
        """
        self._told = told
        self._more = asyncio.Event()
        self._has_ended = False
        self._loop = asyncio.get_running_loop()
        self._anchors = frozenset(player.model.decoder.vocabulary.anchors)
        self._n_come, self._n_told = begin, max(begin, after)
        self._after = after
        self._tokens: list[list[int]] = []
        self._n_bars = 0
        self._piece: ShownPiece | None = None
        self._before: ShownPiece | None = None
        self._is_awake = False

    def token(self, token: np.ndarray) -> None:
        """Take a token [F]."""
        self._n_come += 1
        self._n_bars += int(token[0]) in self._anchors
        if self._n_come > self._after:
            self._tokens.append(token.tolist())
            self._wake()

    def music(self, piece: ShownPiece) -> None:
        """Take the piece so far."""
        if self._n_come >= self._after:
            self._piece = piece
            self._wake()

    async def events(
        self,
        result: "Future[T]",
        done: Callable[[T], BaseModel],
        *,
        cancel: Callable[[], None],
        scribes: Executor,
    ) -> AsyncIterator[str]:
        """Yield what there is since the last event, until all is told or nobody reads.

        Args:
            result: comes at the end.
            done: returns what is told of it.
            cancel: called in one of `scribes` where nobody reads any more.
            scribes: threads.
        """
        result.add_done_callback(self._end)
        try:
            is_last = False
            while not is_last:
                await self._more.wait()
                is_last = self._has_ended  # first: tokens that come with the end are told too
                for text in self._take():
                    yield text
            try:
                yield event("done", done(await asyncio.wrap_future(result)))
            except UserError as error:
                yield event("failed", Problem(error=sentence_of(error)))
        finally:
            if not self._has_ended:
                scribes.submit(cancel)

    def _end(self, result: "Future[T]") -> None:
        self._has_ended = True
        self._wake()

    def _take(self) -> list[str]:
        """Return what is new as events."""
        self._is_awake = False
        self._more.clear()
        events = []
        tokens = self._tokens[:]
        del self._tokens[: len(tokens)]  # not a new list: another thread may be adding to this one
        if tokens:
            self._n_told += len(tokens)
            told = Tokens(tokens=tokens, bars=self._n_bars)
            events.append(event("tokens", told, number=self._n_told))
        piece = self._piece
        if piece is not None and piece is not self._before:
            events.append(event("music", self._told(self._before, piece)))
            self._before = piece
        return events

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._more.set)
