"""From which position on a recurrent step is faster than one whose cache grows, as a number.

Between two measured positions the ratio of the times is taken to be a straight line in logarithms
of both, which is exact where one time is constant and the other a power of the position.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.benchmark.model import DECODERS
from seqgen.benchmark.records import Record

PEERS = {"softmax", "gpt2"}
STATIC = "softmax-preallocated"
FAIR = {"cpu": "torch", "gpu": "cuda"}  # with its matrices and code, all but attention


def is_peer(variant: str) -> bool:
    """Whether a variant, of any measure, is of softmax attention."""
    return not PEERS.isdisjoint(variant.split("-"))


@dataclass(frozen=True)
class Crossover:
    """Two sides at one batch size, and their variants in the order of positions, each once."""

    batch: int
    ratios: Mapping[int, float]  # how many times as long the peer took, by position; at least one
    ours: Sequence[str]
    peers: Sequence[str]

    @property
    def position(self) -> float | None:
        """Where both take as long and ours is faster from there on; None: not where measured."""
        x, y = np.log([*self.ratios]), np.log([*self.ratios.values()])
        [rising] = np.nonzero((y[:-1] < 0) & (y[1:] >= 0))
        if not len(rising) or y[-1] < 0:
            return None
        around = slice(rising[-1], rising[-1] + 2)
        return float(np.exp(np.interp(0.0, y[around], x[around])))

    @property
    def cells(self) -> list[str]:
        """Batch, ours, peers, the crossover with two digits, and the ratios at both ends."""
        (first, first_ratio), *_, (last, last_ratio) = [*self.ratios.items()] * 2
        equal = f"beyond {last:,}" if last_ratio < 1 else f"before {first:,}"
        if (found := self.position) is not None:
            equal = f"{float(f'{found:.2g}'):,.0f}"
        ends = f"{first_ratio:.2f} at {first:,}", f"{last_ratio:.2f} at {last:,}"
        return [str(self.batch), " or ".join(self.ours), " or ".join(self.peers), equal, *ends]


def crossovers(records: Sequence[Record]) -> Iterator[Crossover]:
    """Compare at each batch size of one scene the fair pair, then the fastest of each side.

    A call that was not warmed up is left out.
    """
    timed = [r for r in records if r.measure == "decode" and (r.repeats or 0) > 1]
    for batch in sorted({record.batch for record in timed}):
        chosen = [record for record in timed if record.batch == batch]
        decoder = FAIR["cpu" if chosen[0].setting.device in ("", "cpu") else "gpu"]
        ours = [r for r in chosen if r.variant in DECODERS]
        peers = [r for r in chosen if is_peer(r.variant)]
        fair = [r for r in ours if r.variant == decoder], [r for r in peers if r.variant == STATIC]
        for pair in (fair, (ours, peers)):
            own, peer = map(_fastest, pair)
            both = sorted(own.keys() & peer.keys())
            if both:
                ratios = {p: peer[p][0] / own[p][0] for p in both}
                names = [list(dict.fromkeys(side[p][1] for p in both)) for side in (own, peer)]
                yield Crossover(batch, ratios, *names)


def _fastest(records: Sequence[Record]) -> dict[int, tuple[float, str]]:
    """Find by position the smallest median, and whose it is."""
    found = [(r.median_seconds or np.inf, r.variant, r.position) for r in records]
    return {p: (seconds, variant) for seconds, variant, p in sorted(found, reverse=True)}
