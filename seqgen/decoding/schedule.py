"""What happens in a step of an engine: who joins, what is drawn, who is told, who leaves.

Legend: F fields.
"""

import numpy as np

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.prompts import Prompts
from seqgen.decoding.queue import Queue
from seqgen.decoding.session import Session
from seqgen.decoding.slots import Slots
from seqgen.decoding.stream import Beginning, Reason, Stream


class Schedule:
    """Takes streams from the queue into slots, through their prompts, and on to their end.

    Attributes:
        prompts: states of prompts, shared by those who wait with the same one.
        joining: streams that have a slot, but whose prompt is still being prefilled; by slot.
        running: streams that decode; by slot.
        n_ahead: steps that were made, but whose tokens have not been handed out yet.
    """

    def __init__(
        self,
        decoder: Decoder,
        queue: Queue,
        *,
        n_slots: int,
        prefill_tokens: int,
        steps_per_call: int,
        scored: bool,
    ):
        """Open a pool; arguments are those of `Engine`."""
        self.prompts = Prompts(decoder)
        self.joining: dict[int, Stream] = {}
        self.running: dict[int, Stream] = {}
        self.n_ahead = 0
        self._slots = Slots(decoder, n_slots, scored=scored)
        self._queue = queue
        self._prefill_tokens = prefill_tokens
        self._steps_per_call = steps_per_call
        self._scored = scored
        self._eos_id, self._limit = decoder.vocabulary.eos_id, decoder.max_positions

    def admit(self) -> None:
        """Fill free slots from the queue, prefill a bounded amount, start those who are ready."""
        while len(self._queue) and self._slots.n_free:
            stream = self._queue.popleft()
            stream.slot = self._slots.take()
            self.joining[stream.slot] = stream
        if not self.joining:
            return
        starts = [stream.start for stream in self.joining.values()]
        prompts = [start.prompt for start in starts if isinstance(start, Beginning)]
        self.prompts.prefill(prompts, self._prefill_tokens)
        for slot, stream in list(self.joining.items()):
            if isinstance(stream.start, Session) or stream.start.prompt.is_done:
                self.running[slot] = self.joining.pop(slot)
                self.start(stream)

    def start(self, stream: Stream) -> None:
        """Write what a stream goes on from into its slot."""
        start = stream.start
        state = start.state if isinstance(start, Session) else start.prompt.state
        self._slots.write(stream.slot, state, start.sampler, pending=stream.pending)
        stream.start = None

    def decode(self) -> None:
        """Make one call to the pool, and hand out tokens in the order of time, then of slots."""
        slots = sorted(self.running)
        streams = [self.running[slot] for slot in slots]
        n_steps = self._steps_per_call
        if self._limit is not None and any(s.position + n_steps > self._limit for s in streams):
            n_steps = 1  # a stream may end before its last step here, which must be possible still
        drawn = self._slots.run(slots, n_steps)
        try:
            for ahead, tokens in zip(reversed(range(n_steps)), drawn, strict=True):
                self.n_ahead = ahead
                self._hand_out(streams, tokens)
        finally:
            self.n_ahead = 0

    def read(self, stream: Stream) -> Session:
        """Copy out all that a running stream is."""
        return self._slots.read(stream.slot)

    def finish(self, stream: Stream, reason: Reason) -> None:
        """End a stream, wherever it is."""
        stream.finished = reason
        if self.running.get(stream.slot) is stream:
            if self._scored:
                stream.log_likelihood = self._slots.log_likelihood(stream.slot)
            if stream.keep:
                stream.start = self._slots.read(stream.slot)
            del self.running[stream.slot]
            self._slots.leave(stream.slot)
        elif self.joining.get(stream.slot) is stream:
            del self.joining[stream.slot]
            self._slots.leave(stream.slot)
        else:
            self._queue.remove(stream)
        stream.slot = None
        if isinstance(stream.start, Beginning):
            stream.start = None  # it would hold the prompt's state

    def _hand_out(self, streams: list[Stream], tokens: np.ndarray) -> None:
        """Give streams [B] what they have drawn [B, F]; who has ended in this call gets no more."""
        given = []
        for stream, row in zip(streams, tokens, strict=True):
            if stream.finished is None:
                token = row.copy()  # not to keep the whole step
                token.flags.writeable = False
                given.append((stream, token))
        for stream, token in given:  # all of them first: a callback may mark any stream, or raise
            stream.take(token)
        ends = {id(stream): self._end(stream, token) for stream, token in given}
        for stream, token in given:
            # A callback may have cancelled or rewound it.
            if stream.pending is token and stream.finished == ends[id(stream)]:
                self._tell(stream, token)

    def _end(self, stream: Stream, token: np.ndarray) -> Reason | None:
        """End a stream that ends with `token` [F] whatever its rule says; return why it did."""
        if token[0] == self._eos_id:
            self.finish(stream, "eos")
        elif stream.max_tokens is not None and stream.n_tokens >= stream.max_tokens:
            self.finish(stream, "length")
        return stream.finished

    def _tell(self, stream: Stream, token: np.ndarray) -> None:
        """Ask a stream's rule whether it ends with `token` [F], and call back."""
        try:
            if stream.finished is None and stream.stop is not None and stream.stop(stream, token):
                if stream.finished is not None or stream.pending is not token:
                    return  # the rule has cancelled or rewound it
                self.finish(stream, "stop")
            if stream.on_token is not None:
                stream.on_token(stream, token)
        except Exception as error:  # of whatever kind: it is this stream's, and others go on
            stream.error = error
            self.finish(stream, "error")
