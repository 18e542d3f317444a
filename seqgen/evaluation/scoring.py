"""Likelihood of sets of pieces as a record: this model in three forms, count models, other runs.

Legend: T positions, F fields.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.evaluation.by_position import by_ranges
from seqgen.evaluation.likelihood import (
    Curves,
    score_parallel,
    score_recurrent,
    score_windows,
    within_limit,
)
from seqgen.evaluation.piece_sets import PieceSet
from seqgen.evaluation.scales import Amount, Value, mean_of, to_bits
from seqgen.evaluation.subject import Subject
from seqgen.vocabulary import Vocabulary

STEPPED_TARGETS = 40_000  # of the pieces that are also stepped through
STEPPED_POSITIONS = 4096  # of one of them at least; more where windows of training were longer
AGREE = 1e-2  # nats: the two forms of a token may differ by rounding, never by this much


@dataclass(frozen=True)
class Material:
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
        return list(self.in_files if self.has_files else self.in_tokens)

    @property
    def ids(self) -> list[np.ndarray]:
        """Tokens [T, F] of each piece."""
        return [item.ids for item in self.pieces.items]


def score_model(
    subject: Subject, material: Material, *, kind: str, progress: Progress, what: str
) -> tuple[dict[str, Curves], list[dict]]:
    """Score a set in windows and whole; return curves by form, and an entry of the record each."""
    model, n_targets = subject.loaded.model, material.pieces.n_targets
    ids = material.ids
    windows = score_windows(
        model,
        ids,
        length=subject.context_length,
        tell=_teller(progress, f"{what}, in windows", n_targets),
    )
    whole = within_limit(model, ids)
    n_whole = sum(len(part) - 1 for part in whole)
    parallel = score_parallel(model, whole, tell=_teller(progress, f"{what}, whole", n_whole))
    vocabulary = subject.loaded.tokenizer.vocabulary
    return {"windows": windows, "parallel": parallel}, [
        entry(subject.name, windows, material, vocabulary, kind=kind, form="windows"),
        entry(subject.name, parallel, material, vocabulary, kind=kind, form="whole pieces"),
    ]


def compare_forms(
    subject: Subject, material: Material, parallel: Curves, *, progress: Progress, what: str
) -> dict:
    """Step through some of the pieces and set the nats of each token beside the parallel form's."""
    model = subject.loaded.model
    most = max(STEPPED_POSITIONS, 2 * subject.context_length)
    chosen, room = [], STEPPED_TARGETS
    for ids in within_limit(model, material.ids):
        if chosen and room <= 0:
            break
        chosen.append(ids[: most + 1])
        room -= len(chosen[-1]) - 1
    n_targets = sum(len(ids) - 1 for ids in chosen)
    stepped = score_recurrent(
        model, chosen, tell=_teller(progress, f"{what}, step by step", n_targets)
    )
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
    material: Material,
    vocabulary: Vocabulary,
    *,
    kind: str,
    form: str = "whole pieces",
) -> dict:
    """Put nats [T - 1, F] of the pieces of a set on every scale that holds for them.

    `kind` is "own", "counts" or "beside"; `form` is "windows" or "whole pieces".
    """
    totals = [curve.sum(axis=1) for curve in curves]
    n_targets = [len(curve) for curve in curves]
    nats = mean_of([total.sum() for total in totals], n_targets)
    fields = {
        field.name: float(sum(curve[:, f].sum() for curve in curves) / max(sum(n_targets), 1))
        for f, field in enumerate(vocabulary.fields)
    }
    is_whole = sum(n_targets) == material.pieces.n_targets
    bits = _material_bits(material.ids, totals, vocabulary)
    per = {"bits_per_note": None, "bits_per_second": None, "bits_per_byte": None}
    in_tokens = None
    if is_whole:
        amounts = material.amounts
        per = {
            "bits_per_note": as_record(mean_of(bits, [a.notes for a in amounts])),
            "bits_per_second": as_record(mean_of(bits, [a.seconds for a in amounts])),
            "bits_per_byte": as_record(mean_of(bits, [a.bytes for a in amounts])),
        }
        in_tokens = as_record(mean_of(bits, [a.notes for a in material.in_tokens]))
    return {
        "name": name,
        "kind": kind,
        "form": form,
        "targets": sum(n_targets),
        "nats_per_token": as_record(nats),
        "bits_per_token": as_record(nats and nats.scaled(to_bits(1.0))),
        "nats_by_field": fields,
        **per,
        "bits_per_note_in_tokens": in_tokens,
    }


def _material_bits(
    pieces: Sequence[np.ndarray], totals: Sequence[np.ndarray], vocabulary: Vocabulary
) -> list[float]:
    """Bits of each piece without its special tokens, from nats [T - 1] of its targets."""
    bits = []
    for ids, total in zip(pieces, totals, strict=True):
        is_material = ~np.isin(ids[1 : len(total) + 1, 0], vocabulary.special_ids)
        bits.append(to_bits(float(total[is_material].sum())))
    return bits


def describe(material: Material) -> dict:
    """What a record says of a set of pieces."""
    pieces = material.pieces
    return {
        "name": pieces.name,
        "pieces": len(pieces.items),
        "available": pieces.n_available,
        "targets": pieces.n_targets,
        "counted_in": "files" if material.has_files else "tokens",
        "notes": sum(amount.notes for amount in material.amounts),
        "notes_in_tokens": sum(amount.notes for amount in material.in_tokens),
        "seconds": sum(amount.seconds for amount in material.amounts),
        "bytes": sum(amount.bytes for amount in material.amounts),
        "skipped": [{"file": file, "reason": reason} for file, reason in pieces.skipped],
        "training_files_among_them": pieces.n_known,
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


def _teller(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        progress(what, done, total)

    return tell
