"""What generated pieces share with the training set, beside what held-out real pieces share.

Legend: T positions, F fields.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np

from seqgen.data.corpora import Progress, tracked
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TRAIN
from seqgen.evaluation.copying.limits import Likeness, Limits, find_likeness, find_limits
from seqgen.evaluation.copying.material import Material, note_material, token_material
from seqgen.evaluation.copying.runs import Runs, shared_runs
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.piece_sets import Item, turn_by_turn
from seqgen.evaluation.scales import decoded

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
    """One piece's share in the training set."""

    name: str
    n_units: int  # its tokens, or its notes (those of one onset and pitch are one, drums are none)
    longest: int  # units of the longest run that it shares with a training piece
    fresh: int  # units of its freshest run, without what that repeats of itself
    coverage: float  # the share of its new units in runs of at least `Limits.block` fresh ones
    here: Passage | None  # its freshest run; None where nothing is shared
    there: Passage | None  # the same in a training piece, in one of perhaps several places
    likeness: Likeness | None  # the training piece that its notes are most like; None for tokens
    exceeded: tuple[str, ...]  # the limits that it exceeds
    is_copy: bool  # whether it exceeds any
    closest: str | None  # the training piece to look at: that it is like, or that has its run


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
    tell: Tell = lambda done, total: None,
) -> CopyReport:
    """Compare pieces of one kind of material.

    Training pieces may come in several variants of one name. Limits come from the held-out pieces,
    of which those that exceed them are flagged too: real pieces that the corpus holds twice.
    ValueError where no training piece has anything to compare.
    """
    pieces = [*generated, *held_out]
    tell(0, len(pieces))
    runs, likenesses = shared_runs(training, pieces), []
    for piece, of_piece in zip(pieces, runs, strict=True):
        likenesses.append(find_likeness(training, piece, of_piece))
        tell(len(likenesses), len(pieces))
    n = len(generated)
    limits = find_limits(runs[n:], likenesses[n:])
    found = zip(pieces, runs, likenesses, strict=True)
    judged = [_judge(training, limits, *of_piece) for of_piece in found]
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
    materials = []
    for piece in tracked(data.of_split(TRAIN), "copying: reading training pieces", progress):
        midi = decoded(data.read(piece), data.tokenizer)
        if midi is not None:
            materials.append(note_material(piece.file, midi))
    if not any(len(material.symbols) for material in materials):
        return "Notes are not compared: the training pieces hold none but drums."
    ours = [(p, p.drawn_midi and note_material(p.name, p.drawn_midi)) for p in generated]
    theirs = [note_material(item.name, item.midi) for item in held_out if item.midi is not None]
    return _report("notes", ours, theirs, materials, progress)


def copied_tokens(
    generated: Sequence[Generated],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict:
    """Longest runs of tokens, in training pieces with their transpositions.

    Quotes are replaced by the music that they stand for.

    `variants` of the record says how many transposed pieces were indexed, and of how many.
    """
    special = data.tokenizer.vocabulary.special_ids

    def tokens(name: str, ids: np.ndarray) -> Material:
        return token_material(name, data.tokenizer.write_out(ids[~np.isin(ids[:, 0], special)]))

    # All pieces as they are, then shifted ones, turn by turn, while there is room.
    materials, room = [], MOST_TOKENS
    for piece, variant in turn_by_turn(data.of_split(TRAIN)):
        length = piece.variants[variant][1]
        if not variant or length <= room:
            materials.append(tokens(piece.file, data.read(piece, variant=variant)))
            room -= length
    ours = [(p, p.drawn_ids is not None and tokens(p.name, p.drawn_ids)) for p in generated]
    theirs = [tokens(item.name, item.ids) for item in held_out]
    n_variants = sum(len(piece.variants) for piece in data.of_split(TRAIN))
    variants = {"indexed": len(materials), "of": n_variants}
    return _report("tokens", ours, theirs, materials, progress) | {"variants": variants}


def _report(
    kind: str,
    generated: Sequence[tuple[Generated, Material | Literal[False] | None]],
    held_out: Sequence[Material],
    training: Sequence[Material],
    progress: Progress,
) -> dict:
    """The record of one kind of material, with what has none to compare."""
    tell = partial(progress, f"copying: comparing {kind}")
    report = find_copies([of for _, of in generated if of], held_out, training, tell=tell)
    missing = [
        {"file": piece.name, "reason": piece.problem or piece.reason or "it holds no complete note"}
        for piece, of in generated
        if not of
    ]
    return report.to_json() | {"not_compared": missing}


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
        length, source = int(runs.lengths[best]), training[int(runs.pieces[best])]
        here = _passage(piece, int(runs.starts[best]), length)
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
