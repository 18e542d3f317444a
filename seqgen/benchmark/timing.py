"""Times variants of the same work in turns, so that a busy moment affects all of them.

What a variant may take is decided here and nowhere else:

- Memory: a variant may need a quarter of what is free before a place begins, and all variants of
  the place together half of it. What they need is estimated before they are opened.
- Time: a variant gets `Effort.seconds` of repeats in a place. A call that takes longer than that is
  made twice after the first one; one that takes longer than `longest_call` is not repeated, and if
  a part of its work shows this beforehand, it is not made at all.

A variant that is left out has a record without a value, whose note gives the reason.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from seqgen.benchmark.machine import free_bytes
from seqgen.benchmark.records import LIBRARY, UNKNOWN, BenchmarkSetting, Place, Record

# Seconds. A shorter call is timed after an untimed one of the same variant, as steps follow each
# other in generation: otherwise it would find what the other variants left in the caches.
SHORT = 0.05
OUT_OF_MEMORY = "left out: ran out of memory"


@dataclass(frozen=True)
class Call:
    """A variant that is ready to be timed."""

    run: Callable[[int], object]  # the timed call: does work of a length
    prepare: Callable[[], object] = lambda: None  # called before each, outside the timed part
    length: int = 1  # of the whole work
    part: int | None = None  # run first to estimate the whole; None: a call is known to be short


NOTHING = Call(lambda _: None)


@dataclass(frozen=True)
class Variant:
    """One implementation of the measured work."""

    name: str  # as in the records
    open: Callable[[], Call] = lambda: NOTHING
    holds: int = 0  # bytes that it keeps while its place is measured, estimated
    needs: int = 0  # bytes that it allocates during a call besides, estimated
    note: str = ""  # why it cannot run here; then it is not opened
    dtype: str = "float32"  # of the computation


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    seconds: float  # for the repeats of one variant in one place
    max_repeats: int  # however short a call is
    longest_call: float  # that is made, in seconds
    longest_piece: float = 60.0  # the same for a whole piece, which is thousands of steps
    measure_seconds: float = math.inf  # after these, no further place of a measure is begun


@dataclass
class _Trial:
    """A variant in one place: why it is left out, or how often it is called, and the seconds."""

    variant: Variant
    note: str
    call: Call = NOTHING
    ready_seconds: float | None = None
    repeats: int = 0
    is_short: bool = False
    samples: list[float] = field(default_factory=list)


class Timer:
    """Times variants and makes records."""

    def __init__(
        self, effort: Effort, *, device: torch.device, setting: BenchmarkSetting = UNKNOWN
    ):
        self.effort = effort
        self._device, self._setting = device, setting
        self._began: dict[str, float] = {}

    def time(
        self, variants: Sequence[Variant], place: Place, *, tokens: int, whole_pieces: bool = False
    ) -> list[Record]:
        """Time variants of the same work against each other, and return a record of each.

        One call handles `tokens`, summed over rows. With `whole_pieces` it is thousands of steps,
        so that one call counts. A variant that could not or should not run has a record too.
        """
        trials = self._try(variants, self._late(place.measure), whole_pieces)
        for trial in trials:
            trial.call = NOTHING  # and with it all that the variant holds
        self._free()
        # A single call that was not warmed up is no measure for the others.
        least = 1 if whole_pieces else 2
        timed = [t for t in trials if len(t.samples) >= least]
        library = next((t.samples for t in timed if t.variant.name == LIBRARY), None)
        records = []
        for t in trials:
            who: dict[str, Any] = {"variant": t.variant.name, "dtype": t.variant.dtype}
            if t.samples:
                who |= {"tokens": tokens, "library": library, "ready_seconds": t.ready_seconds}
                records.append(self.timed(place=place, seconds=t.samples, **who))
            else:
                records.append(self.untimed(place=place, note=t.note, **who))
        return records

    def timed(
        self,
        variant: str,
        place: Place,
        seconds: Sequence[float],
        *,
        tokens: int,
        library: Sequence[float] | None = None,
        **values: Any,
    ) -> Record:
        """Return the record of calls that took so many seconds, each for so many tokens.

        `library` are the seconds of the library's calls in the same place, for the ratio.
        """
        median = float(np.median(seconds))
        return self.untimed(
            variant,
            place,
            **values,
            median_seconds=median,
            p95_seconds=float(np.percentile(seconds, 95)),
            tokens_per_second=tokens / median,
            ratio_to_library=float(np.median(library)) / median if library else None,
            repeats=len(seconds),
            samples=tuple(seconds),
        )

    def untimed(
        self, variant: str, place: Place, *, dtype: str = "float32", **values: Any
    ) -> Record:
        """Return a record without times: of bytes, or of what was left out and why (`note`)."""
        return Record(
            variant=variant,
            **vars(place),
            dtype=dtype,
            threads=torch.get_num_threads(),
            setting=self._setting,
            **values,
        )

    def _late(self, measure: str) -> str:
        """Return a note if the time for this measure is used up."""
        now = time.perf_counter()
        if now - self._began.setdefault(measure, now) <= self.effort.measure_seconds:
            return ""
        return f"left out: the {self.effort.measure_seconds:.0f} s for {measure} are over"

    def _try(self, variants: Sequence[Variant], late: str, whole_pieces: bool) -> list[_Trial]:
        """Open and time the variants; one that is left out has a note and no samples."""
        free, held = free_bytes(self._device), 0
        trials = [_Trial(v, v.note or late) for v in variants]
        for trial in trials:
            trial.note = trial.note or _too_large(trial.variant, free, held)
            if not trial.note:
                held += trial.variant.holds
                self._guarded(partial(self._begin, whole_pieces=whole_pieces), trial)
        n_rounds = max((t.repeats for t in trials), default=0)
        for i in range(n_rounds):
            for t in trials:
                due = (i + 1) * t.repeats // n_rounds > i * t.repeats // n_rounds
                if due and not t.note:
                    self._guarded(self._repeat, t)
        return trials

    def _guarded(self, work: Callable[[_Trial], None], trial: _Trial) -> None:
        """Do `work`; where memory runs out, leave the variant out."""
        try:
            work(trial)
            return
        except Exception as error:
            is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
            if not is_memory and "allocate memory" not in str(error):
                raise
        trial.note, trial.call, trial.samples = OUT_OF_MEMORY, NOTHING, []
        self._free()

    def _begin(self, trial: _Trial, *, whole_pieces: bool) -> None:
        """Open a variant and warm it up, unless a call would take too long."""
        begin = time.perf_counter()
        effort, call = self.effort, trial.variant.open()
        self._synchronize()
        trial.ready_seconds = time.perf_counter() - begin
        longest = effort.longest_piece if whole_pieces else effort.longest_call
        if call.part is not None:
            shorter = replace(call, length=call.part)
            seconds = min(self._once(shorter), self._once(shorter)) * call.length / call.part
            if seconds > longest:
                limit = f"the limit is {longest:.3g} s"
                trial.note = f"left out: a call would take about {seconds:.3g} s, {limit}"
                return
        trial.call, first = call, self._once(call)
        if whole_pieces:
            trial.samples, trial.repeats = [first], int(first <= effort.seconds)
        elif first > longest:
            trial.samples = [first]
        else:
            typical = min(first, self._once(call)) if first <= effort.seconds else first
            trial.repeats = min(max(2, int(effort.seconds / typical)), effort.max_repeats)
            trial.is_short = typical < SHORT

    def _repeat(self, trial: _Trial) -> None:
        if trial.is_short:
            self._once(trial.call)
        trial.samples.append(self._once(trial.call))

    def _once(self, call: Call) -> float:
        call.prepare()
        self._synchronize()
        start = time.perf_counter()
        call.run(call.length)
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _free(self) -> None:
        """Free memory: objects that refer to each other may hold gigabytes."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _too_large(variant: Variant, free: int, held: int) -> str:
    """Return a note if a variant needs too much beside the bytes that others hold already."""
    needed, quarter, half = variant.holds + variant.needs, free / 4, free / 2
    if needed > quarter:
        beside, bound = "", f"a quarter of the free memory is {quarter / 1e9:,.1f} GB"
    elif held + needed > half:
        beside = f" beside {held / 1e9:,.1f} GB of other variants"
        bound = f"half of the free memory is {half / 1e9:,.1f} GB"
    else:
        return ""
    return f"left out: would need {needed / 1e9:,.1f} GB{beside}, {bound}"
