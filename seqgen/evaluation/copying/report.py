"""What generated pieces share with the training set, beside what held-out real pieces share."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from seqgen.evaluation.copying.corpus import Corpus, Runs
from seqgen.evaluation.copying.likeness import Likeness, find_likeness
from seqgen.evaluation.copying.limits import LEAST, Limits, find_limits
from seqgen.evaluation.copying.material import Material

Tell = Callable[[int, int], None]  # pieces done, of how many


@dataclass(frozen=True)
class Place:
    """Units `first` … `last` of a piece, from 1 on, and the bars in which they begin."""

    name: str
    first: int
    last: int
    bars: tuple[int, int] | None


@dataclass(frozen=True)
class PieceCopy:
    """One piece's share in the training set.

    Attributes:
        name: the piece.
        n_units: its tokens, or its notes (those of one onset and pitch are one, drums are none).
        longest: units of the longest run that it shares with a training piece.
        fresh: units of its freshest run, without what that repeats of itself.
        coverage: the share of its units in runs of at least `Limits.block` fresh ones.
        here: where its freshest run is; None where nothing is shared.
        there: where in the training set that run is, in one of perhaps several places.
        likeness: the training piece that its notes are most like; None for tokens.
        exceeded: the limits that it exceeds; any makes it a copy.
    """

    name: str
    n_units: int
    longest: int
    fresh: int
    coverage: float
    here: Place | None
    there: Place | None
    likeness: Likeness | None
    exceeded: tuple[str, ...]

    @property
    def closest(self) -> str | None:
        """The training piece to look at: the one that it is like, or that has its freshest run."""
        if self.likeness and "run" not in self.exceeded and "likeness" in self.exceeded:
            return self.likeness.name
        return self.there.name if self.there else None

    @property
    def is_copy(self) -> bool:
        """Whether the piece is flagged."""
        return bool(self.exceeded)


@dataclass(frozen=True)
class CopyReport:
    """Both sets of pieces, in the order given, under the limits that the held-out ones set."""

    unit: str
    n_training: int
    n_training_units: int
    limits: Limits
    generated: tuple[PieceCopy, ...]
    held_out: tuple[PieceCopy, ...]

    def to_json(self) -> dict:
        """Return all as plain values, with a summary of each set."""
        record = asdict(self)
        for name, pieces in (("generated", self.generated), ("held_out", self.held_out)):
            record[name] = {
                "summary": summarize(pieces),
                "pieces": [_piece_json(piece) for piece in pieces],
            }
        return record


def copying(
    generated: Sequence[Material],
    held_out: Sequence[Material],
    training: Sequence[Material],
    *,
    unit: str,
    least: int = LEAST,
    tell: Tell | None = None,
) -> CopyReport:
    """Compare pieces of one kind of material, whose `unit` is "note" or "token".

    Training pieces may come in several variants of one name. Limits come from the held-out pieces,
    of which those that exceed them are flagged too: real pieces that the corpus holds twice.
    `least` units or fewer in a row are never a copy. Takes seconds for 10M training units and
    milliseconds for a piece. ValueError where no training piece has anything to compare.
    """
    corpus = Corpus(training)
    runs, likenesses, total = [], [], len(generated) + len(held_out)
    for piece in (*generated, *held_out):
        runs.append(corpus.shared_runs(piece))
        likenesses.append(find_likeness(corpus, piece, runs[-1]))
        if tell is not None:
            tell(len(runs), total)
    n = len(generated)
    limits = find_limits(runs[n:], likenesses[n:], least=least)
    judged = [
        _judge(corpus, limits, *found)
        for found in zip((*generated, *held_out), runs, likenesses, strict=True)
    ]
    return CopyReport(
        unit=unit,
        n_training=len({piece.name for piece in training}),
        n_training_units=sum(piece.n_units for piece in training),
        limits=limits,
        generated=tuple(judged[:n]),
        held_out=tuple(judged[n:]),
    )


def summarize(pieces: Sequence[PieceCopy]) -> dict:
    """How many pieces there are, how many are flagged, and quantiles of what they share."""
    summary: dict = {"n": len(pieces), "n_copies": sum(piece.is_copy for piece in pieces)}
    columns = {
        "longest": [piece.longest for piece in pieces],
        "fresh": [piece.fresh for piece in pieces],
        "coverage": [piece.coverage for piece in pieces],
        "likeness": [piece.likeness.share for piece in pieces if piece.likeness],
    }
    for name, values in columns.items():
        if values:
            median, high = np.quantile(values, [0.5, 0.95])
            summary[name] = {"median": float(median), "p95": float(high), "max": float(max(values))}
    return summary


def _judge(
    corpus: Corpus, limits: Limits, piece: Material, runs: Runs, likeness: Likeness | None
) -> PieceCopy:
    best, here, there = runs.freshest, None, None
    if best is not None:
        length = int(runs.lengths[best])
        here = _place(piece, int(runs.starts[best]), length)
        source = corpus.piece(int(runs.pieces[best]))
        there = _place(source, int(runs.corpus_starts[best]), length)
    return PieceCopy(
        name=piece.name,
        n_units=piece.n_units,
        longest=runs.longest,
        fresh=int(runs.fresh.max(initial=0)),
        coverage=runs.coverage(limits.block),
        here=here,
        there=there,
        likeness=likeness,
        exceeded=limits.exceeded(runs, likeness),
    )


def _place(piece: Material, start: int, length: int) -> Place:
    last = start + length - 1
    bars = None if piece.bars is None else (int(piece.bars[start]), int(piece.bars[last]))
    return Place(piece.name, start + 1, last + 1, bars)


def _piece_json(piece: PieceCopy) -> dict:
    return {**asdict(piece), "closest": piece.closest, "is_copy": piece.is_copy}
