"""The inverse of the cumulative distribution, at its edges."""

import numpy as np
import torch

from seqgen.sampling.drawing import draw_ids
from seqgen.sampling.filters import REMOVED

HALVES = torch.tensor([REMOVED, 0.0, REMOVED, 0.0, REMOVED, REMOVED])
LAST = float(np.nextafter(1.0, 0.0))


def drawn(logits, numbers):
    numbers = torch.tensor(numbers, dtype=torch.float64)
    return draw_ids(logits.expand(len(numbers), -1), numbers).tolist()


def test_ids_share_the_numbers_in_order_of_the_vocabulary():
    thirds = torch.tensor([0.5, 0.125, 0.375]).log()
    assert drawn(thirds, [0, 0.49, 0.51, 0.62, 0.63, 0.99]) == [0, 0, 1, 1, 2, 2]


def test_a_removed_id_is_never_drawn_not_even_at_the_ends():
    assert drawn(HALVES, [0.0, 0.499, 0.501, LAST, 1.0 - 2**-53]) == [1, 1, 3, 3, 3]


def test_the_last_number_draws_the_last_id_left_whatever_the_sum_rounds_to():
    logits = torch.randn(64, 50, generator=torch.Generator().manual_seed(3)) * 4
    logits[:, 40:] = REMOVED
    numbers = torch.full((64,), LAST, dtype=torch.float64)
    assert draw_ids(logits, numbers).max() < 40
    assert draw_ids(logits, numbers).min() > 20


def test_fields_are_drawn_at_once():
    logits = torch.stack([HALVES, HALVES.flip(0)])[None]
    numbers = torch.tensor([[0.1, 0.9]], dtype=torch.float64)
    assert draw_ids(logits, numbers).tolist() == [[1, 4]]
