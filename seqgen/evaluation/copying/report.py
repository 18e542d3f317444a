"""What generated pieces share with the training set, beside what held-out real pieces share.

Legend: T positions, F fields.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from seqgen.data.corpora import Progress, tracked
from seqgen.data.shards import Piece, PreparedData
from seqgen.data.splits import TRAIN
from seqgen.evaluation.copying.limits import LEAST, Likeness, Limits, find_likeness, find_limits
from seqgen.evaluation.copying.material import Material, note_material, token_material
from seqgen.evaluation.copying.runs import Runs, shared_runs
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.piece_sets import Item
from seqgen.evaluation.scales import decoded
from seqgen.tokenizers import Tokenizer

# Tokens that are indexed, some 100 bytes for each. All pieces are, as they are; shifted ones only
# as long as there is room, since in notes they are found anyway.
MOST_TOKENS = 10_000_000
Tell = Callable[[int, int], None]  # pieces done, of how many


@dataclass(frozen=True)
class Passage:
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
        is_copy: whether it is flagged.
        closest: the training piece to look at: that it is like, or that has its freshest run.
    """

    name: str
    n_units: int
    longest: int
    fresh: int
    coverage: float
    here: Passage | None
    there: Passage | None
    likeness: Likeness | None
    exceeded: tuple[str, ...]
    is_copy: bool
    closest: str | None


@dataclass(frozen=True)
class CopyReport:
    """Both sets of pieces, in the order given, under the limits that the held-out ones set."""

    n_training: int
    n_training_units: int
    limits: Limits
    generated: tuple[PieceCopy, ...]
    held_out: tuple[PieceCopy, ...]

    def to_json(self) -> dict:
        """Return all as plain values, with a summary of each set."""
        sets = {"generated": self.generated, "held_out": self.held_out}
        return asdict(self) | {
            name: {"summary": _summary(pieces), "pieces": [asdict(piece) for piece in pieces]}
            for name, pieces in sets.items()
        }


def find_copies(
    generated: Sequence[Material],
    held_out: Sequence[Material],
    training: Sequence[Material],
    *,
    least: int = LEAST,
    tell: Tell = lambda done, total: None,
) -> CopyReport:
    """Compare pieces of one kind of material.

    Training pieces may come in several variants of one name. Limits come from the held-out pieces,
    of which those that exceed them are flagged too: real pieces that the corpus holds twice.
    `least` units or fewer in a row are never a copy. ValueError where no training piece has
    anything to compare.
    """
    pieces = [*generated, *held_out]
    tell(0, len(pieces))
    runs, likenesses = shared_runs(training, pieces), []
    for piece, of_piece in zip(pieces, runs, strict=True):
        likenesses.append(find_likeness(training, piece, of_piece))
        tell(len(likenesses), len(pieces))
    n = len(generated)
    limits = find_limits(runs[n:], likenesses[n:], least=least)
    judged = [
        _judge(training, limits, *found) for found in zip(pieces, runs, likenesses, strict=True)
    ]
    return CopyReport(
        n_training=len({piece.name for piece in training}),
        n_training_units=sum(piece.n_units for piece in training),
        limits=limits,
        generated=tuple(judged[:n]),
        held_out=tuple(judged[n:]),
    )


def copied_notes(
    generated: Sequence[Generated],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict | str:
    """Longest runs of notes in any key; all pieces as their tokens have them.

    Returns a sentence where the training pieces hold no notes to compare.
    """
    materials: list[Material] = []
    for piece in tracked(data.of_split(TRAIN), "copying: reading training pieces", progress):
        materials += _notes(piece.file, data.read(piece), data.tokenizer)
    if not any(len(material.symbols) for material in materials):
        return "Notes are not compared: the training pieces hold none but drums."
    report = find_copies(
        [note_material(p.name, p.drawn_midi) for p in generated if p.drawn_midi is not None],
        [found for item in held_out for found in _notes(item.name, item.ids, data.tokenizer)],
        materials,
        tell=lambda done, total: progress("copying: comparing notes", done, total),
    )
    missing = [p for p in generated if p.drawn_midi is None]
    return report.to_json() | {"not_compared": _reasons(missing)}


def copied_tokens(
    generated: Sequence[Generated],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
    most: int = MOST_TOKENS,
) -> dict:
    """Longest runs of tokens as they are, in training pieces with their transpositions.

    `variants` of the record says how many transposed pieces were indexed, and of how many.
    """
    special = data.tokenizer.vocabulary.special_ids
    training = data.of_split(TRAIN)
    chosen = _within(training, most)

    def material(name: str, ids: np.ndarray) -> Material:
        return token_material(name, ids[~np.isin(ids[:, 0], special)])

    report = find_copies(
        [token_material(p.name, p.drawn_ids) for p in generated if p.drawn_ids is not None],
        [material(item.name, item.ids) for item in held_out],
        [material(piece.file, data.read(piece, variant=variant)) for piece, variant in chosen],
        tell=lambda done, total: progress("copying: comparing tokens", done, total),
    )
    n_variants = sum(len(piece.variants) for piece in training)
    return report.to_json() | {
        "variants": {"indexed": len(chosen), "of": n_variants},
        "not_compared": _reasons([p for p in generated if p.drawn_ids is None]),
    }


def _summary(pieces: Sequence[PieceCopy]) -> dict:
    """How many pieces there are, how many are flagged, and quantiles of what they share."""
    summary: dict = {"n": len(pieces), "n_copies": sum(piece.is_copy for piece in pieces)}
    for name in ("longest", "fresh", "coverage"):
        values = [getattr(piece, name) for piece in pieces]
        if values:
            median, high = np.quantile(values, [0.5, 0.95])
            summary[name] = {"median": float(median), "p95": float(high), "max": float(max(values))}
    return summary


def _judge(
    training: Sequence[Material],
    limits: Limits,
    piece: Material,
    runs: Runs,
    likeness: Likeness | None,
) -> PieceCopy:
    best, here, there = runs.freshest, None, None
    if best is not None:
        length = int(runs.lengths[best])
        here = _passage(piece, int(runs.starts[best]), length)
        source = training[int(runs.pieces[best])]
        there = _passage(source, int(runs.training_starts[best]), length)
    exceeded = limits.exceeded(runs, likeness)
    closest = None if there is None else there.name
    if likeness is not None and "run" not in exceeded and "likeness" in exceeded:
        closest = likeness.name
    return PieceCopy(
        name=piece.name,
        n_units=piece.n_units,
        longest=runs.longest,
        fresh=runs.most_fresh,
        coverage=runs.coverage(limits.block),
        here=here,
        there=there,
        likeness=likeness,
        exceeded=exceeded,
        is_copy=bool(exceeded),
        closest=closest,
    )


def _passage(piece: Material, start: int, length: int) -> Passage:
    last = start + length - 1
    bars = None if piece.bars is None else (int(piece.bars[start]), int(piece.bars[last]))
    return Passage(piece.name, start + 1, last + 1, bars)


def _reasons(missing: Sequence[Generated]) -> list[dict]:
    return [
        {"file": p.name, "reason": p.problem or p.reason or "it holds no complete note"}
        for p in missing
    ]


def _within(pieces: Sequence[Piece], most: int) -> list[tuple[Piece, int]]:
    """All pieces as they are, then shifted ones, turn by turn, while `most` tokens hold them."""
    chosen = [(piece, 0) for piece in pieces]
    room = most - sum(piece.variants[0][1] for piece in pieces)
    for variant in range(1, max((len(piece.variants) for piece in pieces), default=0)):
        for piece in pieces:
            if variant < len(piece.variants) and piece.variants[variant][1] <= room:
                chosen.append((piece, variant))
                room -= piece.variants[variant][1]
    return chosen


def _notes(name: str, ids: np.ndarray, tokenizer: Tokenizer) -> list[Material]:
    midi = decoded(ids, tokenizer)
    return [] if midi is None else [note_material(name, midi)]
