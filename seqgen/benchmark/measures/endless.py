"""One stream that goes on and on: what a step takes, and what the process holds, far from BOS.

The stream is an engine's, with sums that fade, and draws at every step; nothing of it is made up.
"""

import os
import time
from contextlib import suppress
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from seqgen.benchmark.cold import endless_sampling
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject
from seqgen.benchmark.timing import Clock
from seqgen.decoding.choose import build_decoder
from seqgen.decoding.engine import Engine
from seqgen.decoding.stream import Stream
from seqgen.errors import UserError

VARIANTS = ("native-w8a8", "cuda-bf16", "torch")  # the first one that can be had
WINDOW = 256  # positions after which the sums fade; no step takes longer for another one
FIRST = 100  # position of the first record; each later one is at 10 times that of the one before
N_TIMED = 500  # steps behind each record, from its position on
LONGEST, LONGEST_QUICK = 300.0, 6.0  # seconds that a stream may take
STATM = Path("/proc/self/statm")


class Endless:
    """A stream that has no end, and how it goes."""

    def __init__(self, subject: Subject):
        """Begin one with BOS, by the fastest decoder here."""
        self.variant, self._engine = _open(subject)
        vocabulary = subject.model.vocabulary
        self._stream: Stream = self._engine.submit(
            np.full((1, len(vocabulary.sizes)), vocabulary.bos_id),
            sampling=endless_sampling(vocabulary),
            max_tokens=None,
        )

    @property
    def weights(self) -> str:
        """What the decoder keeps matrices in."""
        return DECODERS[self.variant][1]

    @property
    def position(self) -> int:
        """How many tokens have been taken."""
        return self._stream.position

    def go_on(self, n_steps: int) -> list[float]:
        """Make at least `n_steps`, and return the seconds of each (in the mean over one call)."""
        seconds, end = [], self.position + n_steps
        while self.position < end:
            before, start = self.position, time.perf_counter()
            self._engine.step()
            n = self.position - before
            seconds += [(time.perf_counter() - start) / n] * n
        return seconds


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time steps of one stream at 100, 1,000, … and `position`, or up to where time allows."""
    place = {"measure": "endless", "batch": batch}
    if subject.limit is not None:
        note = f"skipped: the model has {subject.limit} learned positions, where a stream ends"
        return [clock.untimed(VARIANTS[0], **place, position=position, note=note)]
    endless, records, begin = Endless(subject), [], time.perf_counter()
    longest = LONGEST if clock.patient else LONGEST_QUICK
    n_timed = min(N_TIMED, max(1, position // 3))
    seconds = endless.go_on(min(FIRST, position))
    for mark in _marks(position, n_timed):
        place |= {"position": mark, "dtype": endless.weights}
        foreseen = (mark + n_timed - endless.position) * float(np.median(seconds))
        if time.perf_counter() - begin + foreseen > longest:
            note = f"skipped: {foreseen:.0f} s until there, the stream ends at {endless.position}"
            return [*records, clock.untimed(endless.variant, **place, note=note)]
        endless.go_on(mark - endless.position)
        seconds = endless.go_on(n_timed)
        records.append(
            clock.timed_elsewhere(endless.variant, seconds, **place, bytes=resident_bytes())
        )
    return records


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system does not say."""
    if not STATM.exists():
        return None
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open(subject: Subject) -> tuple[str, Engine]:
    """Find the first decoder that can be had."""
    for variant in VARIANTS[:-1]:
        with suppress(UserError):
            return variant, _engine(subject, variant)
    return VARIANTS[-1], _engine(subject, VARIANTS[-1])


def _engine(subject: Subject, variant: str) -> Engine:
    decoder, weights = DECODERS[variant]
    built = build_decoder(subject.model, decoder, weights=weights, window=WINDOW)
    return Engine(built, max_streams=1)


def _marks(last: int, n_timed: int) -> list[int]:
    """List positions of records that do not run into each other, up to the last one."""
    tens = (FIRST * 10**i for i in count())
    return [*takewhile(lambda mark: mark + n_timed <= last, tens), last]
