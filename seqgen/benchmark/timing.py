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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqgen.benchmark.machine import free_bytes
from seqgen.benchmark.records import UNKNOWN, Record, Setting

LIBRARY = "library"  # the variant that the others are compared with
# Seconds. A shorter call is timed after an untimed one of the same variant, as steps follow each
# other in generation: otherwise it would find what the other variants left in the caches.
SHORT = 0.05
OUT_OF_MEMORY = "left out: ran out of memory"


@dataclass(frozen=True)
class Call:
    """A variant that is ready to be timed.

    Attributes:
        run: the timed call, given what `prepare` returned.
        prepare: makes the input of one call, outside the timed part.
        part: a smaller part of the same work, called before `run` to estimate its time;
            None: a call is known to be short.
        parts: how many times as much work the whole call does.
    """

    run: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None
    part: Callable[[], object] | None = None
    parts: float = 1.0


@dataclass(frozen=True)
class Variant:
    """One implementation of the measured work.

    Attributes:
        name: as in the records.
        open: makes it ready; None: it cannot run here.
        holds: bytes that it keeps while its place is measured, estimated.
        needs: bytes that it allocates during a call besides, estimated.
        note: where `open` is None, the reason.
        dtype: of the computation.
    """

    name: str
    open: Callable[[], Call] | None
    holds: int = 0
    needs: int = 0
    note: str = ""
    dtype: str = "float32"


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: for the repeats of one variant in one place.
        max_repeats: the most repeats, however short a call is.
        longest_call: the longest call that is made, in seconds.
        longest_piece: the same for a whole piece, which is thousands of steps.
        measure_seconds: no further place of a measure is begun after so many seconds.
        quick: whether variants that take long to prepare are left out.
    """

    seconds: float
    max_repeats: int
    longest_call: float
    longest_piece: float = 60.0
    measure_seconds: float = math.inf
    quick: bool = False


class MemoryBudget:
    """The memory that the variants of one place may take."""

    def __init__(self, free: int):
        self._free, self._held = free, 0

    def refuse(self, variant: Variant) -> str:
        """Reserve what a variant holds and return nothing, or say why it is left out."""
        needed = variant.holds + variant.needs
        if needed > self._free / 4:
            return (
                f"left out: would need {_gigabytes(needed)}, "
                f"a quarter of the free memory is {_gigabytes(self._free / 4)}"
            )
        if self._held + needed > self._free / 2:
            return (
                f"left out: would need {_gigabytes(needed)} beside {_gigabytes(self._held)} of "
                f"other variants, half of the free memory is {_gigabytes(self._free / 2)}"
            )
        self._held += variant.holds
        return ""


@dataclass
class _Timed:
    """A variant being timed: its call, how many repeats to make, and the seconds of those made."""

    call: Call
    repeats: int
    is_short: bool
    samples: list[float]


class Timer:
    """Times variants and makes records.

    Attributes:
        effort: how long to measure.
    """

    def __init__(self, effort: Effort, *, device: torch.device, setting: Setting = UNKNOWN):
        self.effort = effort
        self._device, self._setting = device, setting
        self._began: dict[str, float] = {}

    def time(
        self,
        variants: Sequence[Variant],
        *,
        measure: str,
        batch: int,
        position: int,
        tokens: int,
        whole_pieces: bool = False,
    ) -> list[Record]:
        """Time the variants against each other.

        Args:
            variants: those that compute the same, or stand for it.
            measure, batch, position: the place, as in `Record`.
            tokens: how many tokens one call handles, summed over rows.
            whole_pieces: a call is thousands of steps, so that one of them counts.

        Returns:
            One record per variant, also for those that could not or should not run.
        """
        samples, notes = self._sample(variants, self._late(measure), whole_pieces)
        self._free()
        # A single call that was not warmed up is no measure for the others.
        counts = whole_pieces or len(samples.get(LIBRARY, ())) > 1
        library = float(np.median(samples[LIBRARY])) if LIBRARY in samples and counts else None
        place: dict[str, Any] = {"measure": measure, "batch": batch, "position": position}
        return [
            self.timed(
                v.name, samples[v.name], **place, dtype=v.dtype, tokens=tokens, library=library
            )
            if v.name in samples
            else self.untimed(v.name, **place, dtype=v.dtype, note=notes[v.name])
            for v in variants
        ]

    def _sample(
        self, variants: Sequence[Variant], late: str, whole_pieces: bool
    ) -> tuple[dict[str, list[float]], dict[str, str]]:
        """Return the seconds of each call by variant, and of the others why there are none."""
        budget = MemoryBudget(free_bytes(self._device))
        notes: dict[str, str] = {}
        timed: dict[str, _Timed] = {}
        for v in variants:
            notes[v.name] = v.note or late or budget.refuse(v)
            if not notes[v.name]:
                notes[v.name] = self._guarded(self._begin, v, timed, whole_pieces)
        n_rounds = max((t.repeats for t in timed.values()), default=0)
        for i in range(n_rounds):
            for name, t in list(timed.items()):
                if (i + 1) * t.repeats // n_rounds > i * t.repeats // n_rounds:
                    notes[name] = self._guarded(self._repeat, t)
                    if notes[name]:
                        del timed[name]
        return {name: t.samples for name, t in timed.items()}, notes

    def timed(
        self,
        variant: str,
        seconds: Sequence[float],
        *,
        tokens: int,
        library: float | None = None,
        **values: Any,
    ) -> Record:
        """Return the record of calls that took so many seconds, each for so many tokens."""
        median = float(np.median(seconds))
        return self.untimed(
            variant,
            **values,
            median_seconds=median,
            p95_seconds=float(np.percentile(seconds, 95)),
            tokens_per_second=tokens / median,
            ratio_to_library=library / median if library else None,
            repeats=len(seconds),
            samples=tuple(seconds),
        )

    def untimed(self, variant: str, *, dtype: str = "float32", **values: Any) -> Record:
        """Return a record without times: of bytes, or of what was left out and why (`note`)."""
        threads = torch.get_num_threads()
        return Record(
            variant=variant, dtype=dtype, threads=threads, setting=self._setting, **values
        )

    def _late(self, measure: str) -> str:
        """Return a note if the time for this measure is used up."""
        now = time.perf_counter()
        if now - self._began.setdefault(measure, now) <= self.effort.measure_seconds:
            return ""
        return f"left out: the {self.effort.measure_seconds:.0f} s for {measure} are over"

    def _guarded(self, work: Callable[..., str | None], *arguments: object) -> str:
        """Run `work`; return a note if memory runs out."""
        try:
            return work(*arguments) or ""
        except Exception as error:
            is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
            if not is_memory and "allocate memory" not in str(error):
                raise
        self._free()
        return OUT_OF_MEMORY

    def _begin(self, variant: Variant, timed: dict[str, _Timed], whole_pieces: bool) -> str:
        """Open a variant and warm it up; return a note if a call would take too long."""
        assert variant.open is not None  # else its note says why
        effort, call = self.effort, variant.open()
        longest = effort.longest_piece if whole_pieces else effort.longest_call
        part = call.part
        if part is not None:
            short = Call(lambda _: part())
            foreseen = call.parts * min(self._once(short), self._once(short))
            if foreseen > longest:
                return (
                    f"left out: a call would take about {foreseen:.3g} s, "
                    f"the limit is {longest:.3g} s"
                )
        first = self._once(call)
        if whole_pieces:
            again = int(first <= effort.seconds)
            timed[variant.name] = _Timed(call, again, False, [first])
        elif first > longest:
            timed[variant.name] = _Timed(call, 0, False, [first])
        else:
            typical = min(first, self._once(call)) if first <= effort.seconds else first
            repeats = min(max(2, int(effort.seconds / typical)), effort.max_repeats)
            timed[variant.name] = _Timed(call, repeats, typical < SHORT, [])
        return ""

    def _repeat(self, timed: _Timed) -> None:
        if timed.is_short:
            self._once(timed.call)
        timed.samples.append(self._once(timed.call))

    def _once(self, call: Call) -> float:
        given = call.prepare()
        self._synchronize()
        start = time.perf_counter()
        call.run(given)
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


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.1f} GB"
