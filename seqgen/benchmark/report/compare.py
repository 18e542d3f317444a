"""What changed between two runs, and whether it is more than noise.

A change is given as a gain: above 1 is better. Its 95% interval comes from drawing the samples of
both runs again with replacement (Efron 1979, the percentile bootstrap of medians). Samples of one
run share what the machine was like during it, which no resampling sees: so a gain counts only
where the whole interval lies further from 1 than a floor.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqgen.benchmark.records import Record, read_records
from seqgen.benchmark.report.page import read_folder
from seqgen.benchmark.report.table import TableRow, digits, plain
from seqgen.benchmark.timing import LIBRARY

FASTER, SLOWER, NOISE, MACHINE, UNKNOWN = (
    "better", "worse", "within noise", "the machine", "not comparable",
)  # fmt: skip
N_RESAMPLES = 1000
# From one run to the next, medians move by more than their samples say: other pages of memory,
# another clock, a neighbour. Ratios of variants that took turns feel less of it, but not nothing.
FLOOR = 0.05
COUNTED_FLOOR = 0.01  # of bytes and bits, which do not depend on how busy a machine is
# A machine that another one shares changes what is scarce, so that ratios of code bound by memory
# to code bound by arithmetic move too. Two runs on one, with 2.1 times as long a step of the
# library in the first, had ratios up to 19% apart in places: a quarter of the drift, in logarithms.
SHARE_OF_DRIFT = 0.25
# The range of n samples holds the true median with probability 1 - 2 / 2^n: 0.97 from 6 on.
LEAST_SAMPLES = 6
ROWS_SHOWN = 60
HEADINGS = ["measure", "variant", "batch", "position", "time", "ratio", "95%", "verdict"]
MACHINE_FACTS = ("processor", "cores", "instructions")  # the memory reported varies a little


@dataclass(frozen=True, kw_only=True)
class Change:
    """One place in both runs.

    Attributes:
        before, after: its records.
        gain: of the number itself (times, rates: above 1 is better); None where the two runs
            cannot be compared absolutely.
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
        """The measurement that is compared."""
        return self.gain if self.ratio_gain is None else self.ratio_gain

    @property
    def row(self) -> TableRow:
        """The row of a table."""
        r, (low, high) = self.before, self.interval or (None, None)
        gains = ["-" if x is None else digits(x) for x in (self.gain, self.ratio_gain)]
        interval = "-" if low is None else f"{low:.2f} {high:.2f}"
        place = [r.measure, r.variant, str(r.batch), str(r.position)]
        return TableRow([*place, *gains, interval, self.verdict])


@dataclass(frozen=True)
class Bounds:
    """The least gain or loss that counts as a share (0.05 is 5%): of ratios, and of times alone.

    Attributes:
        drift: by which factor the library's times moved between the runs, up or down, in the median
            over places; 1 is not at all. Its code did not change, so this is the machine.
    """

    ratio: float
    time: float
    drift: float

    @classmethod
    def of(cls, before: Sequence[Record], after: Sequence[Record], *, floor: float) -> "Bounds":
        """Widen a floor by how much the machine changed between two runs of it."""
        moved = [
            abs(math.log(factor))
            for a, b in pairs(before, after)
            if a.variant == LIBRARY
            and (factor := _quotient(a.median_seconds, b.median_seconds)) is not None
            and same_scene(a, b)
        ]
        drift = math.exp(float(np.median(moved))) if moved else 1.0
        return cls(max(floor, drift**SHARE_OF_DRIFT - 1), max(floor, drift - 1), drift)


class Resampler:
    """Medians of records drawn again; the same ones each time for one record."""

    def __init__(self, records: Sequence[Record], *, seed: int):
        self._random = np.random.default_rng(seed)
        self._medians: dict[int, np.ndarray] = {}
        self._library = {_cell(r): r for r in records if r.variant == LIBRARY}

    def medians(self, record: Record | None) -> np.ndarray | None:
        """Return medians [N_RESAMPLES], or None of too few samples."""
        samples = np.asarray(() if record is None else record.samples)
        if len(samples) < LEAST_SAMPLES:
            return None
        if id(record) not in self._medians:
            drawn = self._random.integers(len(samples), size=(N_RESAMPLES, len(samples)))
            self._medians[id(record)] = np.median(samples[drawn], axis=1)
        return self._medians[id(record)]

    def ratios(self, record: Record) -> np.ndarray | None:
        """Return ratios of the library's medians to this record's, or None."""
        ours, theirs = self.medians(record), self.medians(self._library.get(_cell(record)))
        return None if ours is None or theirs is None else theirs / ours


def compare_files(before: Path, after: Path) -> Iterator[str]:
    """Compare two files of records, or folders of a page.

    Raises:
        UserError: no such file, or no records in it.
    """
    read = [read_folder(path) if path.is_dir() else read_records(path) for path in (before, after)]
    yield from comparison(*read)


def comparison(before: Sequence[Record], after: Sequence[Record]) -> Iterator[str]:
    """Yield what differs in the settings, what moved, and what is in one of the two only."""
    differing = dict.fromkeys(line for pair in pairs(before, after) for line in differences(*pair))
    yield from (words + ": times are not compared." * strict for strict, words in differing)
    bounds = Bounds.of(before, after, floor=FLOOR)
    found = changes(before, after, bounds=bounds)
    if not found:
        yield "No place was measured in both."
    else:
        yield plain(HEADINGS, [change.row for change in found[:ROWS_SHOWN]], n_left=2)
        better, worse = (sum(c.verdict == v for c in found) for v in (FASTER, SLOWER))
        yield (
            f"{better} of {len(found)} rows are better and {worse} are worse by more than noise: "
            f"the whole 95% interval is beyond {bounds.ratio:.0%} for ratios to the library, "
            f"{bounds.time:.0%} for times alone; twice that where there are fewer than "
            f"{LEAST_SAMPLES} samples. Above 1 is better. The library's own times moved by a "
            f"factor of {bounds.drift:.2f}."
        )
    places = [{r.place for r in records if r.has_value} for records in (before, after)]
    for words, only in (("before", places[0] - places[1]), ("after", places[1] - places[0])):
        if only:
            names = sorted({f"{measure} {variant}" for measure, variant, *_ in only})
            yield f"Only {words}: {', '.join(names)}."


def changes(before: Sequence[Record], after: Sequence[Record], *, bounds: Bounds) -> list[Change]:
    """Compare what is in both runs, what moved first, and of that the furthest first."""
    # Of two seeds, or both would draw the same repeats and hide half of the spread.
    samplers = Resampler(before, seed=0), Resampler(after, seed=1)
    found = [_change(*pair, samplers, bounds) for pair in pairs(before, after)]
    order = (NOISE, MACHINE, UNKNOWN)
    return sorted(
        found,
        key=lambda c: (
            1 + order.index(c.verdict) if c.verdict in order else 0,
            -abs(math.log(c.judged or 1)),
        ),
    )


def pairs(before: Sequence[Record], after: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Find the same places in both; of several with other settings the one with the same."""
    candidates: dict[tuple, list[Record]] = {}
    for record in after:
        if record.has_value:
            candidates.setdefault(record.place, []).append(record)
    for record in before:
        if record.has_value and record.place in candidates:
            found = candidates[record.place]
            yield record, next((r for r in found if r.scene == record.scene), found[-1])


def same_scene(before: Record, after: Record) -> bool:
    """Whether times may be compared: device, machine, threads and sizes are known and the same."""
    return not any(strict for strict, _ in differences(before, after))


def differences(before: Record, after: Record) -> Iterator[tuple[bool, str]]:
    """Yield what differs, in words, and whether times cannot be compared for it."""
    a, b = before.setting, after.setting
    if not (a.hardware and b.hardware):
        yield True, "The machine of a run was not recorded"
    else:
        for key in MACHINE_FACTS:
            yield from _differing(key, a.hardware.get(key), b.hardware.get(key), strict=True)
    yield from _differing("device", a.device, b.device, strict=True)
    yield from _differing("threads", before.threads, after.threads, strict=True)
    for kind, x, y in (("model", a.sizes, b.sizes), ("version", a.versions, b.versions)):
        for key in sorted({*x, *y}):
            strict = kind == "model" and key != "weights"
            yield from _differing(f"{kind} ({key})", x.get(key), y.get(key), strict=strict)
    yield from _differing("command", a.command, b.command, strict=False)


def _differing(what: str, before: object, after: object, *, strict: bool) -> Iterator:
    if before != after:
        yield strict, f"Other {what}: {before or 'none'}, then {after or 'none'}"


def _change(
    before: Record, after: Record, samplers: tuple[Resampler, Resampler], bounds: Bounds
) -> Change:
    gain, interval, ratio_gain = _gain(before, after), None, None
    (first, second), floor = samplers, bounds.ratio
    if before.variant != LIBRARY:
        ratio_gain = _quotient(after.ratio_to_library, before.ratio_to_library)
    if ratio_gain is not None:
        interval = _interval(second.ratios(after), first.ratios(before))
    elif gain is not None and before.median_seconds is not None:
        interval, floor = _interval(first.medians(before), second.medians(after)), bounds.time
    if before.median_seconds is None:  # bytes and bits are counted, not timed
        floor = COUNTED_FLOOR
    elif interval is None:
        floor = 2 * floor
    judged = gain if ratio_gain is None else ratio_gain
    verdict = judge(judged, interval, floor=floor)
    if before.variant == LIBRARY and verdict != UNKNOWN:
        verdict = MACHINE
    return Change(before=before, after=after, gain=gain, ratio_gain=ratio_gain,
                  interval=interval, verdict=verdict)  # fmt: skip


def judge(gain: float | None, interval: tuple[float, float] | None, *, floor: float) -> str:
    """Return whether all of the interval, or without one the gain, lies beyond the floor."""
    if gain is None:
        return UNKNOWN
    low, high = interval or (gain, gain)
    if low > 1 + floor:
        return FASTER
    return SLOWER if high < 1 / (1 + floor) else NOISE


def _gain(before: Record, after: Record) -> float | None:
    """Compare the numbers themselves; None where times are of other machines or models."""
    for gain in (
        _quotient(after.rate, before.rate),
        _quotient(before.median_seconds, after.median_seconds),
    ):
        if gain is not None:
            return gain if same_scene(before, after) else None
    for key in ("bytes", "bits_per_token"):
        gain = _quotient(getattr(before, key), getattr(after, key))
        if gain is not None and dict(before.setting.sizes) == dict(after.setting.sizes):
            return gain
    return None


def _interval(above: np.ndarray | None, below: np.ndarray | None) -> tuple[float, float] | None:
    if above is None or below is None:
        return None
    low, high = np.percentile(above / below, (2.5, 97.5))
    return float(low), float(high)


def _quotient(above: float | None, below: float | None) -> float | None:
    """Divide two numbers; None unless both are positive and finite."""
    if above is None or below is None:
        return None
    return above / below if 0 < above < math.inf and 0 < below < math.inf else None


def _cell(record: Record) -> tuple:
    return record.measure, record.batch, record.position, record.scene
