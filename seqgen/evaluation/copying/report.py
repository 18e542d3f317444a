"""What generated pieces share with the training set, beside what held-out real pieces share.

Legend: T positions, F fields.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from seqgen.data.corpora import Progress, tracked
from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.data.splits import TRAIN
from seqgen.evaluation.copying.limits import CopyLimits, Likeness, find_likeness, find_limits
from seqgen.evaluation.copying.material import Material, note_material, token_material
from seqgen.evaluation.copying.runs import SharedRuns, shared_runs
from seqgen.evaluation.generated import GeneratedFile
from seqgen.evaluation.piece_sets import Item, decoded_midi, turn_by_turn
from seqgen.midi import MidiFile

MOST_TOKENS = 10_000_000  # beyond which no shifted pieces are read: notes find their copies anyway
KEPT = 5000  # training pieces that stay in memory; others are read again where they are needed


class TrainingSet(Sequence[Material]):
    """Training pieces in some of their variants, each read when it is asked for."""

    def __init__(self, chosen: Sequence[tuple[StoredPiece, int]], read: Callable[..., Material]):
        self._n = len(chosen)
        self._read = lru_cache(KEPT)(lambda i: read(*chosen[i]))

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        if i >= self._n:
            raise IndexError(i)
        return self._read(int(i))


def copied_notes(
    generated: Sequence[GeneratedFile],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict | str:
    """Compare notes in any key; all pieces as their tokens have them.

    Returns a sentence where the training pieces hold no notes to compare.
    """

    def read(piece: StoredPiece, variant: int) -> Material:
        midi = decoded_midi(data.read(piece), data.tokenizer)
        return note_material(piece.file, midi or MidiFile())

    training = TrainingSet([(piece, 0) for piece in data.of_split(TRAIN)], read)
    ours = [note_material(p.name, p.drawn_midi) for p in generated if p.drawn_midi]
    theirs = [note_material(item.name, item.midi) for item in held_out if item.midi]
    found = find_copies(ours, theirs, training, progress=progress)
    if not found["n_training_units"]:
        return "Notes are not compared: the training pieces hold none but drums."
    return found | {"not_compared": _missing(generated, "drawn_midi")}


def copied_tokens(
    generated: Sequence[GeneratedFile],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict:
    """Compare tokens, in training pieces with their transpositions.

    Quotes are replaced by the music that they stand for. `variants` of the record says how many
    pieces and transposed pieces were compared, and of how many.
    """
    special = data.tokenizer.vocabulary.special_ids

    def tokens(name: str, ids: np.ndarray) -> Material:
        return token_material(name, data.tokenizer.write_out(ids[~np.isin(ids[:, 0], special)]))

    # All pieces as they are, then shifted ones, turn by turn, while there is room.
    chosen, room, n_variants = [], MOST_TOKENS, 0
    for piece, variant in turn_by_turn(data.of_split(TRAIN)):
        length, n_variants = piece.variants[variant][1], n_variants + 1
        if not variant or length <= room:
            chosen.append((piece, variant))
            room -= length
    training = TrainingSet(chosen, lambda x, variant: tokens(x.file, data.read(x, variant=variant)))
    ours = [tokens(p.name, p.drawn_ids) for p in generated if p.drawn_ids is not None]
    theirs = [tokens(item.name, item.ids) for item in held_out]
    found = find_copies(ours, theirs, training, progress=progress)
    found["variants"] = {"indexed": len(chosen), "of": n_variants}
    return found | {"not_compared": _missing(generated, "drawn_ids")}


def find_copies(
    generated: Sequence[Material],
    held_out: Sequence[Material],
    training: Sequence[Material],
    *,
    progress: Progress = lambda what, done, total: None,
) -> dict:
    """Compare pieces of one kind of material; return the record of both sets and of the limits.

    Training pieces may come in several variants of one name. Limits come from the held-out pieces,
    of which those that exceed them are flagged too: real pieces that the corpus holds twice.
    """
    names, n_units = set(), 0

    def read() -> Iterator[Material]:
        nonlocal n_units
        for piece in tracked(training, "copying: reading training pieces", progress):
            names.add(piece.name)
            n_units += piece.n_units
            yield piece

    pieces = [*generated, *held_out]
    runs = shared_runs(read(), pieces)
    compared = tracked([*zip(pieces, runs, strict=True)], "copying: comparing pieces", progress)
    likenesses = [find_likeness(training, *of_piece) for of_piece in compared]
    n = len(generated)
    limits = find_limits(runs[n:], likenesses[n:])
    found = zip(pieces, runs, likenesses, strict=True)
    judged = [_judge(training, limits, *of_piece) for of_piece in found]
    sets = {"generated": judged[:n], "held_out": judged[n:]}
    return {
        "n_training": len(names),
        "n_training_units": n_units,
        "limits": asdict(limits),
        **{name: {"summary": _summary(x), "pieces": x} for name, x in sets.items()},
    }


def _missing(generated: Sequence[GeneratedFile], needed: str) -> list[dict]:
    """Which generated pieces do not have what is compared, and why."""
    return [
        {"file": piece.name, "reason": piece.problem or piece.reason or "it holds no complete note"}
        for piece in generated
        if getattr(piece, needed) is None
    ]


def _summary(pieces: Sequence[dict]) -> dict:
    """How many pieces there are, how many are flagged, and quantiles of what they share."""
    summary: dict = {"n": len(pieces), "n_copies": sum(piece["is_copy"] for piece in pieces)}
    for name in ("longest", "fresh", "coverage") if pieces else ():
        quantiles = np.quantile([piece[name] for piece in pieces], [0.5, 0.95, 1.0])
        summary[name] = dict(zip(("median", "p95", "max"), quantiles.tolist(), strict=True))
    return summary


def _judge(
    training: Sequence[Material],
    limits: CopyLimits,
    piece: Material,
    runs: SharedRuns,
    likeness: Likeness | None,
) -> dict:
    """One piece's share in the training set.

    In the record, `n_units` are its tokens or its notes (those of one onset and pitch are one,
    drums are none); `fresh` is its freshest run, without what that repeats of itself; `coverage`
    the share of its new units in runs of at least `limits.block` fresh ones; `here` and `there` are
    its freshest run and one place in training of perhaps several; and `closest` is the training
    piece to look at, that it is like or that has its run.
    """
    here = there = None
    if len(runs.fresh):  # the longest of those that are equally fresh
        best = np.lexsort((runs.lengths, runs.fresh))[-1]
        source, length = training[runs.pieces[best]], runs.lengths[best]
        here = _passage(piece, runs.starts[best], length)
        there = _passage(source, runs.training_starts[best], length)
    exceeded = limits.exceeded(runs, likeness)
    is_like = "likeness" in exceeded and "run" not in exceeded
    return {
        "name": piece.name,
        "n_units": piece.n_units,
        "longest": runs.longest,
        "fresh": runs.most_fresh,
        "coverage": runs.coverage(limits.block),
        "here": here,
        "there": there,
        "likeness": likeness and asdict(likeness),
        "exceeded": exceeded,
        "is_copy": bool(exceeded),
        "closest": likeness.name if likeness and is_like else there and there["name"],
    }


def _passage(piece: Material, start: int, length: int) -> dict:
    """Units `first` … `last` of a piece, from 1 on, and the bars in which they begin."""
    first, last = int(start), int(start + length) - 1
    bars = None if piece.bars is None else (int(piece.bars[first]), int(piece.bars[last]))
    return {"name": piece.name, "first": first + 1, "last": last + 1, "bars": bars}
