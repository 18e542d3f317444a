"""How well a model predicts at each place of a piece, also beyond the windows it learned from.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqgen.attention.fading import longest_pass
from seqgen.data.shards import Piece, PreparedData
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel

FIRST_RANGE = 64  # positions; each range after it is as long as all before it
PASS = 2048  # positions of one pass; the state goes on from one to the next


@dataclass(frozen=True)
class Range:
    """Positions `start` … `stop` - 1 of all pieces: how many targets, and nats for each."""

    start: int
    stop: int
    targets: int
    nats_per_token: float


def nats_by_position(
    model: SequenceModel,
    data: PreparedData,
    pieces: Sequence[Piece],
    *,
    window: int | None = None,
) -> list[Range]:
    """Score whole pieces from their beginning, and average over ranges of positions.

    Position 0 is that of the second token, predicted from the first. Learned positions end where
    the table does, and the ranges with them. With a `window` the sums fade after so many positions.
    """
    limit = model.positions.limit
    curves = [nats_of(model, data.read(piece)[:limit], window=window) for piece in pieces]
    return by_ranges(curves)


@torch.no_grad()
def nats_of(model: SequenceModel, tokens: np.ndarray, *, window: int | None = None) -> np.ndarray:
    """Nats of each token [T, F] but the first -> [T - 1], in passes of bounded size."""
    model.eval()
    device = next(model.parameters()).device
    tokens = torch.from_numpy(tokens).to(device)[None]
    size = PASS if window is None else min(PASS, longest_pass(window))
    state, nats = None, []
    for start in range(0, tokens.shape[1] - 1, size):
        part = tokens[:, start : start + size + 1]
        hidden, state = model.run(part[:, :-1], state=state, keep_state=True, window=window)
        nats.append(token_nats(model.heads(hidden), part[:, 1:])[0])
    return torch.cat(nats).cpu().numpy()


def by_ranges(curves: Sequence[np.ndarray]) -> list[Range]:
    """Average curves [·] of any lengths over ranges of positions."""
    longest = max((len(curve) for curve in curves), default=0)
    ranges, start, stop = [], 0, FIRST_RANGE
    while start < longest:
        nats = np.concatenate([curve[start:stop] for curve in curves])
        ranges.append(Range(start, min(stop, longest), len(nats), float(nats.mean())))
        start, stop = stop, 2 * stop
    return ranges
