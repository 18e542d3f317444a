"""The likelihood part of an evaluation: sets of pieces under this run, n-gram models, other runs.

Nats per token depend on the tokenizer and are not comparable between tokenizers. Bits per unit
(`Tokenizer.unit`: a note, a byte) and per second are: they divide the bits of a piece, without its
special tokens, by what it holds. Notes and seconds are those that miditoolkit counts.

Legend: T positions, F fields, P pieces, R resamples.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

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
from seqgen.evaluation.subject import EvaluatedRun, check_beside
from seqgen.tokenizers import Tokenizer
from seqgen.tokenizers.grid import VOICES
from seqgen.vocabulary import Vocabulary

OWN, NGRAM, BESIDE = "own", "n-gram", "beside"  # kinds of models in a record
STEPPED_TARGETS = 40_000  # of the pieces that are also stepped through
STEPPED_POSITIONS = 4096  # of one of them at least; more where windows of training were longer
AGREE = 1e-2  # nats: the two forms of a token may differ by rounding, never by this much
RESAMPLES, SEED = 1000, 0
QUANTILES = (0.025, 0.975)  # an interval holds 95% of the resampled means
Value = dict[str, Any]  # of a record: `value`, and `low` and `high` of its interval, or None


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
    training, training_curves = None, None
    if sets.training is not None:
        curves, entries = score_model(run, sets.training, kind=OWN, progress=progress)
        training, training_curves = {**sets.training.facts(), "models": entries}, curves["windows"]
    ngrams: dict[str, Iterator[np.ndarray]] = {}
    if isinstance(data, PreparedData):  # all sets in one go: counting is what takes the time
        progress("counting n-grams", 0, 1)
        curves_of_all = ngram_curves(data, [ids for x in sets.held_out for ids in x.ids])
        ngrams = {name: iter(curves) for name, curves in curves_of_all.items()}
        progress("counting n-grams", 1, 1)
    scored = []
    for pieces in sets.held_out:
        of_set = {name: list(islice(rest, len(pieces.items))) for name, rest in ngrams.items()}
        scored.append(_score_set(run, pieces, of_set, beside, training_curves, progress))
    rivals = zip(beside, differences, strict=True)
    return {
        "step": run.loaded.step,
        "context_length": run.context_length,
        "chance_nats_per_token": sum(map(math.log, run.loaded.tokenizer.vocabulary.sizes)),
        "no_ngram_models": data if isinstance(data, str) else "",
        "counted": None if isinstance(data, str) else counted_tokens(data),
        "training": training,
        "sets": scored,
        "beside": [{**rival.facts(), "differences": different} for rival, different in rivals],
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
    nats, n_targets = mean_of(*_totals(curves)), sum(map(len, curves))
    per_unit = per_second = None
    if n_targets == pieces.n_targets:  # whole: what a file holds belongs to these bits
        bits = []  # of each piece, without its special tokens
        for ids, curve in zip(pieces.ids, curves, strict=True):
            is_material = ~np.isin(ids[1:, 0], vocabulary.special_ids)
            bits.append(float(curve[is_material].sum()) / math.log(2))
        per_unit = mean_of(bits, [amount.units for amount in pieces.amounts])
        per_second = mean_of(bits, [amount.seconds for amount in pieces.amounts])
    return {
        "name": name,
        "kind": kind,
        "form": form,
        "targets": n_targets,
        "nats_per_token": nats,
        "bits_per_token": scaled(nats, 1 / math.log(2)),
        "nats_by_field": {
            field.name: float(sum(curve[:, f].sum() for curve in curves) / max(n_targets, 1))
            for f, field in enumerate(vocabulary.fields)
        },
        "bits_per_unit": per_unit,
        "bits_per_second": per_second,
    }


def paired(a: Curves, b: Curves) -> dict | None:
    """Mean nats per token of `a` minus `b` on the same targets, with an interval over pieces."""
    sizes = [min(len(x), len(y)) for x, y in zip(a, b, strict=True)]  # learned positions end
    differences = [float(x[:n].sum() - y[:n].sum()) for x, y, n in zip(a, b, sizes, strict=True)]
    return mean_of(differences, sizes)


def per_cell(whole: dict, pieces: PieceSet) -> dict:
    """What pieces of a grid cost per cell, and per frame, a step of all voices, in nats.

    `whole` is the `entry` of whole pieces. Their ends are not counted.
    """
    nats, cells = scaled(whole["bits_per_unit"], math.log(2)), pieces.facts()["units"]
    return {
        "cells": cells,
        "frames": cells // VOICES,
        "nats_per_cell": nats,
        "nats_per_frame": scaled(nats, VOICES),
    }


def position_ranges(curves: Curves) -> list[dict]:
    """Average over ranges of positions, nats summed over fields."""
    return [asdict(part) for part in by_ranges([curve.sum(axis=1) for curve in curves])]


def split_by_repeats(
    models: Sequence[tuple[str, str, Curves]], pieces: Sequence[np.ndarray], tokenizer: Tokenizer
) -> list[dict]:
    """Put nats [T - 1, F] of pieces [T, F] on scales, by whether tokens repeat an earlier bar.

    What is repeated is music of a bar that its part has played before; quotes are, and names of
    parts and beginnings of bars are not. Special tokens are left out.

    Args:
        models: name and kind of each model, and its curves, which may end before the pieces do.
        pieces: the pieces.
        tokenizer: of the pieces.

    Returns:
        An entry of the record for each model; none where tokens have no bars.
    """
    facts = []  # of each piece [3, T - 1]: is it material, does it repeat, how many units are it
    for ids in pieces:
        found = tokenizer.repeats(ids)
        if found is None:
            return []
        is_material = ~np.isin(ids[:, 0], tokenizer.vocabulary.special_ids)
        facts.append(np.stack([is_material, *found])[:, 1:])
    entries = []
    for name, kind, curves in models:
        cut = [of[:, : len(curve)] for of, curve in zip(facts, curves, strict=True)]
        is_material, is_repeated, units = np.concatenate(cut, axis=1)
        nats = np.concatenate(curves).sum(axis=1)
        of_model: dict = {"name": name, "kind": kind}
        for group, flag in (("repeated", True), ("other", False)):
            chosen = (is_material > 0) & (is_repeated == flag)
            n, n_units = int(chosen.sum()), int(units[chosen].sum())
            total = float(nats[chosen].sum())
            of_model[group] = {
                "targets": n,
                "units": n_units,
                "nats": total,
                "nats_per_token": total / n if n else None,
                "bits_per_unit": total / math.log(2) / n_units if n_units else None,
            }
        entries.append(of_model)
    return entries


def _score_set(
    run: EvaluatedRun,
    pieces: PieceSet,
    ngrams: dict[str, Curves],
    beside: Sequence[EvaluatedRun],
    training: Curves | None,
    progress: Progress,
) -> dict:
    """The record of one held-out set; `training` are the run's nats on training pieces."""
    tokenizer = run.loaded.tokenizer
    own, entries = score_model(run, pieces, kind=OWN, progress=progress)
    forms = compare_forms(run, pieces, own["parallel"], progress=progress)
    scored, rivals = [(run.name, OWN, own["parallel"])], []
    for name, curves in ngrams.items():
        entries.append(entry(name, curves, pieces, tokenizer.vocabulary, kind=NGRAM))
        scored.append((name, NGRAM, curves))
    best = min(entries[2:], key=lambda e: e["nats_per_token"]["value"], default={}).get("name")
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
        "repeats": split_by_repeats(scored, pieces.ids, tokenizer),
        "grid": per_cell(entries[1], pieces) if tokenizer.unit == "cell" else None,
        "best_ngram": best and {"name": best, "difference": paired(own["windows"], ngrams[best])},
        "beside": rivals,
        # Held-out minus training pieces.
        "gap": training and mean_of(*_totals(own["windows"]), minus=_totals(training)),
    }


def mean_of(
    sums: Sequence[float], counts: Sequence[float], *, minus: tuple | None = None
) -> Value | None:
    """Divide the sum of `sums` [P] by that of `counts` [P], with a percentile interval over pieces.

    With other sums and counts in `minus`, their mean is subtracted. Pieces are drawn with
    replacement, each set by itself; sums and counts of a piece stay together (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapters 6 and 13). None where all counts of a set are
    0; no interval where a set has one piece only.
    """
    value, drawn, fewest = 0.0, np.zeros(RESAMPLES), len(sums)
    for i, of_set in enumerate([(sums, counts)] if minus is None else [(sums, counts), minus]):
        found = np.array(of_set, dtype=float)  # [2, P]
        n, sign = found.shape[1], (-1) ** i
        if found[1].sum() <= 0:
            return None
        value += sign * float(found[0].sum() / found[1].sum())
        chosen = np.random.default_rng(SEED + i).integers(n, size=(RESAMPLES, n))
        totals, counted = found[:, chosen].sum(axis=2)  # [R]
        # No number where nothing was counted in a set that was drawn.
        drawn += sign * totals / np.where(counted > 0, counted, np.nan)
        fewest = min(fewest, n)
    low, high = np.nanquantile(drawn, QUANTILES).tolist() if fewest > 1 else (None, None)
    return {"value": value, "low": low, "high": high}


def scaled(value: Value | None, factor: float) -> Value | None:
    """The same on another scale."""
    return value and {key: x if x is None else x * factor for key, x in value.items()}


def _totals(curves: Curves) -> tuple[list[float], list[int]]:
    """Nats and targets of each piece."""
    return [float(curve.sum()) for curve in curves], [len(curve) for curve in curves]


def _teller(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(what, done, total)

    return tell
