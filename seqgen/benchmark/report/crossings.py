"""From which position on the recurrent step beats one whose cache grows, and how surely.

Between two measured positions the ratio of the times is taken to be a straight line in logarithms
of both, which is exact where one time is constant and the other a power of the position.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from seqgen.benchmark.records import Record
from seqgen.benchmark.report.kinds import OURS, PEER, has_value, kind, on_gpu

CLEARLY = 1.05  # a smaller lead is taken for noise


@dataclass(frozen=True)
class Pair:
    """Who is compared with whom; None: the fastest of its side, at each position by itself."""

    ours: str | None
    peer: str | None
    words: str


FASTEST = Pair(
    None,
    None,
    "the fastest of each side, whatever its weights are kept in; GPT-2 is compiled for one row "
    "only",
)
LIBRARY_ALONE = Pair(
    "library", "full-cached", "the library against itself, whose cache is copied each step"
)
PAIRS = (
    Pair("torch", "full-preallocated", "the same matrices and the same code but for attention"),
    FASTEST,
    LIBRARY_ALONE,
)
# There `torch` launches each operation by itself, and the steps of the cache are CUDA graphs.
PAIRS_ON_GPU = (
    Pair("cuda", "full-preallocated", "both CUDA graphs; ours with Triton kernels where they fit"),
    FASTEST,
    LIBRARY_ALONE,
)


@dataclass(frozen=True)
class Crossing:
    """One pair at one batch size.

    Attributes:
        positions: where both were measured, rising; at least one.
        ratios: how many times as long the peer took there.
        seconds: what ours took there.
        ours, peers: who was compared, in the order of positions, each once.
    """

    batch: int
    pair: Pair
    positions: tuple[int, ...]
    ratios: tuple[float, ...]
    seconds: tuple[float, ...]
    ours: tuple[str, ...]
    peers: tuple[str, ...]

    @property
    def between(self) -> tuple[int, int] | None:
        """The last two neighbouring positions between which ours goes from slower to faster.

        None also where both are ties: noise alone would say where between.
        """
        marks = zip(self.positions, self.ratios, strict=True)
        found = [(a, b) for a, b in pairwise(marks) if a[1] < 1 <= b[1]]
        if not found or self.ratios[-1] < 1:
            return None
        (low, slow), (high, fast) = found[-1]
        return None if slow > 1 / CLEARLY and fast < CLEARLY else (low, high)

    @property
    def equal_at(self) -> float | None:
        """The position between those two at which both take as long."""
        return None if self.between is None else self._interpolate(self.between)

    @property
    def seconds_at_equal(self) -> float | None:
        """What a step takes there, interpolated in the same way."""
        if self.between is None:
            return None
        i, j = (self.positions.index(x) for x in self.between)
        return self._interpolate((self.seconds[i], self.seconds[j]))

    def _interpolate(self, ends: tuple[float, float]) -> float:
        """Go from one end to the other, in logarithms, as far as the ratio needs to become 1."""
        y0, y1 = (math.log(self.ratios[self.positions.index(x)]) for x in self.between)
        start, end = map(math.log, ends)
        return math.exp(start + (end - start) * -y0 / (y1 - y0))

    @property
    def ties(self) -> tuple[int, ...]:
        """Where neither is clearly faster."""
        marks = zip(self.positions, self.ratios, strict=True)
        return tuple(p for p, ratio in marks if 1 / CLEARLY < ratio < CLEARLY)

    @property
    def clear_from(self) -> int | None:
        """The first position from which on ours is clearly faster wherever it was measured."""
        rest = range(len(self.ratios))
        return next((self.positions[i] for i in rest if min(self.ratios[i:]) >= CLEARLY), None)


def crossings(records: Sequence[Record]) -> Iterator[Crossing]:
    """Compare the pairs at each batch size; what was called once, and not warmed up, is left out.

    Args:
        records: of one measure and one scene.
    """
    timed = [r for r in records if has_value(r) and r.median_seconds and r.repeats != 1]
    for batch in sorted({record.batch for record in timed}):
        at_batch = [record for record in timed if record.batch == batch]
        for pair in PAIRS_ON_GPU if any(map(on_gpu, at_batch)) else PAIRS:
            found = _crossing(at_batch, batch, pair)
            if found is not None:
                yield found


def _crossing(records: Sequence[Record], batch: int, pair: Pair) -> Crossing | None:
    ours = _fastest(records, pair.ours, OURS)
    peers = _fastest(records, pair.peer, PEER)
    both = sorted(ours.keys() & peers.keys())
    if not both:
        return None
    ratios = tuple(peers[p].median_seconds / ours[p].median_seconds for p in both)
    seconds = tuple(ours[p].median_seconds for p in both)
    names = (tuple(dict.fromkeys(side[p].variant for p in both)) for side in (ours, peers))
    return Crossing(batch, pair, tuple(both), ratios, seconds, *names)


def _fastest(records: Sequence[Record], variant: str | None, side: str) -> dict[int, Record]:
    """Find by position the record of a variant, or else the fastest of its side."""
    found: dict[int, Record] = {}
    for record in records:
        chosen = record.variant == variant if variant else kind(record) == side
        before = found.get(record.position)
        if chosen and (before is None or record.median_seconds < before.median_seconds):
            found[record.position] = record
    return found
