"""The likelihood part of an evaluation: sets of pieces under this run, n-gram models, other runs.

Legend: T positions, F fields.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

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
from seqgen.evaluation.piece_sets import PieceSet, Sets, count_items
from seqgen.evaluation.scales import Amount, Value, gap_between, mean_of
from seqgen.evaluation.subject import EvaluatedRun, check_beside
from seqgen.vocabulary import Vocabulary

OWN, NGRAM, BESIDE = "own", "n-gram", "beside"  # kinds of models in a record
STEPPED_TARGETS = 40_000  # of the pieces that are also stepped through
STEPPED_POSITIONS = 4096  # of one of them at least; more where windows of training were longer
AGREE = 1e-2  # nats: the two forms of a token may differ by rounding, never by this much


@dataclass(frozen=True)
class CountedSet:
    """A set of pieces and what each of them holds.

    Attributes:
        pieces: the set.
        in_files: what the file of each piece holds; None where the file is gone or was cut.
        in_tokens: what the tokens of each piece stand for.
    """

    pieces: PieceSet
    in_files: Sequence[Amount | None]
    in_tokens: Sequence[Amount]

    @property
    def has_files(self) -> bool:
        """Whether all pieces were counted in their own files."""
        return all(amount is not None for amount in self.in_files)

    @property
    def amounts(self) -> list[Amount]:
        """What pieces hold in their files, if all are there, else in their tokens."""
        if self.has_files:
            return [amount for amount in self.in_files if amount is not None]
        return list(self.in_tokens)

    @property
    def ids(self) -> list[np.ndarray]:
        """Tokens [T, F] of each piece."""
        return [item.ids for item in self.pieces.items]

    def describe(self) -> dict:
        """What a record says of the set."""
        pieces, amounts = self.pieces, self.amounts
        return {
            "name": pieces.name,
            "is_split": pieces.is_split,
            "pieces": len(pieces.items),
            "available": pieces.n_available,
            "targets": pieces.n_targets,
            "counted_in": "files" if self.has_files else "tokens",
            "notes": sum(amount.notes for amount in amounts),
            "notes_in_tokens": sum(amount.notes for amount in self.in_tokens),
            "seconds": sum(amount.seconds for amount in amounts),
            "bytes": sum(amount.bytes for amount in amounts),
            "skipped": [{"file": file, "reason": reason} for file, reason in pieces.skipped],
            "training_files_among_them": pieces.n_known,
        }


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
        counted = _counted(run, sets.training, progress)
        curves, entries = score_model(run, counted, kind=OWN, progress=progress)
        training, training_curves = {**counted.describe(), "models": entries}, curves["windows"]
    counted_sets = [_counted(run, pieces, progress) for pieces in sets.held_out]
    ngrams: list[dict[str, Curves]] = [{} for _ in counted_sets]
    n_counted = None
    if isinstance(data, PreparedData):
        ngrams = _count_ngrams(data, counted_sets, progress)
        n_counted = dict(zip(("tokens", "of"), counted_tokens(data), strict=True))
    return {
        "step": run.loaded.step,
        "context_length": run.context_length,
        "chance_nats_per_token": sum(math.log(size) for size in sizes),
        "no_ngram_models": data if isinstance(data, str) else "",
        "counted": n_counted,
        "training": training,
        "sets": [
            _score_set(run, counted, curves, beside, training_curves, progress)
            for counted, curves in zip(counted_sets, ngrams, strict=True)
        ],
        "beside": [
            {**rival.facts(), "differences": different}
            for rival, different in zip(beside, differences, strict=True)
        ],
    }


def score_model(
    run: EvaluatedRun, counted: CountedSet, *, kind: str, progress: Progress
) -> tuple[dict[str, Curves], list[dict]]:
    """Score a set in windows and whole; return curves by form, and an entry of the record each."""
    model, ids = run.loaded.model, counted.ids
    what = f"{counted.pieces.name}: scoring" + (f" {run.name}" if kind == BESIDE else "")
    tell = _teller(progress, f"{what}, in windows", counted.pieces.n_targets)
    windows = score_windows(model, ids, length=run.context_length, tell=tell)
    whole = within_limit(model, ids)
    tell = _teller(progress, f"{what}, whole", sum(len(part) - 1 for part in whole))
    parallel = [score_piece(model, part, tell=tell) for part in whole]
    vocabulary = run.loaded.tokenizer.vocabulary
    return {"windows": windows, "parallel": parallel}, [
        entry(run.name, windows, counted, vocabulary, kind=kind, form="windows"),
        entry(run.name, parallel, counted, vocabulary, kind=kind),
    ]


def compare_forms(
    run: EvaluatedRun, counted: CountedSet, parallel: Curves, *, progress: Progress
) -> dict:
    """Step through some of the pieces and compare the nats of each token with the parallel form."""
    model = run.loaded.model
    most = max(STEPPED_POSITIONS, 2 * run.context_length)
    chosen, n_targets = [], 0
    for ids in within_limit(model, counted.ids):
        if n_targets >= STEPPED_TARGETS:
            break
        chosen.append(ids[: most + 1])
        n_targets += len(chosen[-1]) - 1
    tell = _teller(progress, f"{counted.pieces.name}: scoring, step by step", n_targets)
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
    counted: CountedSet,
    vocabulary: Vocabulary,
    *,
    kind: str,
    form: str = "whole pieces",
) -> dict:
    """Put nats [T - 1, F] of the pieces of a set on every scale that holds for them.

    `form` is "windows" or "whole pieces".
    """
    totals = [curve.sum(axis=1) for curve in curves]
    n_targets = sum(len(curve) for curve in curves)
    nats = mean_of([total.sum() for total in totals], [len(curve) for curve in curves])
    per: dict[str, dict | None] = dict.fromkeys(
        ("bits_per_note", "bits_per_second", "bits_per_byte")
    )
    if n_targets == counted.pieces.n_targets:  # whole: what a file holds belongs to these bits
        bits = []  # of each piece, without its special tokens
        for ids, total in zip(counted.ids, totals, strict=True):
            is_material = ~np.isin(ids[1:, 0], vocabulary.special_ids)
            bits.append(float(total[is_material].sum()) / math.log(2))
        units = {"note": "notes", "second": "seconds", "byte": "bytes"}
        for unit, counts in units.items():
            amounts = [getattr(amount, counts) for amount in counted.amounts]
            per[f"bits_per_{unit}"] = as_record(mean_of(bits, amounts))
    return {
        "name": name,
        "kind": kind,
        "form": form,
        "targets": n_targets,
        "nats_per_token": as_record(nats),
        "bits_per_token": as_record(nats and nats.scaled(1 / math.log(2))),
        "nats_by_field": {
            field.name: float(sum(curve[:, f].sum() for curve in curves) / max(n_targets, 1))
            for f, field in enumerate(vocabulary.fields)
        },
        **per,
    }


def paired(a: Curves, b: Curves) -> dict | None:
    """Mean nats per token of `a` minus `b` on the same targets, with an interval over pieces."""
    sizes = [min(len(x), len(y)) for x, y in zip(a, b, strict=True)]  # learned positions end
    differences = [float(x[:n].sum() - y[:n].sum()) for x, y, n in zip(a, b, sizes, strict=True)]
    return as_record(mean_of(differences, sizes))


def position_ranges(curves: Curves) -> list[dict]:
    """Average over ranges of positions, nats summed over fields."""
    return [asdict(part) for part in by_ranges([curve.sum(axis=1) for curve in curves])]


def as_record(value: Value | None) -> dict | None:
    """A value as JSON."""
    return None if value is None else asdict(value)


def _counted(run: EvaluatedRun, pieces: PieceSet, progress: Progress) -> CountedSet:
    def tell(what: str, done: int, total: int) -> None:
        progress(f"{pieces.name}: {what}", done, total)

    return CountedSet(pieces, *count_items(pieces.items, run.loaded.tokenizer, progress=tell))


def _count_ngrams(
    data: PreparedData, sets: Sequence[CountedSet], progress: Progress
) -> list[dict[str, Curves]]:
    """Score all sets with n-gram models in one go: counting is what takes the time."""
    progress("counting n-grams", 0, 1)
    curves = ngram_curves(data, [ids for counted in sets for ids in counted.ids])
    progress("counting n-grams", 1, 1)
    parts, start = [], 0
    for counted in sets:
        stop = start + len(counted.ids)
        parts.append({name: nats[start:stop] for name, nats in curves.items()})
        start = stop
    return parts


def _score_set(
    run: EvaluatedRun,
    counted: CountedSet,
    ngrams: dict[str, Curves],
    beside: Sequence[EvaluatedRun],
    training: Curves | None,
    progress: Progress,
) -> dict:
    """The record of one held-out set; `training` are the run's nats on training pieces."""
    vocabulary = run.loaded.tokenizer.vocabulary
    own, entries = score_model(run, counted, kind=OWN, progress=progress)
    forms = compare_forms(run, counted, own["parallel"], progress=progress)
    found = {name: entry(name, c, counted, vocabulary, kind=NGRAM) for name, c in ngrams.items()}
    entries += found.values()
    best = min(found, key=lambda name: found[name]["nats_per_token"]["value"], default=None)
    rivals = []
    for rival in beside:
        theirs, of_rival = score_model(rival, counted, kind=BESIDE, progress=progress)
        entries += of_rival
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
        **counted.describe(),
        "models": entries,
        "forms": forms,
        "best_ngram": best and {"name": best, "difference": paired(own["windows"], ngrams[best])},
        "beside": rivals,
        "gap": _gap(own["windows"], training),
    }


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


def _teller(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(what, done, total)

    return tell
