"""Timing variants of one thing in one run, round by round, so that a busy moment hits them all."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqgen.benchmark.records import Record
from seqgen.benchmark.setting import NOWHERE, Setting

LIBRARY = "library"  # the variant that the others are compared with


@dataclass(frozen=True)
class Variant:
    """One way of computing something.

    Attributes:
        name: as it stands in the records.
        run: the timed call, given what `prepare` returned; None: it cannot run here.
        prepare: makes the input of one call, outside the timed part.
        note: where `run` is None, the reason.
        dtype: of what is computed with.
    """

    name: str
    run: Callable[[Any], object] | None
    prepare: Callable[[], Any] = lambda: None
    note: str = ""
    dtype: str = "float32"


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: for the repeats of one variant in one place.
        max_repeats: the most repeats, however short a call is.
        longest_call: a call that would take more seconds than this is not made.
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
        self, variants: Sequence[Variant], *, measure: str, batch: int, position: int, tokens: int
    ) -> list[Record]:
        """Time the variants against each other.

        Args:
            variants: those that compute the same, or stand for it.
            measure, batch, position: the place, as in `Record`; go through positions upwards.
            tokens: how many tokens one call handles, summed over rows.

        Returns:
            One record per variant, also for those that could not or should not run.
        """
        late = self._late(measure)
        notes = {
            v.name: v.note or late or self._too_long(measure, v.name, batch, position)
            for v in variants
        }
        samples, failed = self._time([v for v in variants if not notes[v.name]])
        notes |= failed
        medians = {name: float(np.median(seconds)) for name, seconds in samples.items()}
        for name, median in medians.items():
            self._last[measure, name, batch] = (position, median)
        # One call, and not warmed up: a busy moment would make everything else look fast.
        library = medians[LIBRARY] if len(samples.get(LIBRARY, ())) > 1 else None
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

    def _too_long(self, measure: str, variant: str, batch: int, position: int) -> str:
        """Say how long a call would take, growing with the position, if that is too long."""
        if (measure, variant, batch) not in self._last:
            return ""
        last_position, seconds = self._last[measure, variant, batch]
        expected = seconds * position / last_position
        if expected <= self._effort.longest_call:
            return ""
        self._last[measure, variant, batch] = (position, expected)
        return f"skipped: {expected:.0f} s a call or more"

    def _time(self, variants: Sequence[Variant]) -> tuple[dict[str, list[float]], dict[str, str]]:
        """Warm up, then repeat round by round; a slow variant takes part in fewer rounds.

        There are at least two repeats, but a first call longer than allowed stays the only one.

        Returns:
            The seconds of each variant, and notes on those that ran out of memory instead.
        """
        samples: dict[str, list[float]] = {}
        failed: dict[str, str] = {}
        repeats = {}
        for v in variants:
            try:
                repeats[v.name], samples[v.name] = self._warm_up(v)
            except Exception as error:
                failed[v.name] = out_of_memory(error)
        n_rounds = max(repeats.values(), default=0)
        for i in range(n_rounds):
            for v in variants:
                n = repeats.get(v.name, 0)
                if (i + 1) * n // n_rounds > i * n // n_rounds:
                    samples[v.name].append(self._once(v))
        return samples, failed

    def _warm_up(self, variant: Variant) -> tuple[int, list[float]]:
        """Call once or twice; say how often to repeat that, and what counts already."""
        seconds = self._effort.seconds
        first = self._once(variant)
        if first > self._effort.longest_call:
            return 0, [first]
        typical = min(first, self._once(variant)) if first <= seconds else first
        return min(max(2, int(seconds / typical)), self._effort.max_repeats), []

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
