"""An endless stream: the time of a step and the memory of the process, far from BOS.

The stream is an engine's, with sums that decay, and draws at every step.
"""

import os
import time
from contextlib import suppress
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.benchmark.draws import endless_sampling
from seqgen.benchmark.model import DECODERS, BenchmarkModel
from seqgen.benchmark.records import Place, Record
from seqgen.benchmark.timing import Timer
from seqgen.decoding.choose import build_decoder
from seqgen.decoding.decoder import Decoder
from seqgen.decoding.engine import Engine
from seqgen.errors import UserError

VARIANTS = ("native-w8a8", "cuda-bf16", "torch")  # the first one that is available
DECAY_AFTER = 256  # position from which the sums decay; steps take as long with any other
FIRST = 100  # position of the first record; each later one is at 10 times that of the one before
N_TIMED = 500  # steps behind each record, from its position on
LONGEST = {True: 6.0, False: 300.0}  # seconds that a stream may take, by quick
PROCESS_SIZE = Path("/proc/self/statm")


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Time steps of one stream at 100, 1,000, … and `position`, or up to where time allows."""
    if model.limit is not None:
        note = f"left out: the model has {model.limit} learned positions, where a stream ends"
        return [timer.untimed(VARIANTS[0], place, note=note)]
    variant, decoder = _fastest(model)
    engine, vocabulary = Engine(decoder, max_streams=1), model.model.vocabulary
    stream = engine.submit(
        np.full((1, len(vocabulary.sizes)), vocabulary.bos_id),
        sampling=endless_sampling(vocabulary),
        max_tokens=None,
    )

    def go_on(n_steps: int) -> list[float]:
        """Make at least `n_steps`, and return the seconds of each (in the mean over one call)."""
        seconds, end = [], stream.position + n_steps
        while stream.position < end:
            before, start = stream.position, time.perf_counter()
            engine.step()
            n = stream.position - before
            seconds += [(time.perf_counter() - start) / n] * n
        return seconds

    records: list[Record] = []
    begin, n_timed = time.perf_counter(), min(N_TIMED, max(1, place.position // 3))
    seconds = go_on(min(FIRST, place.position))
    for mark in marks(place.position, n_timed):
        at: dict[str, Any] = {"place": replace(place, position=mark), "dtype": decoder.weights}
        more = (mark + n_timed - stream.position) * float(np.median(seconds))
        limit = LONGEST[model.quick]
        if time.perf_counter() - begin + more > limit:
            note = f"left out: would take {more:.0f} s more, the limit of a stream is {limit:.0f} s"
            return [*records, timer.untimed(variant, **at, note=note)]
        go_on(mark - stream.position)
        seconds = go_on(n_timed)
        records.append(
            timer.timed(variant, seconds=seconds, **at, tokens=place.batch, bytes=_resident_bytes())
        )
    return records


def _resident_bytes() -> int | None:
    """Return the memory of this process that is in RAM; None where the system does not say."""
    if not PROCESS_SIZE.exists():  # pragma: no cover  (on other systems than Linux)
        return None
    return int(PROCESS_SIZE.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def marks(last: int, n_timed: int) -> list[int]:
    """List positions of records that do not run into each other, up to the last one."""
    tens = (FIRST * 10**i for i in count())
    return [*takewhile(lambda mark: mark + n_timed <= last, tens), last]


def _fastest(model: BenchmarkModel) -> tuple[str, Decoder]:
    """Build the first decoder that is available."""
    for variant in VARIANTS:
        name, weights = DECODERS[variant]
        with suppress(UserError):
            return variant, build_decoder(
                model.model, name, weights=weights, decay_after=DECAY_AFTER
            )
    raise AssertionError(f"{VARIANTS[-1]} is always available")
