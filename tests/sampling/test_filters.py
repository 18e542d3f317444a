"""Each filter on four probabilities worked out by hand, one row and two."""

import pytest
import torch

from seqgen.sampling import filters

# Unsorted on purpose: 0.2, 0.5, 0.05, 0.25
ROW = torch.tensor([0.2, 0.5, 0.05, 0.25]).log()
FLIPPED = ROW.flip(0)


def kept(logits):
    return [set(torch.isfinite(row).nonzero().flatten().tolist()) for row in logits]


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize(
    ("apply", "expected"),
    [
        (lambda x: filters.keep_top_k(x, 1), {1}),
        (lambda x: filters.keep_top_k(x, 3), {0, 1, 3}),
        (lambda x: filters.keep_top_k(x, 9), {0, 1, 2, 3}),
        (lambda x: filters.keep_top_p(x, 0.4), {1}),
        (lambda x: filters.keep_top_p(x, 0.6), {1, 3}),
        (lambda x: filters.keep_top_p(x, 0.8), {0, 1, 3}),
        (lambda x: filters.keep_top_p(x, 1.0), {0, 1, 2, 3}),
        (lambda x: filters.keep_min_p(x, 0.45), {1, 3}),
        (lambda x: filters.keep_min_p(x, 0.3), {0, 1, 3}),
        (lambda x: filters.keep_min_p(x, 0.0), {0, 1, 2, 3}),
    ],
)
def test_kept_ids(apply, expected, rows):
    logits = torch.stack([ROW, FLIPPED])[:rows]
    assert kept(apply(logits)) == [expected, {3 - i for i in expected}][:rows]


def test_kept_logits_are_unchanged():
    logits = filters.keep_top_p(ROW[None], 0.6)
    assert torch.equal(logits[0, [1, 3]], ROW[[1, 3]])


def test_temperature_sharpens_and_flattens():
    sharp = filters.apply_temperature(ROW[None], 0.5).softmax(-1)[0]
    squares = torch.tensor([0.04, 0.25, 0.0025, 0.0625])
    assert torch.allclose(sharp, squares / squares.sum())


def test_repetition_penalty_lowers_what_was_seen_whatever_its_sign():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, False, False]])
    out = filters.penalize_repetition(logits, seen, 2.0)
    assert out.tolist() == [[1.0, -4.0, 2.0, -2.0]]
