"""The guard of `make bench`: ratios to the library against a committed record, never times."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqgen.benchmark.records import LIBRARY, Record, read_records
from seqgen.benchmark.report import compare
from seqgen.benchmark.report.crossover import is_peer
from seqgen.benchmark.report.table import plain

COMMITTED = "quick.json"
# A quick run has a third of a second for a variant in one place. Its interval is wide by itself;
# the floor is for what it cannot see: of 26 ratios in two quick runs on a machine that others used
# too, six moved by 11 to 19%. A kernel lost, which is what a guard is for, costs much more.
FLOOR = 0.15
# A busy moment may hit the library in one place and make all the rest look slow or fast there. So a
# variant has to be worse in at least so many places of a measure, and in more than half of them.
LEAST_PLACES = 2


@dataclass(frozen=True)
class Verdict:
    """A run compared with the committed one of the same machine, threads and model.

    Attributes:
        moved: ratios that changed by more than noise.
        worse: what of ours became worse, as "decode native", for which the guard fails.
        lines: what moved, or why nothing can be said.
    """

    moved: list[compare.Change]
    worse: list[str]
    lines: list[str]


def guard(records: Sequence[Record], path: Path | None, *, name: str = "") -> Verdict:
    """Compare a run with a committed one; `name` is that of its path for a reader."""
    if path is None:
        line = (
            "Guard: there is no committed record of this processor, its cores, these threads and "
            "this model, so nothing was compared. To make one: `python cli.py benchmark --quick "
            f"--json docs/results/NAME/{COMMITTED}`."
        )
        return Verdict([], [], [line])
    committed = read_records(path)
    bounds = compare.Bounds.of(committed, records, floor=FLOOR)
    found = compare.changes(committed, records, bounds=bounds)
    compared = [change for change in found if change.ratio_gain is not None]
    moved = [c for c in compared if c.verdict in (compare.FASTER, compare.SLOWER)]
    lines = [plain(compare.HEADINGS, [change.row for change in moved], n_left=2)] if moved else []
    lines.append(
        f"Guard: {len(compared)} ratios to the library compared with {name}, of which "
        f"{len(moved)} moved by more than noise (95% interval beyond {bounds.ratio:.0%}; "
        f"{2 * bounds.ratio:.0%} with too few calls for one)."
    )
    if not fits(committed, records):
        lines.append("That record is of another machine, model or number of threads: no failure.")
        return Verdict(moved, [], lines)
    worse = _worse(compared)
    if worse:
        lines.append(f"Guard: worse at most of their places: {', '.join(worse)}.")
    return Verdict(moved, worse, lines)


def _worse(compared: Sequence[compare.Change]) -> list[str]:
    verdicts: dict[str, list[bool]] = {}
    for change in compared:
        if not is_peer(change.before.variant) and LIBRARY not in change.before.variant:
            name = f"{change.before.measure} {change.before.variant}"
            verdicts.setdefault(name, []).append(change.verdict == compare.SLOWER)
    return [
        name
        for name, worse in verdicts.items()
        if sum(worse) >= LEAST_PLACES and sum(worse) > len(worse) / 2
    ]


def find_committed(results: Path, records: Sequence[Record]) -> Path | None:
    """Find the record below `results` of the same machine, threads and model."""
    paths = sorted(results.glob(f"*/{COMMITTED}"))
    return next((path for path in paths if fits(read_records(path), records)), None)


def fits(committed: Sequence[Record], records: Sequence[Record]) -> bool:
    """Whether two runs are of the same machine, threads and model, known to be."""
    first, second = (
        next((r for r in run if r.setting.sizes), None) for run in (committed, records)
    )
    return first is not None and second is not None and compare.same_scene(first, second)
