"""The likelihood part of an evaluation: sets of pieces under this run, n-gram models, other runs.

Legend: T positions, F fields.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import islice

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.data.shards import PreparedData
from seqgen.evaluation.likelihood import (
    Curves,
    by_ranges,
    score_piece,
    score_recurrent,
    score_windows,
    within_limit,
)
from seqgen.evaluation.ngrams import counted_tokens, ngram_curves
from seqgen.evaluation.piece_sets import PieceSet, Sets
from seqgen.evaluation.repeats import split_by_repeats
from seqgen.evaluation.scales import Value, gap_between, mean_of
from seqgen.evaluation.subject import EvaluatedRun, check_beside
from seqgen.tokenizers.grid import VOICES
from seqgen.vocabulary import Vocabulary

OWN, NGRAM, BESIDE = "own", "n-gram", "beside"  # kinds of models in a record
STEPPED_TARGETS = 40_000  # of the pieces that are also stepped through
STEPPED_POSITIONS = 4096  # of one of them at least; more where windows of training were longer
AGREE = 1e-2  # nats: the two forms of a token may differ by rounding, never by this much


def evaluate_likelihood(
    run: EvaluatedRun,
    sets: Sets,
    *,
    data: PreparedData | str,
    beside: Sequence[EvaluatedRun] = (),
    progress: Progress,
) -> dict:
    """Score all sets with the run, n-gram models and the runs `beside` it.

    `data` is what the run was trained on, or why it is not here: then there are no n-gram models.
    UserError where a run beside it is not comparable.
    """
    differences = [check_beside(run, rival) for rival in beside]
    sizes = run.loaded.tokenizer.vocabulary.sizes
    training, training_curves = None, None
    if sets.training is not None:
        curves, entries = score_model(run, sets.training, kind=OWN, progress=progress)
        training, training_curves = {**sets.training.facts(), "models": entries}, curves["windows"]
    ngrams: list[dict[str, Curves]] = [{} for _ in sets.held_out]
    if isinstance(data, PreparedData):
        ngrams = _score_ngrams(data, sets.held_out, progress)
    return {
        "step": run.loaded.step,
        "context_length": run.context_length,
        "chance_nats_per_token": sum(math.log(size) for size in sizes),
        "no_ngram_models": data if isinstance(data, str) else "",
        "counted": None if isinstance(data, str) else counted_tokens(data),
        "training": training,
        "sets": [
            _score_set(run, pieces, curves, beside, training_curves, progress)
            for pieces, curves in zip(sets.held_out, ngrams, strict=True)
        ],
        "beside": [
            {**rival.facts(), "differences": different}
            for rival, different in zip(beside, differences, strict=True)
        ],
    }


def score_model(
    run: EvaluatedRun, pieces: PieceSet, *, kind: str, progress: Progress
) -> tuple[dict[str, Curves], list[dict]]:
    """Score a set in windows and whole; return curves by form, and an entry of the record each."""
    model, vocabulary = run.loaded.model, run.loaded.tokenizer.vocabulary
    what = f"{pieces.name}: scoring" + (f" {run.name}" if kind == BESIDE else "")
    tell = _teller(progress, f"{what}, in windows", pieces.n_targets)
    windows = score_windows(model, pieces.ids, length=run.context_length, tell=tell)
    whole = within_limit(model, pieces.ids)
    tell = _teller(progress, f"{what}, whole", sum(len(part) - 1 for part in whole))
    parallel = [score_piece(model, part, tell=tell) for part in whole]
    return {"windows": windows, "parallel": parallel}, [
        entry(run.name, windows, pieces, vocabulary, kind=kind, form="windows"),
        entry(run.name, parallel, pieces, vocabulary, kind=kind),
    ]


def compare_forms(
    run: EvaluatedRun, pieces: PieceSet, parallel: Curves, *, progress: Progress
) -> dict:
    """Step through some of the pieces and compare the nats of each token with the parallel form."""
    model = run.loaded.model
    most = max(STEPPED_POSITIONS, 2 * run.context_length)
    chosen, n_targets = [], 0
    for ids in within_limit(model, pieces.ids):
        if n_targets >= STEPPED_TARGETS:
            break
        chosen.append(ids[: most + 1])
        n_targets += len(chosen[-1]) - 1
    tell = _teller(progress, f"{pieces.name}: scoring, step by step", n_targets)
    stepped = score_recurrent(model, chosen, tell=tell)
    parallel = [curve[: len(ids) - 1] for curve, ids in zip(parallel, chosen, strict=False)]
    differences = [
        np.abs(a.sum(axis=1) - b.sum(axis=1)) for a, b in zip(parallel, stepped, strict=True)
    ]
    largest = float(np.concatenate(differences).max())  # numpy's maximum keeps what is no number
    return {
        "pieces": len(chosen),
        "targets": n_targets,
        "largest_difference_nats": largest,
        "agree": bool(largest <= AGREE),
        "parallel": position_ranges(parallel),
        "recurrent": position_ranges(stepped),
    }


def entry(
    name: str,
    curves: Curves,
    pieces: PieceSet,
    vocabulary: Vocabulary,
    *,
    kind: str,
    form: str = "whole pieces",
) -> dict:
    """Put nats [T - 1, F] of the pieces of a set on every scale that holds for them.

    `form` is "windows" or "whole pieces".
    """
    totals, sizes = [curve.sum(axis=1) for curve in curves], [len(curve) for curve in curves]
    nats, n_targets = mean_of([total.sum() for total in totals], sizes), sum(sizes)
    per_unit = per_second = None
    if n_targets == pieces.n_targets:  # whole: what a file holds belongs to these bits
        bits = []  # of each piece, without its special tokens
        for ids, total in zip(pieces.ids, totals, strict=True):
            is_material = ~np.isin(ids[1:, 0], vocabulary.special_ids)
            bits.append(float(total[is_material].sum()) / math.log(2))
        per_unit = mean_of(bits, [amount.units for amount in pieces.amounts])
        per_second = mean_of(bits, [amount.seconds for amount in pieces.amounts])
    return {
        "name": name,
        "kind": kind,
        "form": form,
        "targets": n_targets,
        "nats_per_token": _as_record(nats),
        "bits_per_token": _as_record(nats and nats.scaled(1 / math.log(2))),
        "nats_by_field": {
            field.name: float(sum(curve[:, f].sum() for curve in curves) / max(n_targets, 1))
            for f, field in enumerate(vocabulary.fields)
        },
        "bits_per_unit": _as_record(per_unit),
        "bits_per_second": _as_record(per_second),
    }


def paired(a: Curves, b: Curves) -> dict | None:
    """Mean nats per token of `a` minus `b` on the same targets, with an interval over pieces."""
    sizes = [min(len(x), len(y)) for x, y in zip(a, b, strict=True)]  # learned positions end
    differences = [float(x[:n].sum() - y[:n].sum()) for x, y, n in zip(a, b, sizes, strict=True)]
    return _as_record(mean_of(differences, sizes))


def per_cell(whole: dict, pieces: PieceSet) -> dict:
    """What whole pieces of a grid cost per cell, and per frame, a step of all voices, in nats.

    Args:
        whole: the `entry` of whole pieces.
        pieces: what it is of, counted in cells. Their ends are not counted.
    """
    bits, cells = whole["bits_per_unit"], pieces.facts()["units"]
    nats = Value(**bits).scaled(math.log(2)) if bits else None
    return {
        "cells": cells,
        "frames": cells // VOICES,
        "nats_per_cell": _as_record(nats),
        "nats_per_frame": _as_record(nats and nats.scaled(VOICES)),
    }


def position_ranges(curves: Curves) -> list[dict]:
    """Average over ranges of positions, nats summed over fields."""
    return [asdict(part) for part in by_ranges([curve.sum(axis=1) for curve in curves])]


def _as_record(value: Value | None) -> dict | None:
    return None if value is None else asdict(value)


def _score_ngrams(
    data: PreparedData, sets: Sequence[PieceSet], progress: Progress
) -> list[dict[str, Curves]]:
    """Score all sets with n-gram models in one go: counting is what takes the time."""
    progress("counting n-grams", 0, 1)
    curves = ngram_curves(data, [ids for pieces in sets for ids in pieces.ids])
    progress("counting n-grams", 1, 1)
    rest = {name: iter(of_all) for name, of_all in curves.items()}
    return [
        {name: list(islice(of_rest, len(pieces.items))) for name, of_rest in rest.items()}
        for pieces in sets
    ]


def _score_set(
    run: EvaluatedRun,
    pieces: PieceSet,
    ngrams: dict[str, Curves],
    beside: Sequence[EvaluatedRun],
    training: Curves | None,
    progress: Progress,
) -> dict:
    """The record of one held-out set; `training` are the run's nats on training pieces."""
    vocabulary = run.loaded.tokenizer.vocabulary
    own, entries = score_model(run, pieces, kind=OWN, progress=progress)
    forms = compare_forms(run, pieces, own["parallel"], progress=progress)
    found = {name: entry(name, c, pieces, vocabulary, kind=NGRAM) for name, c in ngrams.items()}
    entries += found.values()
    scored = [(run.name, OWN, own["parallel"]), *((name, NGRAM, c) for name, c in ngrams.items())]
    best = min(found, key=lambda name: found[name]["nats_per_token"]["value"], default=None)
    rivals = []
    for rival in beside:
        theirs, of_rival = score_model(rival, pieces, kind=BESIDE, progress=progress)
        entries += of_rival
        scored.append((rival.name, BESIDE, theirs["parallel"]))
        rivals.append(
            {
                "name": rival.name,
                "attention": rival.attention,
                "difference": paired(own["windows"], theirs["windows"]),
                "difference_whole": paired(own["parallel"], theirs["parallel"]),
                "by_position": position_ranges(theirs["parallel"]),
            }
        )
    return {
        **pieces.facts(),
        "models": entries,
        "forms": forms,
        "repeats": split_by_repeats(scored, pieces.ids, run.loaded.tokenizer),
        "grid": per_cell(entries[1], pieces) if run.loaded.tokenizer.unit == "cell" else None,
        "best_ngram": best and {"name": best, "difference": paired(own["windows"], ngrams[best])},
        "beside": rivals,
        "gap": None if training is None else _gap(own["windows"], training),
    }


def _gap(held_out: Curves, training: Curves) -> dict | None:
    """Nats per token on held-out pieces minus those on training pieces, both in windows."""
    sums = [[float(curve.sum()) for curve in curves] for curves in (held_out, training)]
    counts = [[len(curve) for curve in curves] for curves in (held_out, training)]
    return _as_record(gap_between(sums, counts))


def _teller(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(what, done, total)

    return tell
