"""Timing variants of one thing in one run, round by round, so that a busy moment hits them all."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqgen.benchmark.records import Record
from seqgen.benchmark.setting import NOWHERE, Setting

LIBRARY = "library"  # the variant that the others are compared with
# Seconds. A shorter call is timed after an untimed one of the same variant, as steps follow each
# other in generation: else it would find what the other variants left in the caches.
SHORT = 0.05

Samples = dict[str, list[float]]  # seconds of each call, by variant


@dataclass(frozen=True)
class Variant:
    """One way of computing something.

    Attributes:
        name: as it stands in the records.
        run: the timed call, given what `prepare` returned; None: it cannot run here.
        prepare: makes the input of one call, outside the timed part.
        note: where `run` is None, the reason.
        dtype: of what is computed with.
        grows: whether a call takes longer at a later position.
    """

    name: str
    run: Callable[[Any], object] | None
    prepare: Callable[[], Any] = lambda: None
    note: str = ""
    dtype: str = "float32"
    grows: bool = True


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: for the repeats of one variant in one place.
        max_repeats: the most repeats, however short a call is.
        longest_call: a call foreseen to take more seconds than this is not made, and a first call
            that did is not repeated.
        measure_seconds: no further place of a measure is begun after so many.
    """

    seconds: float
    max_repeats: int
    longest_call: float
    measure_seconds: float = math.inf


def attempt(name: str, make: Callable[[], Variant], *, dtype: str = "float32") -> Variant:
    """Make a variant, or, where memory does not suffice for it, one that says so."""
    try:
        return make()
    except Exception as error:
        return Variant(name, None, note=out_of_memory(error), dtype=dtype)


@contextmanager
def _or_note(name: str, notes: dict[str, str]) -> Iterator[None]:
    """Note it where memory runs out."""
    try:
        yield
    except Exception as error:
        notes[name] = out_of_memory(error)


def out_of_memory(error: Exception) -> str:
    """Say that memory ran out; any other error goes on."""
    words = str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in words:
        return "skipped: ran out of memory"
    raise error


class Clock:
    """Times variants and makes records; foresees from what calls took what longer ones will."""

    def __init__(self, effort: Effort, *, device: torch.device, setting: Setting = NOWHERE):
        self._effort = effort
        self._device = device
        self._setting = setting
        self._last: dict[tuple[str, str, int], tuple[int, float]] = {}
        self._began: dict[str, float] = {}

    @property
    def patient(self) -> bool:
        """Whether there is no limit to the time of a measure."""
        return math.isinf(self._effort.measure_seconds)

    def records(
        self,
        variants: Sequence[Variant],
        *,
        measure: str,
        batch: int,
        position: int,
        tokens: int,
        whole: bool = False,
    ) -> list[Record]:
        """Time the variants against each other.

        Args:
            variants: those that compute the same, or stand for it.
            measure, batch, position: the place, as in `Record`; go through positions upwards.
            tokens: how many tokens one call handles, summed over rows.
            whole: a call is thousands of steps, so that one counts, and is not warmed up.

        Returns:
            One record per variant, also for those that could not or should not run.
        """
        late = self._late(measure)
        notes = {
            v.name: v.note or late or self._too_long(v, measure, batch, position) for v in variants
        }
        timed = [v for v in variants if not notes[v.name]]
        samples, failed = self._time_whole(timed) if whole else self._time(timed)
        notes |= failed
        medians = {name: float(np.median(seconds)) for name, seconds in samples.items()}
        for name, median in medians.items():
            self._last[measure, name, batch] = (position, median)
        # One call, and not warmed up: a busy moment would make everything else look fast.
        counts = whole or len(samples.get(LIBRARY, ())) > 1
        library = medians.get(LIBRARY) if counts else None
        places = {
            v.name: self._place(measure, v.name, batch, position) | {"dtype": v.dtype}
            for v in variants
        }
        return [
            _timed(places[v.name], samples[v.name], tokens=tokens, library=library)
            if v.name in samples
            else Record(**places[v.name], note=notes[v.name])
            for v in variants
        ]

    def untimed(
        self, variant: str, *, measure: str, batch: int, position: int, **values: object
    ) -> Record:
        """Return a record without times: of bytes, or of what was left out and why (`note`)."""
        return Record(**self._place(measure, variant, batch, position) | values)

    def timed_elsewhere(
        self,
        variant: str,
        seconds: Sequence[float],
        *,
        measure: str,
        batch: int,
        position: int,
        **values: object,
    ) -> Record:
        """Return a record of calls that were not made here.

        Each is of one token per row, if `tokens` does not say of how many it is.
        """
        tokens = values.pop("tokens", batch)
        place = self._place(measure, variant, batch, position) | values
        return _timed(place, list(seconds), tokens=tokens, library=None)

    def _place(self, measure: str, variant: str, batch: int, position: int) -> dict:
        return {
            "measure": measure,
            "variant": variant,
            "dtype": "float32",
            "batch": batch,
            "position": position,
            "threads": torch.get_num_threads(),
            "setting": self._setting,
        }

    def _late(self, measure: str) -> str:
        """Say so if the time for this measure is used up."""
        now = time.perf_counter()
        if now - self._began.setdefault(measure, now) <= self._effort.measure_seconds:
            return ""
        return f"skipped: the {self._effort.measure_seconds:.0f} s for {measure} were over"

    def _too_long(self, variant: Variant, measure: str, batch: int, position: int) -> str:
        """Say how long a call would take, growing with the position, if that is too long."""
        place = measure, variant.name, batch
        if place not in self._last or not variant.grows:
            return ""
        last_position, seconds = self._last[place]
        expected = seconds * position / last_position
        if expected <= self._effort.longest_call:
            return ""
        self._last[place] = (position, expected)
        return f"skipped: {expected:.0f} s a call or more"

    def _time(self, variants: Sequence[Variant]) -> tuple[Samples, dict[str, str]]:
        """Warm up, then repeat round by round; a slow variant takes part in fewer rounds.

        There are at least two repeats, but a first call longer than allowed stays the only one.

        Returns:
            The seconds of each variant, and notes on those that ran out of memory instead.
        """
        samples: Samples = {}
        failed: dict[str, str] = {}
        repeats, short = {}, set()
        for v in variants:
            with _or_note(v.name, failed):
                repeats[v.name], samples[v.name], typical = self._warm_up(v)
                if typical < SHORT:
                    short.add(v.name)
        n_rounds = max(repeats.values(), default=0)
        for i in range(n_rounds):
            for v in variants:
                n = repeats.get(v.name, 0)
                if v.name in failed or (i + 1) * n // n_rounds == i * n // n_rounds:
                    continue
                with _or_note(v.name, failed):
                    if v.name in short:
                        self._once(v)
                    samples[v.name].append(self._once(v))
        return {name: taken for name, taken in samples.items() if name not in failed}, failed

    def _time_whole(self, variants: Sequence[Variant]) -> tuple[Samples, dict[str, str]]:
        """Call each once, and once more if that was short; as `_time` returns it."""
        samples: Samples = {}
        failed: dict[str, str] = {}
        for v in variants:
            with _or_note(v.name, failed):
                samples[v.name] = [self._once(v)]
        for v in variants:
            if v.name not in failed and samples[v.name][0] <= self._effort.seconds:
                samples[v.name].append(self._once(v))
        return samples, failed

    def _warm_up(self, variant: Variant) -> tuple[int, list[float], float]:
        """Call once or twice; say how often to repeat it, what counts already, and what it took."""
        seconds = self._effort.seconds
        first = self._once(variant)
        if first > self._effort.longest_call:
            return 0, [first], first
        typical = min(first, self._once(variant)) if first <= seconds else first
        return min(max(2, int(seconds / typical)), self._effort.max_repeats), [], typical

    def _once(self, variant: Variant) -> float:
        given = variant.prepare()
        self._synchronize()
        start = time.perf_counter()
        variant.run(given)
        self._synchronize()
        return time.perf_counter() - start

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _timed(place: dict, seconds: list[float], *, tokens: int, library: float | None) -> Record:
    median = float(np.median(seconds))
    return Record(
        **place,
        median_seconds=median,
        p95_seconds=float(np.percentile(seconds, 95)),
        p99_seconds=float(np.percentile(seconds, 99)),
        tokens_per_second=tokens / median,
        ratio_to_library=library / median if library else None,
        repeats=len(seconds),
        samples=tuple(seconds),
    )
