"""The loss of each token of each piece in nats: in windows, whole, and step by step.

Three ways to score the same targets, and their names:
  windows    each window of the training length from an empty state, as in training
  parallel   whole pieces, all positions at once
  recurrent  whole pieces, one position per step, as in generation; equal to `parallel`

Legend: B rows, T positions, U positions of a source, F fields, N_f vocabulary of a field.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqgen.attention.decay import longest_pass
from seqgen.data.batches import held_out_pieces
from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.model.embedding import add_chain
from seqgen.model.loss import field_nats
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import Pair, Pairs

PASS = 2048  # positions of one pass over a whole piece; the state is passed from one to the next
STEPPED_ROWS = 32  # pieces that are stepped through side by side
WINDOW_TOKENS = 8192  # rows × positions of one pass over windows
FIRST_RANGE = 64  # positions; each range after it is as long as all before it
Tell = Callable[[int], None]  # receives the number of targets done since the last call
Curves = list[np.ndarray]  # for each piece, nats [T - 1, F] of its targets


@torch.no_grad()
def score_windows(
    model: SequenceModel, pieces: Sequence[np.ndarray], *, length: int, tell: Tell
) -> Curves:
    """Score pieces [T, F] in windows of `length` targets; every target once."""
    model.eval()
    device = next(model.parameters()).device
    curves = _unscored(pieces)
    cuts = [(i, at) for i, ids in enumerate(pieces) for at in range(0, len(ids) - 1, length)]
    cuts.sort(key=lambda cut: -min(length, len(pieces[cut[0]]) - 1 - cut[1]))
    rows = max(1, WINDOW_TOKENS // length)
    for k in range(0, len(cuts), rows):
        parts = [pieces[i][at : at + length + 1] for i, at in cuts[k : k + rows]]
        tokens = np.zeros((len(parts), len(parts[0]), parts[0].shape[1]), dtype=np.int64)
        for row, part in zip(tokens, parts, strict=True):
            row[: len(part)] = part
        batch = torch.from_numpy(tokens).to(device)
        lengths = torch.tensor([len(part) - 1 for part in parts], device=device)
        logits = model(batch[:, :-1], lengths, targets=batch[:, 1:])
        nats = field_nats(logits, batch[:, 1:], uses=model.uses).cpu().numpy()
        for (i, at), part, of_row in zip(cuts[k : k + rows], parts, nats, strict=True):
            curves[i][at : at + len(part) - 1] = of_row[: len(part) - 1]
        tell(sum(len(part) - 1 for part in parts))
    return curves


@torch.no_grad()
def score_piece(
    model: SequenceModel,
    ids: np.ndarray,
    *,
    source: np.ndarray | None = None,
    decay_after: int | None = None,
    tell: Tell | None = None,
) -> np.ndarray:
    """Score a whole piece [T, F] -> nats [T - 1, F], in passes of bounded size.

    It is the target of a `source` [U, F], if one is given. From position `decay_after` on the sums
    decay.
    """
    model.eval()
    device = next(model.parameters()).device
    tokens = torch.from_numpy(ids).to(device)[None]
    size = PASS if decay_after is None else min(PASS, longest_pass(decay_after))
    state, nats = None, []
    if source is not None:
        lengths = torch.tensor([len(source)], device=device)
        state = model.begin(torch.from_numpy(source).to(device)[None], lengths)
    for start in range(0, len(ids) - 1, size):
        part = tokens[:, start : start + size + 1]
        hidden, state = model.run(
            part[:, :-1], state=state, keep_state=True, decay_after=decay_after
        )
        logits = model.lm_head(hidden, part[:, 1:])
        nats.append(field_nats(logits, part[:, 1:], uses=model.uses)[0].cpu().numpy())
        if tell is not None:
            tell(part.shape[1] - 1)
    return np.concatenate(nats)


def nats_of(
    model: SequenceModel,
    ids: np.ndarray,
    *,
    source: np.ndarray | None = None,
    decay_after: int | None = None,
) -> np.ndarray:
    """Nats of each token of a whole piece, its fields summed -> [T - 1]; see `score_piece`."""
    return score_piece(model, ids, source=source, decay_after=decay_after).sum(axis=1)


@torch.no_grad()
def score_recurrent(model: SequenceModel, pieces: Sequence[np.ndarray], *, tell: Tell) -> Curves:
    """Step through whole pieces [T, F], several side by side, with the recurrent form."""
    recurrent = RecurrentModel(model.eval())
    chain = recurrent.read_chain()
    curves = _unscored(pieces)
    order = sorted(range(len(pieces)), key=lambda i: -len(pieces[i]))
    for k in range(0, len(order), STEPPED_ROWS):
        group = order[k : k + STEPPED_ROWS]  # the longest first
        state = recurrent.initial_state(len(group))
        for t in range(len(pieces[group[0]]) - 1):
            group = [i for i in group if t < len(pieces[i]) - 1]
            if len(group) < state.n_rows:
                state = state.rows(range(len(group)))
            pair = np.stack([pieces[i][t : t + 2] for i in group])  # [B, 2, F]
            tokens = torch.from_numpy(pair).to(recurrent.device)
            logits, state = recurrent.step(tokens[:, 0], state)
            logits = add_chain(logits, chain, tokens[:, 1])
            scores = tuple(x.unsqueeze(1) for x in logits)
            nats = field_nats(scores, tokens[:, 1:], uses=model.uses)[:, 0].cpu().numpy()
            for i, of_row in zip(group, nats, strict=True):
                curves[i][t] = of_row
            tell(len(group))
    return curves


def _unscored(pieces: Sequence[np.ndarray]) -> Curves:
    return [np.empty((len(ids) - 1, ids.shape[1]), dtype=np.float32) for ids in pieces]


def within_limit(model: SequenceModel, pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut pieces where the model's learned positions end; others are not cut."""
    limit = model.positions.limit
    return [ids if limit is None else ids[: limit + 1] for ids in pieces]


@dataclass(frozen=True)
class Range:
    """Positions `start` … `stop` - 1 of all pieces: how many targets, and nats for each."""

    start: int
    stop: int
    targets: int
    nats_per_token: float


def nats_by_position(
    model: SequenceModel, data: PreparedData, pieces: Sequence[StoredPiece]
) -> list[Range]:
    """Score whole pieces from their beginning, and average over ranges of positions.

    Position 0 is that of the second token, predicted from the first. Learned positions end where
    the table does, and the ranges with them.
    """
    return by_ranges([nats_of(model, data.read(x)[: model.positions.limit]) for x in pieces])


def by_ranges(curves: Sequence[np.ndarray]) -> list[Range]:
    """Average curves [·] of any lengths over ranges of positions."""
    longest = max((len(curve) for curve in curves), default=0)
    ranges, start, stop = [], 0, FIRST_RANGE
    while start < longest:
        nats = np.concatenate([curve[start:stop] for curve in curves])
        ranges.append(Range(start, min(stop, longest), len(nats), float(nats.mean())))
        start, stop = stop, 2 * stop
    return ranges


@dataclass(frozen=True)
class PairScore:
    """What the targets of a split cost.

    Attributes:
        split: its name.
        pairs: how many pairs there are; a long piece has several.
        tokens, units: of all targets; what a unit is, the tokenizer says.
        nats: of all targets.
    """

    split: str
    pairs: int
    tokens: int
    units: int
    nats: float

    @property
    def nats_per_token(self) -> float:
        """Mean over the tokens of targets."""
        return self.nats / max(self.tokens, 1)

    @property
    def nats_per_unit(self) -> float:
        """Of whole targets, for each note or byte of theirs."""
        return self.nats / max(self.units, 1)


def pairs_of(
    data: PreparedData, pairs: Pairs, split: str, *, context_length: int, max_targets: int
) -> list[Pair]:
    """Return the pairs of a split, in windows as those of training."""
    pieces = held_out_pieces(data, split, max_targets=max_targets)
    return [w for piece in pieces for w in pairs.windows(data.read(piece), context_length)]


def score_pairs(
    model: SequenceModel,
    data: PreparedData,
    pairs: Pairs,
    split: str,
    *,
    context_length: int,
    max_targets: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> PairScore:
    """Score the targets of a split; `tell` is told how many of how many pairs are done."""
    sizes = {"context_length": context_length, "max_targets": max_targets}
    found, nats = pairs_of(data, pairs, split, **sizes), 0.0
    for done, pair in enumerate(found, start=1):
        nats += float(nats_of(model, pair.target, source=pair.source).sum())
        tell(done, len(found))
    tokens = sum(len(pair.target) - 1 for pair in found)
    units = sum(data.tokenizer.units(pair.target) for pair in found)
    return PairScore(split, len(found), tokens, units, nats)
