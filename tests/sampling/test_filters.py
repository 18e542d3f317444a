"""Each filter on four probabilities worked out by hand, two rows with settings of their own."""

import math

import pytest
import torch

from seqgen.sampling import filters

# Unsorted on purpose
ROW = torch.tensor([0.2, 0.5, 0.05, 0.25]).log()
BOTH = torch.stack([ROW, ROW.flip(0)])
UNEVEN = torch.tensor([-3.25, 0.1, math.pi, 1e-3])  # not normalised, of any sign


def column(*values):
    return torch.tensor(values)[:, None]


def kept(logits):
    return [set(torch.isfinite(row).nonzero().flatten().tolist()) for row in logits]


def top_k_and_p(logits, k, p):
    return filters.keep_top_k_and_p(logits, column(*k), column(*p))


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        ((1, 3), [{1}, {0, 2, 3}]),
        ((3, 1), [{0, 1, 3}, {2}]),
        ((4, 0), [{0, 1, 2, 3}] * 2),
        ((0, 2), [{0, 1, 2, 3}, {0, 2}]),
    ],
)
@pytest.mark.parametrize("largest", [4, 8])
def test_top_k(k, expected, largest):
    assert kept(filters.keep_top_k(BOTH, column(*k), largest=largest)) == expected
    assert kept(top_k_and_p(BOTH, k, (1.0, 1.0))) == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ((0.4, 0.6), [{1}, {0, 2}]),
        ((0.8, 0.4), [{0, 1, 3}, {2}]),
        ((1.0, 0.96), [{0, 1, 2, 3}] * 2),
        ((1e-6, 1.0), [{1}, {0, 1, 2, 3}]),
    ],
)
def test_top_p(p, expected):
    assert kept(top_k_and_p(BOTH, (0, 0), p)) == expected


def test_top_p_counts_shares_of_what_top_k_has_left():
    # Of the two first ids, 0.5 and 0.25, the first has two thirds: more than 0.6.
    assert kept(top_k_and_p(BOTH, (2, 0), (0.6, 0.6))) == [{1}, {0, 2}]


@pytest.mark.parametrize(
    ("p", "expected"),
    [((0.45, 0.3), [{1, 3}, {0, 2, 3}]), ((0.0, 1.0), [{0, 1, 2, 3}, {2}])],
)
def test_min_p(p, expected):
    assert kept(filters.keep_min_p(BOTH, column(*p))) == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        # The entropy is 1.165 nats; surprises are 1.609, 0.693, 2.996 and 1.386, so distances
        # 0.444, 0.472, 1.831 and 0.221: ids 3, 0, 1, 2 in this order.
        ((0.2, 0.3), [{3}, {0, 3}]),
        ((0.5, 0.96), [{0, 1, 3}, {0, 1, 2, 3}]),
        ((1.0, 0.2), [{0, 1, 2, 3}, {0}]),
    ],
)
def test_typical(p, expected):
    assert kept(filters.keep_typical(BOTH, column(*p))) == expected


def test_typical_may_remove_the_most_likely_id():
    assert 1 not in kept(filters.keep_typical(BOTH, column(0.2, 1.0)))[0]


@pytest.mark.parametrize(
    "apply",
    [
        lambda x: filters.keep_top_k(x, column(0), largest=2),
        lambda x: top_k_and_p(x, (0,), (1.0,)),
        lambda x: filters.keep_min_p(x, column(0.0)),
        lambda x: filters.keep_typical(x, column(1.0)),
        lambda x: filters.penalize_repetition(x, torch.ones(1, 4, dtype=torch.bool), column(1.0)),
        lambda x: filters.penalize_frequency(x, torch.full((1, 4), 7), column(0.0)),
        lambda x: filters.apply_temperature(x, column(1.0)),
    ],
)
def test_a_neutral_value_changes_no_bit(apply):
    with_removed = UNEVEN.clone()
    with_removed[1] = filters.REMOVED
    peaked = torch.tensor([0.0, 60.0, -60.0, 1.0])  # a rounded sum reaches 1 at once
    for logits in (UNEVEN[None], with_removed[None], peaked[None]):
        assert torch.equal(apply(logits), logits)


@pytest.mark.parametrize("p", [0.3, 0.7, 0.999])
@pytest.mark.parametrize("keep", ["top_p", "typical"])
def test_removed_ids_take_no_share_and_do_not_come_back(keep, p):
    logits = UNEVEN[None].clone()
    logits[0, 2] = filters.REMOVED
    rest = UNEVEN[None, [0, 1, 3]]
    apply = {
        "top_p": lambda x: top_k_and_p(x, (0,), (p,)),
        "typical": lambda x: filters.keep_typical(x, column(p)),
    }[keep]
    assert torch.equal(apply(logits)[:, [0, 1, 3]], apply(rest))
    assert apply(logits)[0, 2] == filters.REMOVED


def test_ids_tied_with_the_last_kept_stay():
    even = torch.zeros(1, 4)
    assert kept(filters.keep_top_k(even, column(2), largest=2)) == [{0, 1, 2, 3}]
    assert kept(top_k_and_p(even, (0,), (0.5,))) == [{0, 1, 2, 3}]
    assert kept(filters.keep_typical(even, column(0.5))) == [{0, 1, 2, 3}]


def test_kept_logits_are_unchanged():
    logits = top_k_and_p(BOTH, (0, 0), (0.6, 0.6))
    assert torch.equal(logits[0, [1, 3]], ROW[[1, 3]])


def test_temperature_sharpens_and_flattens():
    out = filters.apply_temperature(torch.stack([ROW, ROW]), column(0.5, 2.0)).softmax(-1)
    squares, roots = ROW.exp() ** 2, ROW.exp() ** 0.5
    assert torch.allclose(out, torch.stack([squares / squares.sum(), roots / roots.sum()]))


def test_repetition_penalty_lowers_what_was_seen_whatever_its_sign():
    logits = torch.tensor([[2.0, -2.0, 2.0, -2.0]]).repeat(2, 1)
    seen = torch.tensor([[True, True, False, False], [True, False, False, True]])
    out = filters.penalize_repetition(logits, seen, column(2.0, 4.0))
    assert out.tolist() == [[1.0, -4.0, 2.0, -2.0], [0.5, -2.0, 2.0, -8.0]]


def test_frequency_penalty_grows_with_each_time():
    counts = torch.tensor([[0, 1, 3, 0]], dtype=torch.int32).repeat(2, 1)
    out = filters.penalize_frequency(torch.ones(2, 4), counts, column(0.5, -1.0))
    assert out.tolist() == [[1.0, 0.5, -0.5, 1.0], [1.0, 2.0, 4.0, 1.0]]
