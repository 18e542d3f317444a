"""Count models on the pieces that a model is scored on, for tokens of any number of fields.

A compound word is scored field by field, each field by its own history, and the nats are summed:
weaker than a count model of whole words would be if words came back as often as their parts do.

Legend: T positions, F fields.
"""

from collections.abc import Sequence

import numpy as np

from seqgen.data.shards import PreparedData
from seqgen.evaluation.baselines import training_ids
from seqgen.evaluation.count_models import count_model_losses
from seqgen.evaluation.likelihood import Curves

MAX_ORDER = 5
NAMES = {1: "unigram", 2: "bigram", 3: "trigram", 4: "4-gram", 5: "5-gram"}


def count_model_curves(
    data: PreparedData, pieces: Sequence[np.ndarray], *, max_order: int = MAX_ORDER
) -> dict[str, Curves]:
    """Score pieces [T, F] with interpolated n-grams of the training split of `data`.

    Returns:
        By name of the count model: for each piece, nats [T - 1, F].
    """
    training = training_ids(data)
    sizes = [len(ids) - 1 for ids in pieces]
    fields = []  # for each field [max_order, targets]
    for f, size in enumerate(data.tokenizer.vocabulary.sizes):
        losses = count_model_losses(
            (ids[:, f] for ids in training),
            (ids[:, f] for ids in pieces),
            vocab_size=size,
            max_order=max_order,
        )
        fields.append(losses.nats)
    nats = np.stack(fields, axis=-1)  # [max_order, targets, F]
    ends = np.cumsum(sizes)[:-1]
    return {NAMES[order]: np.split(nats[order - 1], ends) for order in range(1, max_order + 1)}
