"""The benchmark as a whole: where to measure, for how long, and in which order."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from seqgen.benchmark.measures import (
    attention,
    decode,
    endless,
    floor,
    job,
    likelihood,
    memory,
    prefill,
    training,
)
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.records import UNKNOWN, BenchmarkSetting, Place, Record
from seqgen.benchmark.timing import Effort, Timer

MEASURES: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (floor, decode, prefill, attention, training, memory, job, likelihood, endless)
}
BATCHED = ("decode", "prefill", "attention", "training", "job")  # the others measure one row
NO_POSITIONS = ("floor", "attention", "endless")  # where none are embedded, or it says so itself
MOST_CHECKED = 64  # rows; more of them are computed in the same way
CHECKED_LENGTH = 48  # where outputs are compared: long enough to matter, and quick

Tell = Callable[[str, int, int], None]
Keep = Callable[[Sequence[Record]], None]


@dataclass(frozen=True)
class BenchmarkPlan:
    """Positions and rows at a time, both by measure, and the effort for each variant.

    Measures whose rows are not named take 1 at a time.
    """

    positions: dict[str, tuple[int, ...]]
    batches: dict[str, tuple[int, ...]]
    effort: Effort


# By measure: positions of the default plan, of the quick one and of the full one.
POSITIONS = {
    "floor": ((1,), (1,), (1,)),
    "decode": ((64, 256, 1024, 4096), (128, 512, 2048), (64, 256, 1024, 4096, 16384, 65536)),
    "prefill": ((64, 256, 1024), (16, 64), (16, 64, 256, 1024, 4096, 16384)),
    "attention": ((256, 1024, 2048, 4096), (512, 2048), (256, 1024, 4096, 16384)),
    "training": ((256, 1024), (64, 128), (256, 1024, 4096, 16384)),
    "memory": ((256, 1024, 4096, 16384), (128, 1024, 4096), (256, 1024, 4096, 16384, 65536)),
    "job": ((1024,), (64, 128), (1024, 4096)),
    "likelihood": ((256,), (128,), (256, 1024)),
    "endless": ((100_000,), (1500,), (100_000,)),
}
_DEFAULT, _QUICK, _FULL = (
    dict(zip(POSITIONS, column, strict=True)) for column in zip(*POSITIONS.values(), strict=True)
)
DEFAULT = BenchmarkPlan(
    _DEFAULT,
    dict.fromkeys(BATCHED, (1, 8)) | {"decode": (1, 8, 64)},
    Effort(seconds=3.0, max_repeats=200, longest_call=10.0, measure_seconds=600.0),
)
QUICK = BenchmarkPlan(
    _QUICK,
    {},
    Effort(0.35, 20, longest_call=2.5, longest_piece=10.0, measure_seconds=20.0),
)
FULL = BenchmarkPlan(
    _FULL,
    dict.fromkeys(BATCHED, (1, 8)) | {"decode": (1, 8, 64, 256, 1024), "job": (1, 16)},
    Effort(seconds=1.0, max_repeats=100, longest_call=10.0, longest_piece=300.0),
)


def make_plan(
    *,
    quick: bool = False,
    full: bool = False,
    batches: Sequence[int] = (),
    positions: Sequence[int] = (),
) -> BenchmarkPlan:
    """Return a plan, with other batch sizes or positions if some are given."""
    plan = QUICK if quick else FULL if full else DEFAULT
    if batches:
        rows = tuple(sorted(set(batches)))
        plan = replace(plan, batches=dict.fromkeys(BATCHED, rows))
    if positions:
        places = tuple(sorted(set(positions)))
        chosen = dict.fromkeys(plan.positions, places) | {"floor": plan.positions["floor"]}
        plan = replace(plan, positions=chosen)
    return plan


def run_benchmark(
    model: BenchmarkModel,
    plan: BenchmarkPlan,
    *,
    only: Sequence[str] = (),
    tell: Tell = lambda measure, done, total: None,
    setting: BenchmarkSetting = UNKNOWN,
    keep: Keep = lambda records: None,
) -> list[Record]:
    """Check and measure, one measure after the other: all, or `only` some by name.

    `tell` gets a measure's name and how many of its places are done, of how many; `keep` the
    records of each place as soon as they are there.

    Raises:
        OutputsDiffer: two variants that should compute the same do not.
    """
    timer = Timer(plan.effort, device=model.device, setting=setting)
    records: list[Record] = []
    reads: list[Record] = []  # the machine's floor, which is always measured, if only briefly
    for name in [name for name in MEASURES if not only or name in only]:
        batches = plan.batches.get(name, (1,))
        places = [Place(name, batch, at) for batch in batches for at in plan.positions[name]]
        tell(name, 0, len(places))
        for batch in sorted({min(b, MOST_CHECKED) for b in batches}):
            _check(model, name, batch=batch, positions=plan.positions[name])
        for done, place in enumerate(places, start=1):
            found = _measure(model, timer, place)
            if any(record.measure == "decode" and record.repeats for record in found):
                reads = reads or floor.reads_of(records, model)
                found = floor.with_shares(found, model, floor=reads)
            records += found
            keep(found)
            tell(name, done, len(places))
    return records


def _check(model: BenchmarkModel, name: str, *, batch: int, positions: Sequence[int]) -> None:
    if check := getattr(MEASURES[name], "check", None):
        length = min(CHECKED_LENGTH, *positions, (model.limit or sys.maxsize) - 1)
        check(model, batch=batch, position=length)


def _measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    limit = None if place.measure in NO_POSITIONS else model.limit
    if limit is not None and place.position >= limit:
        note = f"left out: the model has {model.limit} learned positions"
        return [timer.untimed("all variants", place, note=note)]
    return MEASURES[place.measure].measure(model, timer, place)
