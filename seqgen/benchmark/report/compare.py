"""What changed between two runs, whether it is more than noise, and the guard of `make bench`.

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

from seqgen.benchmark.records import LIBRARY, Record, read_records
from seqgen.benchmark.report.crossover import is_peer
from seqgen.benchmark.report.page import read_folder
from seqgen.benchmark.report.table import TableRow, digits, plain
from seqgen.files import counted

FASTER, SLOWER, NOISE, MACHINE, UNKNOWN = (
    "better", "worse", "within noise", "the machine", "not comparable",
)  # fmt: skip
ORDER = {FASTER: 0, SLOWER: 0, NOISE: 1, MACHINE: 2, UNKNOWN: 3}  # in a table
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
HARMLESS = ("model (weights)", "version", "command")  # differences that times do not depend on
MACHINE_FACTS = ("processor", "cores", "instructions")  # the memory reported varies a little
COMMITTED = "quick.json"
# A quick run has a third of a second for a variant in one place. Its interval is wide by itself;
# the floor is for what it cannot see: of 26 ratios in two quick runs on a machine that others used
# too, six moved by 11 to 19%. A kernel lost, which is what a guard is for, costs much more.
GUARD_FLOOR = 0.15
# A busy moment may hit the library in one place and make all the rest look slow or fast there. So a
# variant has to be worse in at least so many places of a measure, and in more than half of them.
LEAST_PLACES = 2

Interval = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """One place in both runs. Above 1 is better."""

    before: Record
    after: Record
    gain: float | None  # of the number itself; None where the runs cannot be compared absolutely
    ratio_gain: float | None  # of the ratio to the library, which compares runs on any machine
    interval: Interval | None  # 95% of the ratio's gain if there is one, else of the gain
    verdict: str  # by the same

    @property
    def order(self) -> tuple[int, float]:
        """What moved comes first, and of that the furthest."""
        judged = self.gain if self.ratio_gain is None else self.ratio_gain
        return ORDER[self.verdict], -abs(math.log(judged or 1))


@dataclass(frozen=True)
class Bounds:
    """The least gain or loss that counts as a share (0.05 is 5%): of ratios, and of times alone."""

    ratio: float
    time: float
    # By which factor the library's times moved between the runs, up or down, in the median over
    # places; 1 is not at all. Its code did not change, so this is the machine.
    drift: float


def compare_files(before: Path, after: Path) -> Iterator[str]:
    """Compare two files of records, or folders of a page; UserError where there are none."""
    read = [read_folder(path) if path.is_dir() else read_records(path) for path in (before, after)]
    yield from comparison(*read)


def comparison(before: Sequence[Record], after: Sequence[Record]) -> Iterator[str]:
    """Yield what differs in the settings, what moved, and what is in one of the two only."""
    differing = dict.fromkeys(line for pair in pairs(before, after) for line in differences(*pair))
    yield from (words + ": times are not compared." * strict for strict, words in differing)
    found, bounds = changes(before, after, floor=FLOOR)
    if found:
        yield _table(found[:ROWS_SHOWN])
        better, worse = (sum(c.verdict == v for c in found) for v in (FASTER, SLOWER))
        yield (
            f"{better} of {counted(len(found), 'row')} are better and {worse} are worse by more "
            f"than noise: the whole 95% interval is beyond {bounds.ratio:.0%} for ratios to the "
            f"library, {bounds.time:.0%} for times alone; twice that where there are fewer than "
            f"{LEAST_SAMPLES} samples. Above 1 is better. The library's own times moved by a "
            f"factor of {bounds.drift:.2f}."
        )
    else:
        yield "No place was measured in both."
    places = [{r.key for r in records if r.has_value} for records in (before, after)]
    for words, only in (("before", places[0] - places[1]), ("after", places[1] - places[0])):
        if only:
            names = sorted({f"{measure} {variant}" for measure, variant, *_ in only})
            yield f"Only {words}: {', '.join(names)}."


def changes(
    before: Sequence[Record], after: Sequence[Record], *, floor: float
) -> tuple[list[Change], Bounds]:
    """Compare what is in both runs, what moved first, and of that the furthest first.

    The floor is widened to the bounds by how much the machine changed between the runs.
    """
    gains = [_gain(a, b) for a, b in pairs(before, after) if a.variant == LIBRARY]
    moved = [abs(math.log(gain)) for gain in gains if gain is not None]
    drift = math.exp(float(np.median(moved))) if moved else 1.0
    bounds = Bounds(max(floor, drift**SHARE_OF_DRIFT - 1), max(floor, drift - 1), drift)
    random = np.random.default_rng(0)
    libraries = [{_cell(r): r for r in run if r.variant == LIBRARY} for run in (before, after)]
    found = []
    for old, new in pairs(before, after):
        gain, ratio_gain, interval = _gain(old, new), None, None
        if old.variant != LIBRARY:
            ratio_gain = _quotient(new.ratio_to_library, old.ratio_to_library)
        if old.median_seconds is None:  # bytes and bits are counted, not timed
            bound = COUNTED_FLOOR
        elif ratio_gain is not None:
            first, second = libraries[0].get(_cell(old)), libraries[1].get(_cell(new))
            interval = _interval([old, second], [new, first], random)
            bound = bounds.ratio if interval else 2 * bounds.ratio
        else:
            interval = _interval([old], [new], random) if gain is not None else None
            bound = bounds.time if interval else 2 * bounds.time
        verdict = judge(gain if ratio_gain is None else ratio_gain, interval, bound)
        if old.variant == LIBRARY and verdict != UNKNOWN:
            verdict = MACHINE
        found.append(Change(old, new, gain, ratio_gain, interval, verdict))
    return sorted(found, key=lambda change: change.order), bounds


def pairs(before: Sequence[Record], after: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Find the same places in both; of several with other settings the one with the same."""
    candidates: dict[tuple, list[Record]] = {}
    for record in after:
        if record.has_value:
            candidates.setdefault(record.key, []).append(record)
    for record in before:
        if record.has_value and record.key in candidates:
            found = candidates[record.key]
            yield record, next((r for r in found if r.scene == record.scene), found[-1])


def same_scene(before: Record, after: Record) -> bool:
    """Whether times may be compared: device, machine, threads and sizes are known and the same."""
    return not any(strict for strict, _ in differences(before, after))


def differences(before: Record, after: Record) -> Iterator[tuple[bool, str]]:
    """Yield whether times cannot be compared for a difference, and the difference in words."""
    a, b = before.setting, after.setting
    facts = [(key, a.hardware.get(key), b.hardware.get(key)) for key in MACHINE_FACTS]
    if not (a.hardware and b.hardware):
        yield True, "The machine of a run was not recorded"
        facts = []
    facts += [("device", a.device, b.device), ("threads", before.threads, after.threads)]
    for kind, x, y in (("model", a.sizes, b.sizes), ("version", a.versions, b.versions)):
        facts += [(f"{kind} ({key})", x.get(key), y.get(key)) for key in sorted({*x, *y})]
    for what, old, new in (*facts, ("command", a.command, b.command)):
        if old != new:
            strict = not what.startswith(HARMLESS)
            yield strict, f"Other {what}: {old or 'none'}, then {new or 'none'}"


def judge(gain: float | None, interval: Interval | None, bound: float) -> str:
    """Return whether all of the interval, or without one the gain, lies beyond the bound."""
    if gain is None:
        return UNKNOWN
    low, high = interval or (gain, gain)
    if low > 1 + bound:
        return FASTER
    return SLOWER if high < 1 / (1 + bound) else NOISE


def _table(found: Sequence[Change]) -> str:
    rows = []
    for c in found:
        r, interval = c.before, " ".join(f"{end:.2f}" for end in c.interval or ()) or "-"
        gains = ["-" if gain is None else digits(gain) for gain in (c.gain, c.ratio_gain)]
        place = r.measure, r.variant, str(r.batch), str(r.position)
        rows.append(TableRow([*place, *gains, interval, c.verdict]))
    return plain(HEADINGS, rows, n_left=2)


def _gain(before: Record, after: Record) -> float | None:
    """Compare the numbers themselves; None where times are of other machines or models."""
    times = before.median_seconds, after.median_seconds
    for gain in (_quotient(after.rate, before.rate), _quotient(*times)):
        if gain is not None:
            return gain if same_scene(before, after) else None
    for key in ("bytes", "bits_per_token"):
        gain = _quotient(getattr(before, key), getattr(after, key))
        if gain is not None and dict(before.setting.sizes) == dict(after.setting.sizes):
            return gain
    return None


def _interval(
    above: Sequence[Record | None], below: Sequence[Record | None], random: np.random.Generator
) -> Interval | None:
    """Return 95% of a product of medians divided by another; None where samples are too few.

    Those of each record are drawn by themselves: equal draws would hide half of the spread.
    """
    quotients = np.ones(N_RESAMPLES)
    for records, power in ((above, 1), (below, -1)):
        for record in records:
            samples = np.asarray(() if record is None else record.samples)
            if len(samples) < LEAST_SAMPLES:
                return None
            drawn = random.choice(samples, size=(N_RESAMPLES, len(samples)))
            quotients *= np.median(drawn, axis=1) ** power
    low, high = np.percentile(quotients, (2.5, 97.5))
    return float(low), float(high)


def _quotient(above: float | None, below: float | None) -> float | None:
    """Divide two numbers; None unless both are positive and finite."""
    if above is None or below is None:
        return None
    return above / below if 0 < above < math.inf and 0 < below < math.inf else None


def _cell(record: Record) -> tuple:
    return record.measure, record.batch, record.position, record.scene


def guard(
    records: Sequence[Record], path: Path | None, *, name: str = ""
) -> tuple[list[str], list[str]]:
    """Compare a run with a committed one of the same machine, threads and model.

    Args:
        records, path: the run, and the committed one; None: there is none.
        name: that of the path for a reader.

    Returns:
        What moved, or why nothing can be said, in words and a table; and what of ours became
        worse, as "decode native": a failure.
    """
    if path is None:
        line = (
            "Guard: there is no committed record of this processor, its cores, these threads and "
            "this model, so nothing was compared. To make one: `python cli.py benchmark --quick "
            f"--json docs/results/NAME/{COMMITTED}`."
        )
        return [line], []
    committed = read_records(path)
    found, bounds = changes(committed, records, floor=GUARD_FLOOR)
    compared = [change for change in found if change.ratio_gain is not None]
    moved = [c for c in compared if c.verdict in (FASTER, SLOWER)]
    lines = [_table(moved)] if moved else []
    lines.append(
        f"Guard: {counted(len(compared), 'ratio')} to the library compared with {name}, of which "
        f"{len(moved)} moved by more than noise (95% interval beyond {bounds.ratio:.0%}; "
        f"{2 * bounds.ratio:.0%} with too few calls for one)."
    )
    if not fits(committed, records):
        lines.append("That record is of another machine, model or number of threads: no failure.")
        return lines, []
    if worse := _worse(compared):
        lines.append(f"Guard: worse at most of their places: {', '.join(worse)}.")
    return lines, worse


def _worse(compared: Sequence[Change]) -> list[str]:
    verdicts: dict[str, list[bool]] = {}
    for change in compared:
        r = change.before
        if not is_peer(r.variant) and LIBRARY not in r.variant:
            verdicts.setdefault(f"{r.measure} {r.variant}", []).append(change.verdict == SLOWER)
    return [name for name, x in verdicts.items() if sum(x) >= max(LEAST_PLACES, len(x) // 2 + 1)]


def find_committed(results: Path, records: Sequence[Record]) -> Path | None:
    """Find the record below `results` of the same machine, threads and model."""
    paths = sorted(results.glob(f"*/{COMMITTED}"))
    return next((path for path in paths if fits(read_records(path), records)), None)


def fits(committed: Sequence[Record], records: Sequence[Record]) -> bool:
    """Whether two runs are of the same machine, threads and model, known to be."""
    first, second = (
        next((r for r in run if r.setting.sizes), None) for run in (committed, records)
    )
    return first is not None and second is not None and same_scene(first, second)
