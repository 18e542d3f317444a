"""Where to measure, and for how long: the quick plan, the thorough one, and the full one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqgen.benchmark.papers import JOBS
from seqgen.benchmark.timing import Effort

# The other measures are about one row.
BATCHED = ("decode", "step", "prefill", "attention", "training", "job", "papers")
THEIRS = 0  # rows: as many as a paper's job names for a device
PAPERS = tuple(sorted(job.n_tokens for job in JOBS))
OWN_POSITIONS = ("floor", "papers")  # which are no choice


@dataclass(frozen=True)
class Plan:
    """Positions and rows at a time, both by measure, and the effort for each variant.

    Measures whose rows are not named take 1 at a time.
    """

    positions: dict[str, tuple[int, ...]]
    batches: dict[str, tuple[int, ...]]
    effort: Effort


THOROUGH = Plan(
    positions={
        "floor": (1,),
        "decode": (64, 256, 1024, 4096),
        "step": (64, 1024),
        "prefill": (128, 512, 2048),
        "attention": (256, 1024, 2048, 4096),
        "training": (256, 1024),
        "memory": (256, 1024, 4096, 16384),
        "job": (1024,),
        "papers": PAPERS,
        "likelihood": (256,),
        "endless": (100_000,),
    },
    batches=dict.fromkeys(BATCHED, (1, 8)) | {"decode": (1, 8, 64), "papers": (THEIRS,)},
    effort=Effort(seconds=3.0, max_repeats=200, longest_call=20.0),
)
QUICK = Plan(
    positions={
        "floor": (1,),
        "decode": (128, 512, 2048),
        "step": (128, 512),
        "prefill": (16, 64),
        "attention": (512, 2048),
        "training": (64, 128),
        "memory": (128, 1024, 4096),
        "job": (64, 128),
        "papers": PAPERS,
        "likelihood": (128,),
        "endless": (1500,),
    },
    batches={"papers": (THEIRS,)},
    effort=Effort(seconds=0.35, max_repeats=20, longest_call=2.5, measure_seconds=20.0),
)
FULL = Plan(
    positions={
        "floor": (1,),
        "decode": (64, 256, 1024, 4096, 16384, 65536),
        "step": (64, 1024, 16384),
        "prefill": (16, 64, 256, 1024, 4096, 16384),
        "attention": (256, 1024, 4096, 16384),
        "training": (256, 1024, 4096, 16384),
        "memory": (256, 1024, 4096, 16384, 65536),
        "job": (1024, 4096),
        "papers": PAPERS,
        "likelihood": (256, 1024),
        "endless": (100_000,),
    },
    batches={
        "decode": (1, 8, 64, 256, 1024),
        "step": (1, 8, 64),
        "prefill": (1, 8),
        "attention": (1, 4),
        "training": (1, 8),
        "job": (1, 16),
        "papers": (THEIRS,),
    },
    effort=Effort(seconds=1.0, max_repeats=100, longest_call=10.0),
)


def make_plan(
    *,
    quick: bool = False,
    full: bool = False,
    batches: Sequence[int] = (),
    positions: Sequence[int] = (),
) -> Plan:
    """Return a plan, with other batch sizes or positions if some are given."""
    plan = QUICK if quick else FULL if full else THOROUGH
    if batches:
        rows = tuple(sorted(set(batches)))
        plan = replace(plan, batches=dict.fromkeys(BATCHED, rows))
    if positions:
        places = tuple(sorted(set(positions)))
        own = {name: plan.positions[name] for name in OWN_POSITIONS}
        plan = replace(plan, positions=dict.fromkeys(plan.positions, places) | own)
    return plan
