"""Likelihood of what repeats an earlier bar of the piece, apart from that of all else.

Legend: T positions, F fields.
"""

import math
from collections.abc import Sequence

import numpy as np

from seqgen.evaluation.likelihood import Curves
from seqgen.tokenizers import Tokenizer

REPEATED, OTHER = "repeated", "other"


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
    special = tokenizer.vocabulary.special_ids
    groups, units = [], []  # of each piece [T - 1]
    for ids in pieces:
        found = tokenizer.repeats(ids)
        if found is None:
            return []
        is_repeated, n_units = found
        names = np.where(is_repeated, REPEATED, OTHER)
        groups.append(np.where(np.isin(ids[:, 0], special), "", names)[1:])
        units.append(n_units[1:])
    return [
        {
            "name": name,
            "kind": kind,
            **{group: _sums(curves, groups, units, group) for group in (REPEATED, OTHER)},
        }
        for name, kind, curves in models
    ]


def _sums(
    curves: Curves, groups: Sequence[np.ndarray], units: Sequence[np.ndarray], wanted: str
) -> dict:
    """What the tokens of one group cost, and the units that they hold."""
    nats, targets, n_units = 0.0, 0, 0
    for curve, group, of_piece in zip(curves, groups, units, strict=True):
        chosen = group[: len(curve)] == wanted
        nats += float(curve.sum(axis=1)[chosen].sum())
        targets += int(chosen.sum())
        n_units += int(of_piece[: len(curve)][chosen].sum())
    return {
        "targets": targets,
        "units": n_units,
        "nats": nats,
        "nats_per_token": nats / targets if targets else None,
        "bits_per_unit": nats / math.log(2) / n_units if n_units else None,
    }
