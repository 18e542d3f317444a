"""What changed between two runs, and whether it is more than noise.

A change is given as a gain: above 1 is better. Its 95% interval comes from drawing the samples of
both runs again with replacement (Efron 1979, the percentile bootstrap of medians). Samples of one
run share what the machine was like during it, which no resampling sees: so a gain counts only
where the whole interval lies further from 1 than a floor.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.benchmark.records import Record
from seqgen.benchmark.report.differences import same_model, same_scene
from seqgen.benchmark.report.kinds import LIBRARY, has_value, is_published, kind, scene

FASTER, SLOWER, NOISE, MACHINE, UNKNOWN = (
    "better", "worse", "within noise", "the machine", "not comparable",
)  # fmt: skip
N_RESAMPLES = 1000
COUNTED_FLOOR = 0.01  # of bytes and bits, which do not depend on how busy a machine is
QUIET = (NOISE, MACHINE, UNKNOWN)
# A machine that another one shares changes what is scarce, so that ratios of code bound by memory
# to code bound by arithmetic move too. Two runs on one, with 2.1 times as long a step of the
# library in the first, had ratios up to 19% apart in places: a quarter of the drift, in logarithms.
SHARE_OF_DRIFT = 0.25
# The range of n samples holds the true median with probability 1 - 2 / 2^n: 0.97 from 6 on.
LEAST_SAMPLES = 6


@dataclass(frozen=True, kw_only=True)
class Change:
    """One place in both runs.

    Attributes:
        before, after: its records.
        gain: of the number itself (times, rates: before / after so that above 1 is better); None
            where the two runs cannot be compared absolutely.
        ratio_gain: of the ratio to the library, which compares runs on any machine; None where
            either run has none.
        interval: 95%, of the ratio's gain if there is one, else of the gain; None: too few samples.
        verdict: by the same.
    """

    before: Record
    after: Record
    gain: float | None
    ratio_gain: float | None
    interval: tuple[float, float] | None
    verdict: str

    @property
    def judged(self) -> float | None:
        """What the verdict is about."""
        return self.gain if self.ratio_gain is None else self.ratio_gain


class Resampler:
    """Medians of records drawn again; the same ones each time a record is asked for."""

    def __init__(self, records: Sequence[Record], *, seed: int):
        self._random = np.random.default_rng(seed)
        self._medians: dict[int, np.ndarray] = {}
        self._library = {_cell(r): r for r in records if r.variant == "library"}

    def medians(self, record: Record) -> np.ndarray | None:
        """Return medians [N_RESAMPLES], or None of too few samples."""
        samples = np.asarray(record.samples)
        if len(samples) < LEAST_SAMPLES:
            return None
        if id(record) not in self._medians:
            drawn = self._random.integers(len(samples), size=(N_RESAMPLES, len(samples)))
            self._medians[id(record)] = np.median(samples[drawn], axis=1)
        return self._medians[id(record)]

    def ratios(self, record: Record) -> np.ndarray | None:
        """Return ratios of the library's medians to this record's, or None."""
        library = self._library.get(_cell(record))
        ours, theirs = self.medians(record), None if library is None else self.medians(library)
        return None if ours is None or theirs is None else theirs / ours


@dataclass(frozen=True)
class Bounds:
    """The least gain or loss that counts, as a share (0.05 is 5%): of ratios, and of times alone.

    Attributes:
        drift: by which factor the library's times moved between the runs, up or down, in the median
            over places; 1 is not at all. Nobody touched its code, so this is the machine.
    """

    ratio: float
    time: float
    drift: float

    @classmethod
    def of(cls, before: Sequence[Record], after: Sequence[Record], *, floor: float) -> "Bounds":
        """Widen a floor by how much the machine changed between two runs of it."""
        logarithms = [abs(math.log(value)) for value in library_drift(before, after)]
        drift = math.exp(float(np.median(logarithms))) if logarithms else 1.0
        return cls(max(floor, drift**SHARE_OF_DRIFT - 1), max(floor, drift - 1), drift)


def changes(before: Sequence[Record], after: Sequence[Record], *, bounds: Bounds) -> list[Change]:
    """Compare what is in both runs, what moved first, and of that the furthest first."""
    # Of two seeds, or both would draw the same repeats and hide half of the spread.
    samplers = Resampler(before, seed=0), Resampler(after, seed=1)
    found = [
        _change(*pair, samplers, bounds)
        for pair in pairs(before, after)
        if all(has_value(record) for record in pair)
    ]
    return sorted(
        found,
        key=lambda c: (
            0 if c.verdict in (SLOWER, FASTER) else 1 + QUIET.index(c.verdict),
            -abs(math.log(c.judged or 1)),
        ),
    )


def pairs(before: Sequence[Record], after: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Find the same places in both; of several with other settings the one with the same."""
    candidates: dict[tuple, list[Record]] = {}
    for record in after:
        candidates.setdefault(record.place, []).append(record)
    for record in before:
        if not is_published(record) and record.place in candidates:
            found = candidates[record.place]
            yield record, next((r for r in found if scene(r) == scene(record)), found[-1])


def library_drift(before: Sequence[Record], after: Sequence[Record]) -> list[float]:
    """By how much the library's own times changed, above 1: faster; nobody touched its code."""
    both = [
        (a.median_seconds, b.median_seconds)
        for a, b in pairs(before, after)
        if kind(a) == LIBRARY and same_scene(a, b)
    ]
    return [a / b for a, b in both if _positive(a, b)]


def _change(
    before: Record, after: Record, samplers: tuple[Resampler, Resampler], bounds: Bounds
) -> Change:
    gain, interval, ratio_gain = _gain(before, after), None, None
    (first, second), floor = samplers, bounds.ratio
    if before.variant != "library" and _positive(before.ratio_to_library, after.ratio_to_library):
        ratio_gain = after.ratio_to_library / before.ratio_to_library
        interval = _interval(second.ratios(after), first.ratios(before))
    elif gain is not None and before.median_seconds is not None:
        interval, floor = _interval(first.medians(before), second.medians(after)), bounds.time
    if before.median_seconds is None:  # bytes and bits are counted, not timed
        floor = COUNTED_FLOOR
    elif interval is None:
        floor = 2 * floor
    judged = gain if ratio_gain is None else ratio_gain
    verdict = judge(judged, interval, floor=floor)
    if before.variant == "library" and verdict != UNKNOWN:
        verdict = MACHINE
    return Change(before=before, after=after, gain=gain, ratio_gain=ratio_gain,
                  interval=interval, verdict=verdict)  # fmt: skip


def judge(gain: float | None, interval: tuple[float, float] | None, *, floor: float) -> str:
    """Say whether all of the interval, or without one the gain, lies beyond the floor."""
    if gain is None:
        return UNKNOWN
    low, high = interval or (gain, gain)
    if low > 1 + floor:
        return FASTER
    return SLOWER if high < 1 / (1 + floor) else NOISE


def _gain(before: Record, after: Record) -> float | None:
    """Compare the numbers themselves; None where times are of other machines or models."""
    if _positive(before.rate, after.rate):
        return after.rate / before.rate if same_scene(before, after) else None
    if _positive(before.median_seconds, after.median_seconds):
        same = same_scene(before, after)
        return before.median_seconds / after.median_seconds if same else None
    for key in ("bytes", "bits_per_token"):
        values = getattr(before, key), getattr(after, key)
        if _positive(*values) and same_model(before, after):
            return values[0] / values[1]
    return None


def _interval(above: np.ndarray | None, below: np.ndarray | None) -> tuple[float, float] | None:
    if above is None or below is None:
        return None
    low, high = np.percentile(above / below, (2.5, 97.5))
    return float(low), float(high)


def _positive(*values: float | None) -> bool:
    """Whether all are numbers that can be divided: NaN is none."""
    return all(value is not None and value > 0 and math.isfinite(value) for value in values)


def _cell(record: Record) -> tuple:
    return record.measure, record.batch, record.position, scene(record)
