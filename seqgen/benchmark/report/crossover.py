"""From which position on a recurrent step is faster than one whose cache grows, as a number.

Between two measured positions the ratio of the times is taken to be a straight line in logarithms
of both, which is exact where one time is constant and the other a power of the position.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seqgen.benchmark.model import DECODERS
from seqgen.benchmark.records import Record

PEERS = ("softmax", "gpt2")
STATIC = "softmax-preallocated"
FAIR = {"cpu": "torch", "gpu": "cuda"}  # with its matrices and code, all but attention


@dataclass(frozen=True)
class Crossover:
    """Two variants at one batch size.

    Attributes:
        positions: where both were measured, rising; at least one.
        ratios: how many times as long the peer took there.
        ours, peers: who was compared, in the order of positions, each once.
    """

    batch: int
    positions: tuple[int, ...]
    ratios: tuple[float, ...]
    ours: tuple[str, ...]
    peers: tuple[str, ...]

    @property
    def position(self) -> float | None:
        """Where both take as long and ours is faster from there on; None: not where measured."""
        marks = list(zip(map(math.log, self.positions), map(math.log, self.ratios), strict=True))
        found = [(a, b) for a, b in pairwise(marks) if a[1] < 0 <= b[1]]
        if not found or self.ratios[-1] < 1:
            return None
        (x0, y0), (x1, y1) = found[-1]
        return math.exp(x0 + (x1 - x0) * -y0 / (y1 - y0))

    @property
    def cells(self) -> list[str]:
        """Batch, ours, peers, the crossover with two digits, and the ratios at both ends."""
        first, last, found = self.positions[0], self.positions[-1], self.position
        equal = f"beyond {last:,}" if self.ratios[-1] < 1 else f"before {first:,}"
        if found is not None:
            equal = f"{float(f'{found:.2g}'):,.0f}"
        ends = [f"{self.ratios[i]:.2f} at {self.positions[i]:,}" for i in (0, -1)]
        return [str(self.batch), " or ".join(self.ours), " or ".join(self.peers), equal, *ends]


def crossovers(records: Sequence[Record]) -> Iterator[Crossover]:
    """Compare at each batch size the fair pair, then the fastest of each side.

    Args:
        records: of one measure and one scene; a call that was not warmed up is left out.
    """
    timed = [r for r in records if r.measure == "decode" and (r.repeats or 0) > 1]
    for batch in sorted({record.batch for record in timed}):
        chosen = [record for record in timed if record.batch == batch]
        decoder = FAIR["cpu" if chosen[0].setting.device in ("", "cpu") else "gpu"]
        ours = [r for r in chosen if r.variant in DECODERS]
        peers = [r for r in chosen if r.variant.startswith(PEERS)]
        fair = [r for r in ours if r.variant == decoder], [r for r in peers if r.variant == STATIC]
        for pair in (fair, (ours, peers)):
            sides = [_fastest(side) for side in pair]
            both = sorted(sides[0].keys() & sides[1].keys())
            if both:
                seconds = [[side[p].median_seconds for p in both] for side in sides]
                ratios = tuple(peer / own for own, peer in zip(*seconds, strict=True))
                names = [tuple(dict.fromkeys(side[p].variant for p in both)) for side in sides]
                yield Crossover(batch, tuple(both), ratios, *names)


def _fastest(records: Sequence[Record]) -> dict[int, Record]:
    """Find by position the record with the smallest median."""
    ordered = sorted(records, key=lambda record: -(record.median_seconds or math.inf))
    return {record.position: record for record in ordered}
