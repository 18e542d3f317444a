"""The guard of `make bench`: ratios to the library against a committed record, never times."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from seqgen.benchmark.records import Record, read_records
from seqgen.benchmark.report import changes as ch
from seqgen.benchmark.report.compare import change_table
from seqgen.benchmark.report.differences import same_scene
from seqgen.benchmark.report.kinds import OURS, kind

COMMITTED = "quick.json"
# A quick run has a third of a second for a variant in one place. Its interval is wide by itself;
# the floor is for what it cannot see: of 26 ratios in two quick runs on a machine that others used
# too, six moved by 11 to 19%. A kernel lost, which is what a guard is for, costs much more.
FLOOR = 0.15
# A busy moment may hit the library in one place and make all the rest look slow or fast there. So a
# variant has to be worse in at least so many places of a measure, and in more than half of them.
LEAST_PLACES = 2


class Guard:
    """A run compared with the committed one of the same machine, threads and model.

    Attributes:
        path: of what it is compared with; None: nothing fits.
        moved: ratios that changed by more than noise.
        worse: what of ours became worse, as "decode native", for which the guard fails.
    """

    def __init__(self, records: Sequence[Record], path: Path | None):
        self.path = path
        committed = read_records(path) if path else []
        self._fits = fits(committed, records)
        self._bounds = ch.Bounds.of(committed, records, floor=FLOOR)
        found = ch.changes(committed, records, bounds=self._bounds)
        self.compared = [change for change in found if change.ratio_gain is not None]
        self.moved = [c for c in self.compared if c.verdict in (ch.FASTER, ch.SLOWER)]
        self.worse = _worse(self.compared) if self._fits else []

    def parts(self, *, name: str) -> Iterator[Table | str]:
        """Say what moved, or why nothing can be said; `name` is that of the path for a reader."""
        if self.path is None:
            yield (
                "Guard: there is no committed record of this processor, its cores, these threads "
                "and this model, so that nothing was compared. To make one: `python cli.py "
                f"benchmark --quick --json docs/results/NAME/{COMMITTED}`."
            )
            return
        if self.moved:
            yield change_table(self.moved)
        yield (
            f"Guard: {len(self.compared)} ratios to the library compared with {name}, of which "
            f"{len(self.moved)} moved by more than noise (95% interval beyond "
            f"{self._bounds.ratio:.0%}; {2 * self._bounds.ratio:.0%} where too few calls were "
            f"made for one)."
        )
        if not self._fits:
            yield (
                "That record is of another machine, model or number of threads: there ratios "
                "differ anyway, and the guard cannot fail."
            )
        elif self.worse:
            yield f"Guard: worse at most of their places: {', '.join(self.worse)}."


def _worse(compared: Sequence[ch.Change]) -> list[str]:
    verdicts: dict[str, list[bool]] = {}
    for change in compared:
        if kind(change.before) == OURS:
            name = f"{change.before.measure} {change.before.variant}"
            verdicts.setdefault(name, []).append(change.verdict == ch.SLOWER)
    return [
        name
        for name, worse in verdicts.items()
        if sum(worse) >= LEAST_PLACES and sum(worse) > len(worse) / 2
    ]


def find_committed(results: Path, records: Sequence[Record]) -> Path | None:
    """Find the record below `results` of the same machine, threads and model."""
    for path in sorted(results.glob(f"*/{COMMITTED}")):
        if fits(read_records(path), records):
            return path
    return None


def fits(committed: Sequence[Record], records: Sequence[Record]) -> bool:
    """Whether two runs are of the same machine, threads and model, known to be."""
    first = next(iter(_comparable(committed)), None)
    second = next(iter(_comparable(records)), None)
    return first is not None and second is not None and same_scene(first, second)


def _comparable(records: Sequence[Record]) -> list[Record]:
    """Leave out models of their own, such as those of whole jobs."""
    return [r for r in records if "/" not in r.variant and r.setting.sizes]
