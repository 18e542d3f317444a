"""The engine: streams that join and leave at any step, all in one pool.

Legend: T positions, F fields.
"""

from collections import deque
from dataclasses import replace
from weakref import WeakSet

import numpy as np

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.guided import Guidance
from seqgen.decoding.prompts import (
    Prompts,
    check_positions,
    check_sampling,
    checked_prompt,
    checked_tokens,
)
from seqgen.decoding.session import Session
from seqgen.decoding.slots import Slots
from seqgen.decoding.stream import Beginning, OnStart, OnToken, Reason, Stop, Stream
from seqgen.decoding.turns import Turns
from seqgen.errors import UserError
from seqgen.model.state import State
from seqgen.sampling import SamplerState, Sampling

PLAIN = Sampling()


class EngineFull(UserError):
    """The queue is full: call `step`, or try again later."""


class Engine:
    """Runs streams of one model together (continuous batching), first come, first served.

    What a stream draws depends on its prompt, its settings and its seed, not on other streams
    (except for rounding, as `Pool` says: a draw at the edge between two ids may fall on either).
    Nothing in it is random or reads a clock.

    Any thread may call any method: calls are carried out one at a time, in the order in which they
    were made, and a step is one call. So one thread can step while others submit, mark, rewind and
    cancel; each of them waits for one step at most. Callbacks run inside `step`, in its thread:
    they may submit, mark, rewind and cancel too, but not step, and must not wait for another thread
    that calls the engine.

    A guided stream (`decoding.guided`) takes two slots, and counts as two towards what may run.

    Beside the pool, it holds at most one state for each stream that waits (of its session, or of a
    prompt that it shares), one for each prompt that is being prefilled, and those of ended streams
    that were to be kept, as long as somebody holds these.

    Attributes:
        room: how many streams may run now, at least 1; above `max_streams`: that many. It can be
            changed at any time: streams that run already go on.
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
            steps_per_call: decode steps in one `step`; None: the decoder's default.
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
        self.decoder, self.room = decoder, max_streams
        self._max_waiting, self._max_waiting_tokens = max_waiting, max_waiting_tokens
        self._max_prompt_tokens, self._prefill_tokens = max_prompt_tokens, prefill_tokens
        self._steps_per_call, self._scored = 1 if scored else steps_per_call, scored
        self._turns = Turns()
        self._prompts = Prompts(decoder)
        self._slots = Slots(decoder, max_streams, scored=scored)
        self._waiting: deque[Stream] = deque()
        self._waiting_tokens = 0  # of their prompts
        self._running: dict[int, Stream] = {}  # by slot; one with a `start` has yet to be started
        self._streams: WeakSet[Stream] = WeakSet()  # all of this engine
        self._n_submitted = 0
        self._n_ahead = 0  # steps that were made, but whose tokens were not handed out yet
        self._untold: set[Stream] = set()  # whose `on_token` is to be told of a token
        self._is_stepping = False

    @property
    def n_running(self) -> int:
        """How many streams are running."""
        with self._turns:
            return len(self._running)

    @property
    def n_taken(self) -> int:
        """How many slots they have; a guided one has two."""
        with self._turns:
            return sum(stream.n_slots for stream in self._running.values())

    @property
    def n_waiting(self) -> int:
        """How many streams wait for a slot."""
        with self._turns:
            return len(self._waiting)

    def submit(
        self,
        prompt: np.ndarray,
        *,
        source: np.ndarray | None = None,
        guidance: Guidance | None = None,
        sampling: Sampling = PLAIN,
        max_tokens: int | None = 1024,
        stop: Stop | None = None,
        on_token: OnToken | None = None,
        on_start: OnStart | None = None,
        keep: bool = False,
        seed: int = 0,
        number: int | None = None,
    ) -> Stream:
        """Let a stream wait for a slot.

        Args:
            prompt: ids [T, F], T ≥ 1 (BOS at least).
            source: of a model of pairs, what the prompt begins a target for [U, F].
            guidance: what its draws are compared with; None: nothing.
            sampling: settings of the draws.
            max_tokens: the most tokens to draw; None: no end, and the stream keeps no tokens.
            stop, on_token, on_start, keep: a rule that ends the stream, functions called with its
                tokens and where it begins, and whether its session can be read after its end, as
                `Stream` says.
            seed, number: of the draws; None: as many as have been submitted before. Streams of one
                seed, number and prompt draw the same, so give all numbers or none.

        Raises:
            UserError: the prompt is empty, invalid or too long, or a setting is invalid.
            EngineFull: too many are waiting.
        """
        vocabulary = self.decoder.vocabulary
        prompt = checked_prompt(prompt, vocabulary)
        if source is not None:
            source = checked_prompt(source, vocabulary, name="a source")
            self._check_length(len(source), "source")
        n_before = len(source) if source is not None and self.decoder.source_is_prefix else 0
        if guidance is not None:
            free = checked_prompt(guidance.prompt, vocabulary, name="a prompt of guidance")
            self._check_length(len(free), "prompt")
            check_positions(self.decoder.max_positions, n_before + len(free), max_tokens)
            guidance = replace(guidance, prompt=free)
        check_sampling(sampling, vocabulary)
        with self._turns:
            number = self._n_submitted if number is None else number
            if seed < 0 or number < 0:
                raise UserError(f"seed {seed} and number {number}: must be 0 or more")
            sampler = SamplerState.first(vocabulary, sampling, seed=(seed, number), prompt=prompt)
            second = None
            if guidance is not None:
                second = self._prompts.get(guidance.prompt[:-1], source)
            return self._add(
                Stream(
                    start=Beginning(
                        self._prompts.get(prompt[:-1], source), sampler, guidance, second
                    ),
                    pending=prompt[-1],
                    position=len(prompt) - 1 + n_before,
                    number=number,
                    prompt=prompt,
                    max_tokens=max_tokens,
                    stop=stop,
                    on_token=on_token,
                    on_start=on_start,
                    keep=keep,
                    is_guided=guidance is not None,
                )
            )

    def resume(
        self,
        session: Session,
        *,
        sampling: Sampling | None = None,
        max_tokens: int | None = 1024,
        stop: Stop | None = None,
        on_token: OnToken | None = None,
        on_start: OnStart | None = None,
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
        with self._turns:
            return self._add(
                Stream(
                    start=session,
                    pending=session.pending,
                    position=session.position,
                    number=self._n_submitted,
                    prompt=session.pending[None][:0],  # none: [0, F]
                    max_tokens=max_tokens,
                    stop=stop,
                    on_token=on_token,
                    on_start=on_start,
                    keep=keep,
                    is_guided=session.guide is not None,
                )
            )

    def step(self) -> bool:
        """Let streams join, make decode steps (one, or `steps_per_call`), hand out what was drawn.

        Returns:
            Whether anything is left to do.

        Raises:
            RuntimeError: a callback has called it.
        """
        with self._turns:
            if self._is_stepping:
                raise RuntimeError("a callback has called the engine's step")
            self._is_stepping = True
            try:
                self._admit()
                if any(stream.start is None for stream in self._running.values()):
                    self._decode()
            finally:
                self._is_stepping = False
            return bool(self._waiting or self._running)

    def run(self) -> None:
        """Step until every stream is finished."""
        while self.step():
            pass

    def cancel(self, stream: Stream) -> None:
        """End a stream at once, wherever it is; nothing happens to one that has ended."""
        with self._turns:
            self._check_own(stream)
            if stream.finished is None:
                self._finish(stream, "cancelled")

    def state_after(self, tokens: np.ndarray, before: State | None = None) -> State:
        """Return the state of one row, on the CPU, after `tokens` [T, F], T ≥ 1, without a draw.

        They are taken at once, by the parallel form, between two steps.

        Args:
            tokens: ids.
            before: the state that they follow; None: they begin a piece, with BOS.

        Raises:
            UserError: the tokens are none, or invalid.
        """
        tokens = checked_prompt(tokens, self.decoder.vocabulary)
        with self._turns:
            known = None if before is None else before.to(self.decoder.device)
            return self._prompts.state_after(tokens, known).to("cpu")

    def session(self, stream: Stream) -> Session:
        """Return all that a stream is now, as a value: a mark to rewind to, to save or to fork.

        Raises:
            UserError: it has not begun, it has ended and was not to be kept, or (with several steps
                per call) it has drawn further already.
        """
        with self._turns:
            self._check_own(stream)
            if isinstance(stream.start, Session):
                return stream.start
            if stream.slot is None or stream.start is not None:
                raise UserError(
                    f"stream {stream.number} has no session: it has not begun, or it has ended and "
                    f"was submitted without keep=True"
                )
            self._check_border(stream)
            return self._slots.read(stream.slot)

    def rewind(self, stream: Stream, session: Session) -> None:
        """Let a stream go on from a mark of its own; one that has ended waits for a slot first.

        The same tokens follow again, unless the mark is a fork.

        Raises:
            UserError: the mark is not one of this stream, or as for `session` and `resume`.
            EngineFull: the stream had ended, and too many are waiting.
        """
        with self._turns:
            self._check_own(stream)
            self._check_session(session)
            self._check_border(stream)
            stream.check_mark(session)
            if stream.finished is not None:
                self._enqueue(stream)
            slot = stream.slot if stream.start is None else None  # where it runs already
            stream.go_back(session)
            if slot is not None:
                self._start(slot, session)

    def force(self, stream: Stream, tokens: np.ndarray, second: np.ndarray | None = None) -> None:
        """Let a running stream take tokens [T, F] that are given and not drawn, T ≥ 1.

        They are taken at once, by the parallel form, after all that it has drawn. What it draws
        then depends on them, and uses the random numbers that it would have used without them.
        Neither `max_tokens` nor the frequency penalty counts them. `stop` and `on_token` are called
        with each, while `Stream.is_forced` is true; a rule that ends the stream at one of them ends
        it after the last. Call this between steps, or from the stream's own `on_token`.

        Args:
            stream: one of this engine.
            tokens: ids.
            second: what the second stream of a guided one takes instead, ids [T, F] with any T;
                None: the same.

        Raises:
            UserError: the stream is not running or its callbacks have a token still to be told of,
                the tokens are none, invalid or hold EOS, they exceed the positions of the model, or
                as for `session`.
        """
        tokens = checked_tokens(tokens, self.decoder.vocabulary, name="a sequence to force")
        if not len(tokens):
            raise UserError("no tokens are given that could be forced")
        if (tokens[:, 0] == self.decoder.vocabulary.eos_id).any():
            raise UserError("EOS cannot be forced: cancel the stream instead")
        with self._turns:
            self._check_own(stream)
            if stream.finished is not None:
                raise UserError(f"stream {stream.number} has ended: rewind it, or begin a new one")
            session = self.session(stream)
            if stream in self._untold:
                raise UserError(
                    f"stream {stream.number} has a token that its on_token has not been told of "
                    f"yet: force tokens from its own on_token, or between calls of step"
                )
            left = None if stream.max_tokens is None else stream.max_tokens - stream.n_drawn
            check_positions(self.decoder.max_positions, stream.position + 1 + len(tokens), left)
            state, pending = self._after(session.state, session.pending, tokens)
            guide = session.guide
            if guide is not None:
                given = tokens if second is None else second
                given = checked_tokens(given, self.decoder.vocabulary, name="a sequence to force")
                n_taken = int(guide.state.position[0]) + 1 + len(given)
                check_positions(self.decoder.max_positions, n_taken, left)
                after = self._after(guide.state, guide.pending, given)
                guide = replace(guide, state=after[0], pending=after[1])
            sampler = session.sampler.after(self.decoder.vocabulary, tokens)
            if stream.start is None and stream.slot is not None:
                self._slots.write(stream.slot, state, sampler, pending=pending, guide=guide)
            else:
                guide = guide and replace(guide, state=guide.state.to("cpu"))
                stream.start = replace(
                    session, state=state.to("cpu"), pending=pending, sampler=sampler, guide=guide
                )
            each = list(tokens)
            for token in each:
                token.flags.writeable = False
                stream.take(token, forced=True)
            before, stream.is_forced = stream.is_forced, True
            self._untold.add(stream)
            try:
                self._tell(stream, *each)
            finally:
                self._untold.discard(stream)
                stream.is_forced = before

    def _after(
        self, state: State, pending: np.ndarray, tokens: np.ndarray
    ) -> tuple[State, np.ndarray]:
        """Return where a stream is after tokens [T, F], any T: its state, and the pending one."""
        if not len(tokens):
            return state, pending
        taken = np.concatenate([pending[None], tokens[:-1]])
        after = self._prompts.state_after(taken, state.to(self.decoder.device))
        return after, tokens[-1]

    def _add(self, stream: Stream) -> Stream:
        """Queue a new stream, if the engine can run it to its end."""
        if stream.n_slots > self._slots.n_slots:
            raise UserError(
                "a guided stream takes two slots, and this engine has one: build it with "
                "max_streams=2"
            )
        if stream.max_tokens is not None and stream.max_tokens < 1:
            raise UserError(f"max_tokens = {stream.max_tokens}: must be 1 or more")
        length = self.decoder.vocabulary.length
        if length is not None:
            left = length - stream.position
            if left < 1:
                raise UserError(f"a piece has {length} tokens, and all are given: nothing is left")
            stream.max_tokens = min(left, stream.max_tokens or left)
        check_positions(self.decoder.max_positions, stream.position + 1, stream.max_tokens)
        if stream.keep and self._steps_per_call > 1:
            raise UserError(
                f"keep=True needs single steps, and this engine makes {self._steps_per_call} at "
                f"once: build it with steps_per_call=1"
            )
        self._enqueue(stream)
        self._streams.add(stream)
        self._n_submitted += 1
        return stream

    def _enqueue(self, stream: Stream) -> None:
        """Queue a stream for a slot, if there is room."""
        n_tokens = stream.n_given
        self._check_length(len(stream.prompt), "prompt")
        if len(self._waiting) >= self._max_waiting:
            raise EngineFull(
                f"{len(self._waiting)} streams are waiting, the most allowed: try again later"
            )
        if self._waiting and self._waiting_tokens + n_tokens > self._max_waiting_tokens:
            raise EngineFull(
                f"prompts of {self._waiting_tokens} tokens are waiting, and {n_tokens} more would "
                f"exceed {self._max_waiting_tokens}: try again later"
            )
        self._waiting.append(stream)
        self._waiting_tokens += n_tokens

    def _check_length(self, n_tokens: int, what: str) -> None:
        if n_tokens > self._max_prompt_tokens:
            raise UserError(
                f"a {what} of {n_tokens} tokens: at most {self._max_prompt_tokens} are accepted; "
                f"shorten it"
            )

    def _admit(self) -> None:
        """Fill free slots in turn, prefill a bounded amount, start the streams that are ready."""
        while self._waiting and self._has_room(self._waiting[0]):
            stream = self._waiting.popleft()
            self._waiting_tokens -= stream.n_given
            stream.slot = self._slots.take(is_guided=stream.is_guided)
            self._running[stream.slot] = stream
        starts = [(slot, s.start) for slot, s in self._running.items() if s.start is not None]
        prompts = [p for _, start in starts if isinstance(start, Beginning) for p in start.prompts]
        self._prompts.prefill(prompts, self._prefill_tokens)
        for slot, start in starts:
            if isinstance(start, Session) or all(prompt.is_done for prompt in start.prompts):
                self._start(slot, start)
                stream = self._running[slot]
                if stream.on_start is not None and not stream.n_tokens:
                    stream.on_start(stream, self._slots.read(slot))

    def _has_room(self, stream: Stream) -> bool:
        """Whether a stream may run now; one alone may, whatever the room."""
        fits = self.n_taken + stream.n_slots <= self.room
        return self._slots.n_free >= stream.n_slots and (fits or not self._running)

    def _start(self, slot: int, start: Beginning | Session) -> None:
        """Write the state from which the stream in a slot continues into it."""
        stream = self._running[slot]
        self._slots.write(
            slot, start.state, start.sampler, pending=stream.pending, guide=start.guide
        )
        stream.start = None

    def _decode(self) -> None:
        """Make one call to the pool, and hand out tokens in the order of time, then of slots."""
        slots = sorted(slot for slot, stream in self._running.items() if stream.start is None)
        streams = [self._running[slot] for slot in slots]
        n_steps, limit = self._steps_per_call, self.decoder.max_positions
        if limit is not None and any(s.is_guided or s.position + n_steps > limit for s in streams):
            n_steps = 1  # a stream may end before its last step here, which must be possible still
        drawn = self._slots.run(slots, n_steps)
        try:
            for ahead, tokens in zip(reversed(range(n_steps)), drawn, strict=True):
                self._n_ahead = ahead
                self._hand_out(streams, tokens)
        finally:
            self._n_ahead = 0
            self._untold.clear()

    def _hand_out(self, streams: list[Stream], tokens: np.ndarray) -> None:
        """Give streams [B] their drawn tokens [B, F]; those that ended in this call get no more."""
        given = []
        for stream, row in zip(streams, tokens, strict=True):
            if stream.finished is None:
                token = row.copy()  # not to keep the whole step
                token.flags.writeable = False
                given.append((stream, token))
        for stream, token in given:  # all of them first: a callback may mark any stream, or raise
            stream.take(token)
        self._untold = {stream for stream, _ in given}
        ends = {id(stream): self._end(stream, token) for stream, token in given}
        for stream, token in given:
            # A callback may have cancelled or rewound it.
            if stream.pending is token and stream.finished == ends[id(stream)]:
                self._tell(stream, token)

    def _end(self, stream: Stream, token: np.ndarray) -> Reason | None:
        """End a stream that ends with `token` [F] whatever its rule says; return why it did."""
        length = self.decoder.vocabulary.length
        if token[0] == self.decoder.vocabulary.eos_id or stream.position == length:
            self._finish(stream, "eos")
        elif stream.max_tokens is not None and stream.n_drawn >= stream.max_tokens:
            self._finish(stream, "length")
        return stream.finished

    def _tell(self, stream: Stream, *tokens: np.ndarray) -> None:
        """Call a stream's `stop`, then `on_token`, with tokens [F] that it took together."""
        try:
            last = tokens[-1]
            if stream.finished is None and stream.stop is not None:
                stops = [stream.stop(stream, token) for token in tokens]  # all: a rule may count
                if any(stops) and stream.finished is None and stream.pending is last:
                    self._finish(stream, "stop")
                elif any(stops):
                    return  # the rule has cancelled or rewound it
            for token in tokens:
                if token is last:
                    self._untold.discard(stream)
                if stream.on_token is not None:
                    stream.on_token(stream, token)
        except Exception as error:  # of any kind: it ends this stream only
            stream.error = error
            self._finish(stream, "error")

    def _finish(self, stream: Stream, reason: Reason) -> None:
        """End a stream, wherever it is; a callback may fail after it has ended."""
        if stream.slot is not None:
            if stream.start is None and self._scored and not stream.is_guided:
                stream.log_likelihood = self._slots.log_likelihood(stream.slot)
            if stream.start is None and stream.keep:
                stream.start = self._slots.read(stream.slot)
            del self._running[stream.slot]
            self._slots.leave(stream.slot)
            stream.slot = None
        elif stream in self._waiting:
            self._waiting.remove(stream)
            self._waiting_tokens -= stream.n_given
        if isinstance(stream.start, Beginning):
            stream.start = None  # it would hold the prompt's state
        stream.finished = reason  # last, since other threads look at it

    def _check_own(self, stream: Stream) -> None:
        if stream not in self._streams:
            raise ValueError(f"stream {stream.number} belongs to another engine")

    def _check_border(self, stream: Stream) -> None:
        n_ahead = self._n_ahead
        if n_ahead:
            raise UserError(
                f"stream {stream.number} has drawn {n_ahead} tokens that were not handed out yet: "
                f"mark and rewind between calls of step, or use Engine(steps_per_call=1)"
            )

    def _check_session(self, session: Session) -> None:
        session.check(self.decoder)
        if session.pending[0] == self.decoder.vocabulary.eos_id:
            raise UserError("the session has ended with EOS: go on from an earlier mark")
