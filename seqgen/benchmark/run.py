"""The benchmark as a whole: which model, which places, in which order."""

import gc
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from seqgen.benchmark.floor import STEPS, with_shares
from seqgen.benchmark.measures import (
    attention,
    decode,
    endless,
    floor,
    job,
    likelihood,
    memory,
    papers,
    prefill,
    step,
    training,
)
from seqgen.benchmark.plans import Plan
from seqgen.benchmark.records import Record
from seqgen.benchmark.setting import NOWHERE, Setting
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock
from seqgen.checkpoint import load_model
from seqgen.config import ModelConfig, load_config
from seqgen.errors import UserError
from seqgen.evaluation.subject import check_beside, open_subject
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary

MEASURES: dict[str, ModuleType] = {
    "floor": floor,
    "decode": decode,
    "step": step,
    "prefill": prefill,
    "attention": attention,
    "training": training,
    "memory": memory,
    "job": job,
    "papers": papers,
    "likelihood": likelihood,
    "endless": endless,
}
NEED_POSITIONS = ("decode", "step", "prefill", "training")  # where tokens are embedded
MOST_CHECKED = 64  # rows; more of them are computed in the same way
CHECKED_LENGTH = 48  # where outputs are compared: long enough to matter, and quick

Tell = Callable[[str, int, int], None]
Keep = Callable[[Sequence[Record]], None]


def load_subject(target: Path, *, device: str = "cpu", beside: Path | None = None) -> Subject:
    """Take the model of a run folder with its weights, or that of a configuration with random ones.

    Args:
        target: the run folder, or the configuration.
        device: where to compute.
        beside: another run, of softmax attention say, whose likelihood is set beside this one's.

    Raises:
        UserError: nothing there, or not readable, or the two runs cannot be compared.
    """
    if beside is not None:
        if target.is_file():
            raise UserError(
                f"--beside sets the likelihood of two trained runs side by side, and {target} is "
                f"a configuration: name a RUN, as in `benchmark runs/mine --beside {beside}`"
            )
        check_beside(open_subject(target), open_subject(beside))
    if target.is_dir():
        model = load_model(target, device=device).model
        _refuse_baseline(model.config, target)
        return Subject(model, weights=f"weights of {target.name}", run=target, beside=beside)
    vocabulary = Vocabulary((Field("token", 512),), bos_id=1, eos_id=2, pad_id=0)
    config = load_config(target).model
    _refuse_baseline(config, target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SequenceModel(config, vocabulary)
    return Subject(model.to(device), weights="random weights")


def _refuse_baseline(config: ModelConfig, target: Path) -> None:
    if config.attention != "causal-linear":
        raise UserError(
            f"{target} has model.attention={config.attention}: give a causal-linear model, which "
            f"is measured against softmax attention of the same sizes"
        )


def run_benchmark(
    subject: Subject,
    plan: Plan,
    *,
    only: Sequence[str] = (),
    tell: Tell = lambda measure, done, total: None,
    setting: Setting = NOWHERE,
    keep: Keep = lambda records: None,
) -> list[Record]:
    """Check and measure, one measure after the other.

    Args:
        subject: the model.
        plan: where and for how long.
        only: names of measures; none: all.
        tell: is called with a measure's name and how many of its places are done, of how many.
        setting: stands beside each number.
        keep: is called with the records of each place as soon as they are there.

    Raises:
        OutputsDiffer: two variants that should compute the same do not.
    """
    clock = Clock(plan.effort, device=subject.device, setting=setting)
    records: list[Record] = []
    reading = cache(lambda: _of_floor(records) or floor.measure_reading(subject))
    for name in [name for name in MEASURES if not only or name in only]:
        batches = plan.batches.get(name, (1,))
        cells = [(batch, position) for batch in batches for position in plan.positions[name]]
        tell(name, 0, len(cells))
        for batch in sorted({min(b, MOST_CHECKED) for b in batches}):
            _check(subject, clock, name, batch=batch, positions=plan.positions[name])
        for done, (batch, position) in enumerate(cells, start=1):
            found = _measure(subject, clock, name, batch=batch, position=position)
            found = _with_shares(found, subject, reading)
            records += found
            keep(found)
            _free(subject)
            tell(name, done, len(cells))
        if found := _afterwards(subject, clock, name):
            records += found
            keep(found)
    return records


def _free(subject: Subject) -> None:
    """Give back the memory of a place: gigabytes may hang on objects that refer to each other."""
    gc.collect()
    if subject.device.type == "cuda":
        torch.cuda.empty_cache()


def _check(
    subject: Subject, clock: Clock, name: str, *, batch: int, positions: Sequence[int]
) -> None:
    check = getattr(MEASURES[name], "check", None)
    if check is not None:
        length = min(CHECKED_LENGTH, *positions)
        if subject.limit is not None:
            length = min(length, subject.limit - 1)
        check(subject, clock, batch=batch, position=length)


def _afterwards(subject: Subject, clock: Clock, name: str) -> list[Record]:
    """What a measure does once, at no place of the plan."""
    afterwards = getattr(MEASURES[name], "afterwards", None)
    return afterwards(subject, clock) if afterwards else []


def _with_shares(
    records: list[Record], subject: Subject, reading: Callable[[], list[Record]]
) -> list[Record]:
    """Set steps beside the machine's floor, which is measured in any case, if only briefly."""
    if not any(record.measure in STEPS and record.repeats for record in records):
        return records
    return with_shares(records, subject, floor=reading())


def _of_floor(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.measure == "floor"]


def _measure(
    subject: Subject, clock: Clock, name: str, *, batch: int, position: int
) -> list[Record]:
    module = MEASURES[name]
    if name in NEED_POSITIONS and subject.limit is not None and position >= subject.limit:
        place = {"measure": name, "batch": batch, "position": position}
        note = f"skipped: the model has {subject.limit} learned positions"
        return [clock.untimed(variant, **place, note=note) for variant in module.VARIANTS]
    return module.measure(subject, clock, batch=batch, position=position)
