"""The engine: streams that join and leave at any step, all of them going on in one pool.

Legend: T positions, F fields.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.prompts import check_positions, check_sampling, checked_prompt
from seqgen.decoding.queue import Queue
from seqgen.decoding.schedule import Schedule
from seqgen.decoding.session import Session
from seqgen.decoding.stream import Beginning, OnToken, Stop, Stream
from seqgen.errors import UserError
from seqgen.sampling import SamplerRow, Sampling

PLAIN = Sampling()


class Engine:
    """Runs streams of one model together (continuous batching), first come, first served.

    What a stream draws depends on its prompt, its settings and its seed, not on who runs beside it
    (as far as `Pool` says: a draw within rounding of an edge may fall to its other side).
    An engine belongs to one thread, and callbacks run inside `step`: they may submit, mark, rewind
    and cancel, but not step. Nothing in it is random or reads a clock.

    Beside the pool, it holds at most one state for each stream that waits (of its session, or of a
    prompt that it shares), one for each prompt that is being prefilled, and those of ended streams
    that were to be kept, as long as somebody holds these.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        max_streams: int = 64,
        max_waiting: int = 1024,
        max_prompt_tokens: int = 65_536,
        max_waiting_tokens: int = 1_048_576,
        prefill_tokens: int = 1024,
        steps_per_call: int | None = None,
        scored: bool = False,
    ):
        """Open a pool.

        Args:
            decoder: of the model.
            max_streams: how many may run at once.
            max_waiting: how many may wait for a slot.
            max_prompt_tokens: how long a prompt may be.
            max_waiting_tokens: how many tokens the prompts of those who wait may have together.
            prefill_tokens: about how many tokens of prompts are taken between two decode steps.
            steps_per_call: decode steps in one `step`; None: as the decoder likes it.
            scored: sum the log-likelihood of each stream; then steps are single.

        Raises:
            UserError: a number is below 1.
        """
        steps_per_call = decoder.steps_per_call if steps_per_call is None else steps_per_call
        numbers = {
            "max_streams": max_streams,
            "max_waiting": max_waiting,
            "max_prompt_tokens": max_prompt_tokens,
            "max_waiting_tokens": max_waiting_tokens,
            "prefill_tokens": prefill_tokens,
            "steps_per_call": steps_per_call,
        }
        for name, value in numbers.items():
            if value < 1:
                raise UserError(f"{name} = {value}: must be 1 or more")
        self.decoder = decoder
        self._steps_per_call = 1 if scored else steps_per_call
        self._queue = Queue(
            max_streams=max_waiting,
            max_prompt_tokens=max_prompt_tokens,
            max_tokens=max_waiting_tokens,
        )
        self._schedule = Schedule(
            decoder,
            self._queue,
            n_slots=max_streams,
            prefill_tokens=prefill_tokens,
            steps_per_call=self._steps_per_call,
            scored=scored,
        )
        self._n_submitted = 0
        self._is_stepping = False

    @property
    def n_running(self) -> int:
        """How many streams have a slot."""
        return len(self._schedule.running) + len(self._schedule.joining)

    @property
    def n_waiting(self) -> int:
        """How many streams wait for a slot."""
        return len(self._queue)

    def submit(
        self,
        prompt: np.ndarray,
        *,
        sampling: Sampling = PLAIN,
        max_tokens: int | None = 1024,
        stop: Stop | None = None,
        on_token: OnToken | None = None,
        keep: bool = False,
        seed: int = 0,
        number: int | None = None,
    ) -> Stream:
        """Let a stream wait for a slot.

        Args:
            prompt: ids [T, F], T ≥ 1 (BOS at least).
            sampling: settings of the draws.
            max_tokens: the most tokens to draw; None: no end, and the stream keeps no tokens.
            stop, on_token, keep: a rule that ends the stream, who is told of its tokens, and
                whether its session can be had after its end, as `Stream` says.
            seed, number: of the draws; None: as many as have been submitted before. Streams of one
                seed, number and prompt draw the same, so give all numbers or none.

        Raises:
            UserError: the prompt is none, or too long, or a setting is impossible.
            EngineFull: too many are waiting.
        """
        vocabulary = self.decoder.vocabulary
        prompt = checked_prompt(prompt, vocabulary)
        check_sampling(sampling, vocabulary)
        number = self._n_submitted if number is None else number
        if seed < 0 or number < 0:
            raise UserError(f"seed {seed} and number {number}: must be 0 or more")
        row = SamplerRow.first(vocabulary, sampling, seed=(seed, number), prompt=prompt)
        stream = Stream(
            engine=self,
            start=Beginning(self._schedule.prompts.get(prompt[:-1]), row),
            pending=prompt[-1],
            position=len(prompt) - 1,
            number=number,
            prompt=prompt,
            max_tokens=max_tokens,
            stop=stop,
            on_token=on_token,
            keep=keep,
        )
        return self._welcome(stream)

    def resume(
        self,
        session: Session,
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = 1024,
        stop: Stop | None = None,
        on_token: OnToken | None = None,
        keep: bool = False,
    ) -> Stream:
        """Let a stream that goes on from `session` wait for a slot: as if it had never stopped.

        Arguments are those of `submit`; `sampling` None: as it was. `max_tokens` counts from here.

        Raises:
            UserError: a session of another model, or one that has ended with EOS.
            EngineFull: too many are waiting.
        """
        self._check_session(session)
        if sampling is not None:
            check_sampling(sampling, self.decoder.vocabulary)
            session = replace(session, sampler=replace(session.sampler, sampling=sampling))
        stream = Stream(
            engine=self,
            start=session,
            pending=session.pending,
            position=session.position,
            number=self._n_submitted,
            prompt=session.pending[None][:0],  # none: [0, F]
            max_tokens=max_tokens,
            stop=stop,
            on_token=on_token,
            keep=keep,
        )
        return self._welcome(stream)

    def step(self) -> bool:
        """Let streams join, make decode steps (one, or `steps_per_call`), hand out what was drawn.

        Returns:
            Whether anything is left to do.
        """
        if self._is_stepping:
            raise RuntimeError("a callback has called the engine's step")
        self._is_stepping = True
        try:
            self._schedule.admit()
            if self._schedule.running:
                self._schedule.decode()
        finally:
            self._is_stepping = False
        return bool(self.n_waiting or self.n_running)

    def run(self) -> None:
        """Step until every stream is finished."""
        while self.step():
            pass

    def cancel(self, stream: Stream) -> None:
        """End a stream at once, wherever it is; nothing happens to one that has ended."""
        self._check_own(stream)
        if stream.finished is None:
            self._schedule.finish(stream, "cancelled")

    def session(self, stream: Stream) -> Session:
        """Return all that a stream is now, as a value: a mark to rewind to, to save or to fork.

        Raises:
            UserError: it has not begun, it has ended and was not to be kept, or (with several steps
                per call) it has drawn further already.
        """
        self._check_own(stream)
        if isinstance(stream.start, Session):
            return stream.start
        if self._schedule.running.get(stream.slot) is not stream:
            raise UserError(
                f"stream {stream.number} has no session: it has not begun, or it has ended and was "
                f"submitted without keep=True"
            )
        self._check_border(stream)
        return self._schedule.read(stream)

    def rewind(self, stream: Stream, session: Session) -> None:
        """Let a stream go on from a mark of its own; one that has ended waits for a slot first.

        The same tokens follow again, unless the mark is a fork.

        Raises:
            UserError: the mark is not one of this stream, or as for `session` and `resume`.
            EngineFull: the stream had ended, and too many are waiting.
        """
        self._check_own(stream)
        self._check_session(session)
        self._check_border(stream)
        stream.check_mark(session)
        if stream.finished is not None:
            self._queue.check(stream)
            self._queue.append(stream)
        stream.go_back(session)
        if stream.slot in self._schedule.running:
            self._schedule.start(stream)

    def _welcome(self, stream: Stream) -> Stream:
        """Let a new stream into the queue, if it can end well there."""
        if stream.max_tokens is not None and stream.max_tokens < 1:
            raise UserError(f"max_tokens = {stream.max_tokens}: must be 1 or more")
        check_positions(self.decoder.max_positions, stream.position + 1, stream.max_tokens)
        if stream.keep and self._steps_per_call > 1:
            raise UserError(
                f"keep=True needs single steps, and this engine makes {self._steps_per_call} at "
                f"once: build it with steps_per_call=1"
            )
        self._queue.check(stream)
        self._queue.append(stream)
        self._n_submitted += 1
        return stream

    def _check_own(self, stream: Stream) -> None:
        if stream.engine is not self:
            raise ValueError(f"stream {stream.number} belongs to another engine")

    def _check_border(self, stream: Stream) -> None:
        n_ahead = self._schedule.n_ahead
        if n_ahead:
            raise UserError(
                f"stream {stream.number} has drawn {n_ahead} tokens that were not handed out yet: "
                f"mark and rewind between calls of step, or use Engine(steps_per_call=1)"
            )

    def _check_session(self, session: Session) -> None:
        session.check(self.decoder)
        if session.pending[0] == self.decoder.vocabulary.eos_id:
            raise UserError("the session has ended with EOS: go on from an earlier mark")
