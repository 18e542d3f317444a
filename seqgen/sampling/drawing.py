"""One id from a distribution and one random number."""

from torch import Tensor


def draw_ids(logits: Tensor, numbers: Tensor) -> Tensor:
    """Draw by the inverse of the cumulative distribution, ids in order of the vocabulary.

    Never draws an id of probability 0, however near to 1 the number is and however sums round.

    Args:
        logits: [..., N], -inf for removed ids; at least one id of each row is left.
        numbers: uniform in [0, 1), float64 [...].

    Returns:
        ids [...], int64.
    """
    probabilities = logits.double().softmax(-1)
    # A parallel sum need not rise at every id, so ids of probability 0 are taken out by hand.
    reached = probabilities.cumsum(-1).masked_fill_(probabilities == 0, -1)
    beyond = reached > numbers.unsqueeze(-1) * reached.amax(-1, keepdim=True)
    return beyond.byte().argmax(-1)  # the first
