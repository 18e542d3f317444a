"""From which position on a recurrent step is faster than one whose cache grows.

Between two measured positions the ratio of the times is taken to be a straight line in logarithms
of both, which is exact where one time is constant and the other a power of the position.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from seqgen.benchmark.model import DECODERS
from seqgen.benchmark.records import Record

PEERS = {"softmax", "gpt2"}
STATIC = "softmax-preallocated"
FAIR = {"cpu": "torch", "gpu": "cuda"}  # with its matrices and code, all but attention


def is_peer(variant: str) -> bool:
    """Whether a variant, of any measure, is of softmax attention."""
    return not PEERS.isdisjoint(variant.split("-"))


def crossovers(records: Sequence[Record]) -> Iterator[list[str]]:
    """Compare at each batch size of one scene the fair pair, then the fastest of each side.

    Yields cells of a row: batch size, variants of ours and of the peers, the crossover, and at both
    ends how many times as long the peer took. A call that was not warmed up is left out.
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
            if both := sorted(own.keys() & peer.keys()):
                ratios = [peer[p][0] / own[p][0] for p in both]
                names = (dict.fromkeys(side[p][1] for p in both) for side in (own, peer))
                ends = (f"{ratios[i]:.2f} at {both[i]:,}" for i in (0, -1))
                sides = map(" or ".join, names)
                yield [str(batch), *sides, _equal_at(both, ratios), *ends]


def _fastest(records: Sequence[Record]) -> dict[int, tuple[float, str]]:
    """Find by position the smallest median, and whose it is."""
    found = [(r.median_seconds or np.inf, r.variant, r.position) for r in records]
    return {p: (seconds, variant) for seconds, variant, p in sorted(found, reverse=True)}


def _equal_at(positions: Sequence[int], ratios: Sequence[float]) -> str:
    """Say where both take as long and ours is faster from there on, with two digits."""
    x, y = np.log(positions), np.log(ratios)
    [rising] = np.nonzero((y[:-1] < 0) & (y[1:] >= 0))
    if y[-1] < 0:
        return f"beyond {positions[-1]:,}"
    if not len(rising):
        return f"before {positions[0]:,}"
    around = slice(rising[-1], rising[-1] + 2)
    return f"{float(f'{np.exp(np.interp(0.0, y[around], x[around])):.2g}'):,.0f}"
