"""The limits above which a piece counts as a copy, derived from what real pieces share.

Legend: n notes, R runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.evaluation.copying.material import Material
from seqgen.evaluation.copying.runs import SharedRuns

LEAST = 32  # units; less is no copy, whatever the baseline
FENCE = 3.0  # interquartile ranges beyond the upper quartile: Tukey's outer fence
HIGH = 0.95  # the quantile of held-out pieces that is still ordinary
NEARLY_ALL = 0.9  # of a piece; more is a copy, whatever the baseline
FEW = 20  # held-out pieces, below which their quantiles say little
FEW_FACTOR = 1.5  # so far above the longest of few is a copy
N_CANDIDATES = 5  # training pieces, each at one place and in one key, that are looked at
PITCHES = 1 << 10  # more than pitches and their differences


@dataclass(frozen=True)
class Likeness:
    """The training piece that a piece is most like when it is moved by `semitones`, and in time.

    `share` of the notes are in both, of those that the one has that has more: all notes of the
    piece, or those of the training piece in the same time. Only new ones count (`Material.is_new`).
    """

    name: str
    share: float
    semitones: int


def find_likeness(
    training: Sequence[Material], piece: Material, runs: SharedRuns
) -> Likeness | None:
    """Align the most similar training pieces with a piece and count the notes that both have.

    A shared run says where a training piece has to lie. The places that most fresh notes of the
    runs agree on are tried. None where pieces have no notes or no run in common.
    """
    if piece.notes is None or not len(runs.fresh):
        return None
    moves = np.empty((len(runs.fresh), 3), dtype=np.int64)  # training piece, time, pitch
    for i, number in enumerate(runs.pieces):
        origin = training[number].notes[runs.training_starts[i]]
        moves[i] = number, *(piece.notes[runs.starts[i]] - origin)
    distinct, which = np.unique(moves, axis=0, return_inverse=True)
    votes = np.bincount(which.reshape(-1), weights=runs.fresh)
    found = []
    for number, *move in distinct[np.argsort(-votes, kind="stable")[:N_CANDIDATES]]:
        source = training[number]
        share = _share(piece.notes, source.notes + move, piece.is_new, source.is_new)
        found.append(Likeness(source.name, share, int(move[1])))
    return max(found, key=lambda likeness: likeness.share)


def _share(
    notes: np.ndarray, others: np.ndarray, is_new: np.ndarray, are_others_new: np.ndarray
) -> float:
    """Notes [n, 2] and [·, 2] that both have, of the more there are while the first ones sound."""
    are_others_new = are_others_new[(others[:, 0] >= notes[0, 0]) & (others[:, 0] <= notes[-1, 0])]
    common = np.isin(notes @ [PITCHES, 1], others @ [PITCHES, 1])[is_new].sum()
    return float(common / max(is_new.sum(), are_others_new.sum()))


@dataclass(frozen=True)
class CopyLimits:
    """A piece is flagged above any of the limits."""

    run: float  # for the freshest run, in units
    block: int  # fresh units of a run that is long already
    coverage: float  # for the share of the piece in such runs
    likeness: float  # for the share of its notes that it has in common with one training piece
    least: int = LEAST  # units that must be shared in all

    def exceeded(self, runs: SharedRuns, likeness: Likeness | None) -> tuple[str, ...]:
        """Which of "run", "coverage" and "likeness" a piece exceeds.

        One run that is nearly the whole piece is enough coverage, however short the piece is.
        """
        coverage, alike = runs.coverage(self.block), likeness.share if likeness else 0.0
        coverage = max(coverage, runs.most_fresh / max(runs.n_new, 1))
        is_above = {
            "run": runs.most_fresh > self.run,
            "coverage": coverage > self.coverage and coverage * runs.n_new >= self.least,
            "likeness": alike > self.likeness and alike * runs.n_new >= self.least,
        }
        return tuple(name for name, above in is_above.items() if above)


def find_limits(
    held_out: Sequence[SharedRuns], likenesses: Sequence[Likeness | None]
) -> CopyLimits:
    """Derive limits from real pieces that are not in the training set, and their likenesses.

    Corpora hold pieces twice, under two names or in two keys, and then a held-out piece is itself a
    copy. So the limits rest on quantiles, which a few such pieces do not move, and not on the
    longest run. On a logarithmic scale, a copy's run is beyond the outer fence of Tukey,
    "Exploratory Data Analysis", 1977: the upper quartile and three times the distance between
    the quartiles. Its runs are shorter where notes were changed here and there; then more of the
    piece lies in long runs, or in one training piece, than half of the way from what is ordinary
    (95% of the held-out pieces) to the whole piece; 90% are enough. With fewer than 20 held-out
    pieces the extremes take the place of the 95%, and a run must be half as long again as the
    longest, and twice `LEAST`. Without any, twice `LEAST` and half of a piece are the limits.
    """
    if not held_out:
        return CopyLimits(run=2 * LEAST, block=LEAST, coverage=0.5, likeness=0.5)
    fresh = np.array([max(runs.most_fresh, 1) for runs in held_out])
    low, high = np.quantile(np.log(fresh), [0.25, 0.75])
    run = max(LEAST, math.exp(high + FENCE * (high - low)))
    ordinary, block = HIGH, math.ceil(np.quantile(fresh, HIGH))
    if len(fresh) < FEW:
        run = max(run, FEW_FACTOR * fresh.max(), 2 * LEAST)
        ordinary, block = 1.0, max(block, LEAST)
    coverage = np.quantile([runs.coverage(block) for runs in held_out], ordinary)
    likeness = np.quantile([found.share if found else 0.0 for found in likenesses], ordinary)
    return CopyLimits(
        run=float(run),
        block=block,
        coverage=min((1 + float(coverage)) / 2, NEARLY_ALL),
        likeness=min((1 + float(likeness)) / 2, NEARLY_ALL),
    )
