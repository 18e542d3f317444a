"""A loaded run: one engine, which steps in a thread of its own while there is work.

Legend: T positions, F fields.
"""

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from seqgen.api.model import Model
from seqgen.decoding import Engine, Session, Stream
from seqgen.decoding.guided import Guidance
from seqgen.decoding.prompts import PIECE
from seqgen.decoding.rules import Follower, Rule
from seqgen.errors import UserError
from seqgen.model.state import State
from seqgen.sampling import Sampling
from seqgen.serving.figures import Figures
from seqgen.serving.problems import Limits, Refusal

LOG = logging.getLogger(__name__)
OnToken = Callable[[np.ndarray], None]
OnEnd = Callable[[Stream | None, UserError | None], None]
MEMORY_SECONDS = 1.0  # over which the rate of tokens is averaged


class Bookmarks:
    """States after some tokens: the most recently used, within a bound of bytes.

    A state is found by the tokens that it holds. Where it was let go, prefill makes it again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._states: OrderedDict[bytes, State] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, digest: bytes, state: State) -> None:
        """Keep a state after the tokens of a digest."""
        with self._lock:
            old = self._states.pop(digest, None)
            self._n_bytes += state.nbytes - (0 if old is None else old.nbytes)
            self._states[digest] = state
            while self._n_bytes > self._max_bytes:
                _, dropped = self._states.popitem(last=False)
                self._n_bytes -= dropped.nbytes

    def get(self, digest: bytes) -> State | None:
        """Return the state after the tokens of a digest, if it is there."""
        with self._lock:
            if digest in self._states:
                self._states.move_to_end(digest)
            return self._states.get(digest)

    def clear(self) -> None:
        """Let all states go."""
        with self._lock:
            self._states.clear()
            self._n_bytes = 0


class Pace:
    """How fast an engine draws, and for how many streams that is enough.

    With more streams each step takes longer, but by less than in proportion. So the tokens per
    second of all streams together, divided by what each needs, is the number of streams that can
    run, or too small a number, which grows with them.
    """

    def __init__(self, needed: float) -> None:
        """Know nothing yet.

        Args:
            needed: tokens per second of each stream.
        """
        self._needed = needed
        self.rate: float | None = None

    def note(self, n_tokens: int, seconds: float) -> None:
        """Note how many tokens a step gave, and how long it took."""
        if self.rate is None:
            self.rate = n_tokens / seconds
        else:
            weight = exp(-seconds / MEMORY_SECONDS)
            self.rate = weight * self.rate + (1 - weight) * n_tokens / seconds

    @property
    def room(self) -> int | None:
        """For how many streams it is enough: 1 at least; None where nothing is known."""
        return None if self.rate is None else max(1, int(self.rate / self._needed))


@dataclass(eq=False)
class Voice:
    """A stream of a player, until it has ended."""

    on_end: OnEnd
    stream: Stream | None = None
    is_over: bool = False


class Player:
    """A loaded run, and the engine in which all of its streams share each step.

    Attributes:
        model: the run.
        engine: streams begin with `write` here, which wakes it.
        bookmarks: states at bar lines.
    """

    def __init__(self, model: Model, limits: Limits, figures: Figures | None = None) -> None:
        self.model, self._limits = model, limits
        self._figures = figures or Figures()
        self._pace = Pace(limits.tokens_per_second)
        self._n_tokens = 0
        self._seconds = 0.0  # of steps since the latest tokens were told
        self.bookmarks = Bookmarks(limits.state_bytes)
        self.engine = Engine(
            model.decoder,
            max_streams=max(limits.max_streams, 2),  # a guided one takes two slots
            max_waiting=limits.max_waiting,
            steps_per_call=1,
            scored=True,
        )
        self.engine.room = limits.max_streams
        self._anchors = frozenset(model.decoder.vocabulary.anchors)
        self._lock = threading.Lock()
        self._voices: set[Voice] = set()
        self._work = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is written."""
        return not self._voices

    @property
    def room(self) -> int:
        """How many streams can be written at once, as fast as they are needed."""
        return min(self.engine.room, self._limits.max_streams)

    def write(
        self,
        start: np.ndarray | Session,
        rule: Rule,
        *,
        on_token: OnToken,
        on_end: OnEnd,
        max_tokens: int,
        sampling: Sampling | None = None,
        seed: int = 0,
        number: int = 0,
        guidance: Guidance | None = None,
        keep: bool = False,
    ) -> Voice:
        """Let a stream begin. The two functions are called in the engine's thread.

        Args:
            start: a prompt [T, F], BOS at least; its state is taken from the bookmarks, if it is
                there: the same tokens follow either way. Or a session, which goes on exactly.
            rule: what ends the stream, and what it is given.
            on_token: called with each token.
            on_end: called once at the end, with an error if there was one.
            max_tokens: the most tokens that are drawn.
            sampling: settings of the draws; a session has its own.
            seed, number: of the draws after a prompt.
            guidance: what these are compared with; None: nothing.
            keep: whether the session can be read at the end.

        Raises:
            UserError: a setting is invalid.
            EngineFull: too many are waiting.
        """
        voice = Voice(on_end)
        digest = hashlib.blake2b(start.tobytes() if isinstance(start, np.ndarray) else b"")
        begin = time.monotonic()
        last = begin + self._limits.max_seconds
        is_first = True

        def tell(stream: Stream, token: np.ndarray) -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                self._figures.first_token.observe(time.monotonic() - begin)
            self._n_tokens += 1
            self._bookmark(stream, token, digest.digest())
            digest.update(token.tobytes())
            on_token(token)
            if stream.finished is not None and stream.pending is token:
                self._end(voice, stream, None)

        def take(stream: Stream, token: np.ndarray) -> None:
            follower.on_token(stream, token)
            if stream.finished is None and time.monotonic() > last:
                self.engine.cancel(stream)
                reason = f"it was not done after {self._limits.max_seconds:g} seconds: ask for less"
                self._end(voice, stream, Refusal(503, reason))

        def guarded(work: Callable[[Stream, np.ndarray], Any]) -> Callable[..., Any]:
            def call(stream: Stream, token: np.ndarray) -> Any:
                try:
                    return work(stream, token)
                except Exception as error:  # of any kind: it ends this stream only
                    LOG.exception("a stream failed")
                    self._end(voice, stream, _told(error))
                    raise

            return call

        follower = Follower(self.engine, rule, tell)
        options: dict[str, Any] = {
            **follower.options,
            "max_tokens": max_tokens,
            "stop": guarded(follower.stop),
            "on_token": guarded(take),
            "keep": keep,
        }
        with self._lock:
            self._voices.add(voice)
        try:
            draws = sampling or Sampling()
            session = start if isinstance(start, Session) else None
            if isinstance(start, np.ndarray) and guidance is None:
                session = self._bookmarked(start, draws, (seed, number))
            if session is not None:
                voice.stream = self.engine.resume(session, **options)
            elif isinstance(start, np.ndarray):
                options |= {"sampling": draws, "seed": seed, "number": number}
                options |= {"guidance": guidance}
                voice.stream = self.engine.submit(start, **options)
        except BaseException:
            voice.is_over = True
            self._voices.discard(voice)
            raise
        self._work.set()
        return voice

    def look_ahead(self, prompt: np.ndarray) -> None:
        """Prepare for prompts that begin as this one [T, F] does, whose last bar may still grow."""
        for line in self._bar_lines(prompt)[-2:]:
            self.prepare(prompt[: line + 1])

    def prepare(self, prompt: np.ndarray) -> None:
        """Keep the state before the last token of a prompt [T, F], so that `write` begins at once.

        It is computed from the last bar line whose state is kept, or from the beginning.
        """
        end = len(prompt) - 1
        state, begin = None, 0
        for line in (end, *reversed(self._bar_lines(prompt))):
            state = self.bookmarks.get(_digest(prompt[:line]))
            if state is not None:
                begin = line
                break
        for i in range(begin, end, PIECE):  # other streams make steps between them
            state = self.engine.state_after(prompt[i : min(i + PIECE, end)], state)
        if state is not None:
            self.bookmarks.put(_digest(prompt[:end]), state)

    def _bar_lines(self, prompt: np.ndarray) -> list[int]:
        """Return where in a prompt [T, F] bars begin."""
        return [i for i in range(1, len(prompt)) if int(prompt[i, 0]) in self._anchors]

    def cancel(self, voice: Voice) -> None:
        """End a stream within a step; nothing happens to one that has ended."""
        if voice.stream is not None and not voice.is_over:
            self.engine.cancel(voice.stream)
            self._end(voice, voice.stream, None)

    def close(self) -> None:
        """End all streams, and the thread."""
        self._is_closing = True
        for voice in list(self._voices):
            self.cancel(voice)
        self._work.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self.bookmarks.clear()

    def _bookmark(self, stream: Stream, token: np.ndarray, digest: bytes) -> None:
        """Keep the state before a token that begins a bar."""
        is_next = stream.finished is None and stream.pending is token
        if int(token[0]) in self._anchors and is_next:
            self.bookmarks.put(digest, self.engine.session(stream).state)

    def _bookmarked(
        self, prompt: np.ndarray, sampling: Sampling, seed: tuple[int, int]
    ) -> Session | None:
        """Return what a stream after a prompt begins with, if its state is there."""
        state = self.bookmarks.get(_digest(prompt[:-1]))
        if state is None:
            return None
        return Session.first(self.model.decoder, state, prompt, sampling=sampling, seed=seed)

    def _end(self, voice: Voice, stream: Stream | None, error: UserError | None) -> None:
        with self._lock:
            if voice.is_over:
                return
            voice.is_over = True
            self._voices.discard(voice)
        voice.on_end(stream, error)

    def _run(self) -> None:
        """Step while there is work; an error of the engine itself ends all streams."""
        while not self._is_closing:
            self._work.wait()
            self._work.clear()
            try:
                while self._step() and not self._is_closing:
                    pass
            except Exception as error:
                LOG.exception("the engine failed")
                for voice in list(self._voices):
                    with self._lock:
                        stream = voice.stream
                    if stream is not None:
                        self.engine.cancel(stream)
                    self._end(voice, stream, _told(error))

    def _step(self) -> bool:
        """Make one step of the engine and measure it; return whether anything is left to do."""
        begin, before = time.perf_counter(), self._n_tokens
        is_more = self.engine.step()
        seconds, n_tokens = time.perf_counter() - begin, self._n_tokens - before
        self._seconds += seconds
        if n_tokens:  # of bars that are drawn again, tokens come all at once
            self._pace.note(n_tokens, max(self._seconds, 1e-9))
            self._seconds = 0.0
        most = self._limits.max_streams
        self.engine.room = min(self._pace.room or most, most)
        self._figures.tokens.inc(n_tokens)
        self._figures.step.observe(seconds)
        return is_more


def _digest(tokens: np.ndarray) -> bytes:
    """Return what the state after tokens [T, F] is found by."""
    return hashlib.blake2b(tokens.tobytes()).digest()


def _told(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return Refusal(503, f"writing failed ({type(error).__name__}: {error}): report it")
