"""The likelihood part of an evaluation: sets of pieces, count models, other runs beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqgen.data.corpora import Progress
from seqgen.data.shards import PreparedData
from seqgen.evaluation.counted import count_model_curves
from seqgen.evaluation.likelihood import Curves
from seqgen.evaluation.piece_sets import PieceSet, count_items
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
        "training": training,
        "sets": held_out,
        "beside": [
            {**rival.facts(), "differences": different}
            for rival, different in zip(beside, differences, strict=True)
        ],
    }


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
