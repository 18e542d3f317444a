"""The likelihood part of an evaluation: sets of pieces, count models, other runs beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TRAIN, content_hash
from seqgen.errors import UserError
from seqgen.evaluation.baselines import counted_tokens
from seqgen.evaluation.counted import count_model_curves
from seqgen.evaluation.likelihood import Curves
from seqgen.evaluation.piece_sets import Item, PieceSet, count_items
from seqgen.evaluation.scales import gap_between
from seqgen.evaluation.scoring import (
    Material,
    as_record,
    compare_forms,
    describe,
    entry,
    paired,
    position_ranges,
    score_model,
)
from seqgen.evaluation.subject import Subject, check_beside
from seqgen.evaluation.verdict import nats

OWN, COUNTS, BESIDE = "own", "counts", "beside"


@dataclass(frozen=True)
class Sets:
    """The pieces of an evaluation.

    Attributes:
        training: some of those learned from; None where they are gone.
        held_out: others, the set that the verdict is about first.
    """

    training: PieceSet | None
    held_out: tuple[PieceSet, ...]

    @property
    def asked_for(self) -> tuple[PieceSet, ...]:
        """The held-out sets that the evaluation is of: other files, or else the splits."""
        others = tuple(pieces for pieces in self.held_out if not pieces.is_split)
        return others or self.held_out

    @property
    def own(self) -> tuple[PieceSet, ...]:
        """The held-out sets that limits come from: the run's own splits, where there are any."""
        splits = tuple(pieces for pieces in self.held_out if pieces.is_split)
        return splits or self.held_out

    def without_known(self, data: PreparedData | str) -> "Sets":
        """Leave out files that were learned from; what remains of a set counts them.

        UserError where nothing remains to be judged.
        """
        if isinstance(data, str) or all(pieces.is_split for pieces in self.held_out):
            return self
        held_out = tuple(_unknown(pieces, data) for pieces in self.held_out)
        held_out = tuple(pieces for pieces in held_out if pieces.items)
        if not held_out:
            name = self.held_out[0].name
            raise UserError(f"--data {name}: the model was trained on all of its files")
        return replace(self, held_out=held_out)


def evaluate_likelihood(
    subject: Subject,
    sets: Sets,
    *,
    data: PreparedData | str,
    beside: Sequence[Subject] = (),
    progress: Progress,
) -> dict:
    """Score all sets with the run, count models and the runs `beside` it.

    `data` is what the run was trained on, or why it is not here: then there are no count models.
    UserError where a run beside it is not comparable.
    """
    differences = [check_beside(subject, rival) for rival in beside]
    sets = sets.without_known(data)
    sizes = subject.loaded.tokenizer.vocabulary.sizes
    training, training_curves = None, None
    if sets.training is not None:
        training, training_curves = _training(subject, sets.training, progress=progress)
    materials = [_material(subject, pieces, progress) for pieces in sets.held_out]
    counted = [{} for _ in materials]
    if isinstance(data, PreparedData):
        counted = _count(data, materials, progress)
    held_out = []
    for material, counts in zip(materials, counted, strict=True):
        record, curves = _score_set(subject, material, counts, beside, progress)
        held_out.append({**record, "gap": _gap(curves, training_curves)})
    return {
        "step": subject.loaded.step,
        "context_length": subject.context_length,
        "chance_nats_per_token": sum(math.log(size) for size in sizes),
        "no_count_models": data if isinstance(data, str) else "",
        "counted": _counted(data),
        "training": training,
        "sets": held_out,
        "beside": [
            {**rival.facts(), "differences": different}
            for rival, different in zip(beside, differences, strict=True)
        ],
    }


def _unknown(pieces: PieceSet, data: PreparedData) -> PieceSet:
    """A set of other files without those of the training split."""
    if pieces.is_split:
        return pieces
    hashes = {piece.file_hash for piece in data.of_split(TRAIN)}
    items = tuple(item for item in pieces.items if not _is_known(item, hashes, data))
    n_known = pieces.n_known + len(pieces.items) - len(items)
    return replace(pieces, items=items, n_known=n_known)


def _is_known(item: Item, hashes: set[str], data: PreparedData) -> bool:
    """Whether a file was learned from; of one that was cut, whether a training piece begins so."""
    if item.path is not None:
        return content_hash(item.path.read_bytes()) in hashes
    n = len(item.ids)
    same = (data.read(p)[:n] for p in data.of_split(TRAIN) if p.variants[0][1] >= n)
    return any(np.array_equal(item.ids, ids) for ids in same)


def _counted(data: PreparedData | str) -> dict | None:
    """How many training tokens count models have counted, and of how many."""
    if isinstance(data, str):
        return None
    counted, total = counted_tokens(data)
    return {"tokens": counted, "of": total}


def _material(subject: Subject, pieces: PieceSet, progress: Progress) -> Material:
    def tell(what: str, done: int, total: int) -> None:
        progress(f"{pieces.name}: {what}", done, total)

    return Material(pieces, *count_items(pieces.items, subject.loaded.tokenizer, progress=tell))


def _training(subject: Subject, pieces: PieceSet, *, progress: Progress) -> tuple[dict, Curves]:
    """Score a sample of what was learned from, for the gap to what was not."""
    material = _material(subject, pieces, progress)
    curves, entries = score_model(
        subject, material, kind=OWN, progress=progress, what=f"{pieces.name}: scoring"
    )
    return {**describe(material), "models": entries}, curves["windows"]


def _count(
    data: PreparedData, materials: Sequence[Material], progress: Progress
) -> list[dict[str, Curves]]:
    """Score all sets with count models in one go: counting is what takes the time."""
    progress("counting n-grams", 0, 1)
    curves = count_model_curves(data, [ids for material in materials for ids in material.ids])
    progress("counting n-grams", 1, 1)
    parts, start = [], 0
    for material in materials:
        stop = start + len(material.ids)
        parts.append({name: nats[start:stop] for name, nats in curves.items()})
        start = stop
    return parts


def _score_set(
    subject: Subject,
    material: Material,
    counts: dict[str, Curves],
    beside: Sequence[Subject],
    progress: Progress,
) -> tuple[dict, Curves]:
    """The record of one held-out set, and the run's nats in windows."""
    name = material.pieces.name
    vocabulary = subject.loaded.tokenizer.vocabulary
    own, entries = score_model(
        subject, material, kind=OWN, progress=progress, what=f"{name}: scoring"
    )
    forms = compare_forms(
        subject, material, own["parallel"], progress=progress, what=f"{name}: scoring"
    )
    entries += [entry(n, c, material, vocabulary, kind=COUNTS) for n, c in counts.items()]
    rivals = []
    for rival in beside:
        of_rival, found = _score_rival(rival, material, own, progress)
        entries += found
        rivals.append(of_rival)
    best = min((e for e in entries if e["kind"] == COUNTS), key=lambda e: nats(e), default=None)
    record = {
        **describe(material),
        "label": name,
        "is_split": material.pieces.is_split,
        "models": entries,
        "forms": forms,
        "by_position": position_ranges(own["parallel"]),
        "best_count": best and _beside_counts(best["name"], own["windows"], counts),
        "beside": rivals,
    }
    return record, own["windows"]


def _score_rival(
    rival: Subject, material: Material, own: dict[str, Curves], progress: Progress
) -> tuple[dict, list[dict]]:
    """How another run does on the same pieces, and its entries."""
    what = f"{material.pieces.name}: scoring {rival.name}"
    theirs, entries = score_model(rival, material, kind=BESIDE, progress=progress, what=what)
    return {
        "name": rival.name,
        "attention": rival.attention,
        "difference": paired(own["windows"], theirs["windows"]),
        "difference_whole": paired(own["parallel"], theirs["parallel"]),
        "by_position": position_ranges(theirs["parallel"]),
    }, entries


def _beside_counts(name: str, own: Curves, counts: dict[str, Curves]) -> dict:
    return {"name": name, "difference": paired(own, counts[name])}


def _gap(held_out: Curves, training: Curves | None) -> dict | None:
    """Nats per token on held-out pieces minus those on training pieces, both in windows."""
    if training is None:
        return None
    both = [held_out, training]
    gap = gap_between(
        [[float(curve.sum()) for curve in curves] for curves in both],
        [[len(curve) for curve in curves] for curves in both],
    )
    return as_record(gap)
