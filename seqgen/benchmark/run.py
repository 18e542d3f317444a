"""The benchmark as a whole: which model, which places, in which order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch

from seqgen.benchmark.measures import attention, decode, endless, memory, prefill, training
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock, Effort
from seqgen.checkpoint import load_model
from seqgen.config import ModelConfig, load_config
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary

MEASURES: dict[str, ModuleType] = {
    "decode": decode,
    "prefill": prefill,
    "attention": attention,
    "training": training,
    "memory": memory,
    "endless": endless,
}
BATCHED = ("decode", "prefill", "attention", "training")  # the others are about one stream
NEED_POSITIONS = ("decode", "prefill", "training")  # tokens are embedded there, with their index
CHECKED_LENGTH = 48  # where outputs are compared: long enough to matter, and quick

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """Where to measure and for how long: positions and rows at a time, both by measure.

    Measures whose rows are not named take 1 at a time.
    """

    positions: dict[str, tuple[int, ...]]
    batches: dict[str, tuple[int, ...]]
    effort: Effort


THOROUGH = Plan(
    positions={
        "decode": (64, 256, 1024, 4096),
        "prefill": (128, 512, 2048),
        "attention": (256, 1024, 2048, 4096),
        "training": (256, 1024),
        "memory": (256, 1024, 4096, 16384),
        "endless": (100_000,),
    },
    batches=dict.fromkeys(BATCHED, (1, 8)) | {"decode": (1, 8, 64)},
    effort=Effort(seconds=3.0, max_repeats=200, longest_call=20.0),
)
QUICK = Plan(
    positions={
        "decode": (128, 512, 2048),
        "prefill": (16, 64),
        "attention": (512, 2048),
        "training": (64, 128),
        "memory": (128, 1024, 4096),
        "endless": (1500,),
    },
    batches={},
    effort=Effort(seconds=0.35, max_repeats=20, longest_call=2.5, measure_seconds=8.0),
)


def make_plan(*, quick: bool, batches: Sequence[int] = ()) -> Plan:
    """Return the quick or the thorough plan, with other batch sizes if some are given."""
    plan = QUICK if quick else THOROUGH
    rows = tuple(sorted(set(batches)))
    return replace(plan, batches=dict.fromkeys(BATCHED, rows)) if batches else plan


def load_subject(target: Path, *, device: str = "cpu") -> Subject:
    """Take the model of a run folder with its weights, or that of a configuration with random ones.

    Raises:
        UserError: nothing there, or not readable.
    """
    if target.is_dir():
        model = load_model(target, device=device).model
        _refuse_baseline(model.config, target)
        return Subject(model, weights=f"weights of {target.name}")
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
) -> list[Record]:
    """Check and measure, one measure after the other.

    Args:
        subject: the model.
        plan: where and for how long.
        only: names of measures; none: all.
        tell: is called with a measure's name and how many of its places are done, of how many.

    Raises:
        OutputsDiffer: two variants that should compute the same do not.
    """
    clock = Clock(plan.effort, device=subject.device)
    records: list[Record] = []
    for name in [name for name in MEASURES if not only or name in only]:
        batches = plan.batches.get(name, (1,))
        cells = [(batch, position) for batch in batches for position in plan.positions[name]]
        tell(name, 0, len(cells))
        _check(subject, clock, name, batch=max(batches), positions=plan.positions[name])
        for done, (batch, position) in enumerate(cells, start=1):
            records += _measure(subject, clock, name, batch=batch, position=position)
            tell(name, done, len(cells))
    return records


def _check(
    subject: Subject, clock: Clock, name: str, *, batch: int, positions: Sequence[int]
) -> None:
    check = getattr(MEASURES[name], "check", None)
    if check is not None:
        length = min(CHECKED_LENGTH, *positions)
        if subject.limit is not None:
            length = min(length, subject.limit - 1)
        check(subject, clock, batch=batch, position=length)


def _measure(
    subject: Subject, clock: Clock, name: str, *, batch: int, position: int
) -> list[Record]:
    module = MEASURES[name]
    if name in NEED_POSITIONS and subject.limit is not None and position >= subject.limit:
        place = {"measure": name, "batch": batch, "position": position}
        note = f"skipped: the model has {subject.limit} learned positions"
        return [clock.untimed(variant, **place, note=note) for variant in module.VARIANTS]
    return module.measure(subject, clock, batch=batch, position=position)
