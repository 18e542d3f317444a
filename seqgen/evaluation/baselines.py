"""What count models reach on the pieces a model was validated on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.data.shards import Piece, PreparedData
from seqgen.data.splits import TRAIN
from seqgen.evaluation.count_models import count_model_losses

MAX_TRAINING_TOKENS = 3_000_000  # counts hardly gain from more, and take memory


@dataclass(frozen=True)
class Score:
    """Likelihood of held-out pieces: nats per target token, and bits per unit without specials."""

    name: str
    nats_per_token: float
    bits_per_unit: float


def count_model_scores(
    data: PreparedData, held_out: Sequence[Piece], *, max_order: int = 5
) -> list[Score]:
    """Score interpolated n-grams of order 1 to `max_order` on `held_out`; one field only.

    They count the training pieces in every variant, as the model has seen them, as long as these
    hold no more than `MAX_TRAINING_TOKENS`.
    """
    training = [ids[:, 0] for ids in training_ids(data)]
    pieces = [data.read(piece)[:, 0] for piece in held_out]
    vocabulary = data.tokenizer.vocabulary
    losses = count_model_losses(
        training, pieces, vocab_size=vocabulary.sizes[0], max_order=max_order
    )
    material = ~np.isin(losses.targets, vocabulary.special_ids)
    units = max(data.tokenizer.units(losses.targets[:, None]), 1)
    return [
        Score(
            f"count model, order {order}",
            float(nats.mean()),
            float(nats[material].sum()) / math.log(2) / units,
        )
        for order, nats in enumerate(losses.nats, start=1)
    ]


def training_ids(data: PreparedData) -> list[np.ndarray]:
    """What count models count: training pieces [T, F] in all variants, within the limit."""
    return [data.read(piece, variant=variant) for piece, variant in _chosen(data)]


def counted_tokens(data: PreparedData) -> tuple[int, int]:
    """How many tokens of the training split count models count, and how many it has."""
    counted = sum(piece.variants[variant][1] for piece, variant in _chosen(data))
    total = sum(length for piece in data.of_split(TRAIN) for _, length in piece.variants)
    return counted, total


def _chosen(data: PreparedData) -> list[tuple[Piece, int]]:
    """The pieces and variants that are counted, within the limit."""
    chosen, n_tokens = [], 0
    for piece, variant in _by_variant(data.of_split(TRAIN)):
        n_tokens += piece.variants[variant][1]
        if chosen and n_tokens > MAX_TRAINING_TOKENS:
            break
        chosen.append((piece, variant))
    return chosen


def _by_variant(pieces: Sequence[Piece]) -> list[tuple[Piece, int]]:
    """All pieces as they are first, then all of them shifted, and so on; in order of their hash.

    Names go by collection and composer, so the first ones by name would be a part of a corpus.
    """
    pieces = sorted(pieces, key=lambda piece: piece.file_hash)
    most = max(len(piece.variants) for piece in pieces)
    return [(p, variant) for variant in range(most) for p in pieces if variant < len(p.variants)]
