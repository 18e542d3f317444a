"""Legend: pieces are ids [T]; losses are [order, target]."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from seqgen.evaluation.ngrams import ngram_losses


def random_pieces(n_pieces, *, vocab_size, seed):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 12, n_pieces)
    return [generator.integers(0, vocab_size, length) for length in lengths]


def plain_nats(train, piece, *, vocab_size, escapes):
    """The formula read off the module docstring with dictionaries; [order][target]."""
    counts = defaultdict(Counter)
    for ids in map(tuple, train):
        for t in range(1, len(ids)):
            for start in range(t + 1):
                counts[ids[start:t]][ids[t]] += 1
    nats = []
    for order in range(1, len(escapes) + 1):
        row = []
        for t in range(1, len(piece)):
            p = 1 / vocab_size
            for width in range(min(order - 1, t) + 1):
                seen = counts[tuple(piece[t - width : t])]
                mass = escapes[width] * len(seen)
                if seen:
                    p = (seen[piece[t]] + mass * p) / (seen.total() + mass)
            row.append(-math.log(p))
        nats.append(row)
    return np.array(nats)


def test_probabilities_equal_those_worked_out_by_hand():
    # Targets of 0 1 0 1 1 are 1 0 1 1: c(0) = 1, c(1) = 3. After 0: 1 twice. After 1: 0 and 1.
    nats, escapes = ngram_losses([np.array([0, 1, 0, 1, 1])], [np.array([0, 1, 0])], vocab_size=3)
    p = np.exp(-nats)
    assert escapes == [1.0] * 5  # one piece leaves nothing to fit them on
    one, zero = (3 + 2 / 3) / 6, (1 + 2 / 3) / 6
    np.testing.assert_allclose(p[0], [one, zero])
    np.testing.assert_allclose(p[1], [(2 + one) / 3, (1 + 2 * zero) / 4])
    # After 0 1: 0 and 1, once each. The first target has no second id before it.
    np.testing.assert_allclose(p[2], [p[1, 0], (1 + 2 * p[1, 1]) / 4])
    np.testing.assert_array_equal(p[3], p[2])


def test_losses_equal_the_plain_formula():
    train = random_pieces(25, vocab_size=3, seed=0)
    held_out = random_pieces(6, vocab_size=3, seed=1)
    nats, escapes = ngram_losses(train, held_out, vocab_size=4, max_order=4)
    expected = [plain_nats(train, p, vocab_size=4, escapes=escapes) for p in held_out]
    np.testing.assert_allclose(nats, np.concatenate(expected, axis=1))


def test_every_order_sums_to_one_for_seen_and_unseen_contexts():
    vocab_size = 5
    train = random_pieces(25, vocab_size=4, seed=2)
    for context in ([0], [4], [1, 2], [4, 3], [0, 0, 1], [3, 2, 1, 0], [2, 4, 0, 1, 1]):
        held_out = [np.array([*context, token]) for token in range(vocab_size)]
        nats, _ = ngram_losses(train, held_out, vocab_size=vocab_size)
        last = nats.reshape(5, vocab_size, len(context))[:, :, -1]
        np.testing.assert_allclose(np.exp(-last).sum(axis=1), 1)


def test_targets_are_every_id_but_the_first_of_each_held_out_piece():
    held_out = [np.array([1, 2, 0]), np.array([2]), np.array([], dtype=np.int64), np.array([0, 1])]
    nats, _ = ngram_losses([np.array([0, 1, 2])], held_out, vocab_size=3, max_order=3)
    assert nats.shape == (3, 3)
    pieces = [held_out[0], held_out[3]]
    np.testing.assert_array_equal(
        nats, ngram_losses([np.array([0, 1, 2])], pieces, vocab_size=3, max_order=3)[0]
    )


def test_contexts_never_cross_pieces():
    train = random_pieces(25, vocab_size=3, seed=3)
    pieces = random_pieces(4, vocab_size=3, seed=4)
    together = ngram_losses(train, pieces, vocab_size=3)[0]
    apart = [ngram_losses(train, [piece], vocab_size=3)[0] for piece in pieces]
    np.testing.assert_allclose(together, np.concatenate(apart, axis=1))


def test_a_lower_order_does_not_depend_on_the_highest():
    train, held_out = (random_pieces(n, vocab_size=3, seed=n) for n in (25, 4))
    five, _ = ngram_losses(train, held_out, vocab_size=3, max_order=5)
    for order in range(1, 5):
        fewer, _ = ngram_losses(train, held_out, vocab_size=3, max_order=order)
        np.testing.assert_allclose(fewer, five[:order])


def test_order_three_learns_what_two_ids_decide_and_order_two_cannot():
    generator = np.random.default_rng(5)

    def xor_piece():
        ids = [2]
        for _ in range(60):  # a fresh bit, then 2 + its exclusive or with the last such result
            ids.append(generator.integers(0, 2))
            ids.append(2 + (ids[-1] ^ (ids[-2] & 1)))
        return np.array(ids)

    pieces = [xor_piece() for _ in range(60)]
    nats = ngram_losses(pieces[10:], pieces[:10], vocab_size=4, max_order=4)[0].mean(axis=1)
    half_a_bit = math.log(2) / 2  # only the fresh bits, every second id, stay unknown
    assert nats[1] > 1.8 * half_a_bit
    assert nats[2] == pytest.approx(half_a_bit, rel=0.05)


def test_escapes_grow_where_pieces_repeat_themselves_and_not_each_other():
    generator = np.random.default_rng(6)
    pieces = [np.tile(generator.integers(0, 20, 8), 6) for _ in range(30)]
    nats, escapes = ngram_losses(pieces[5:], pieces[:5], vocab_size=20)
    assert min(escapes[1:3]) > 4
    assert nats.mean(axis=1)[1:].max() < nats.mean(axis=1)[0] + 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_every_integer_type_gives_the_same_losses(dtype):
    train, held_out = (random_pieces(n, vocab_size=200, seed=n) for n in (25, 4))
    expected, _ = ngram_losses(train, held_out, vocab_size=200)
    nats, _ = ngram_losses(
        (p.astype(dtype) for p in train), (p.astype(dtype) for p in held_out), vocab_size=200
    )
    np.testing.assert_array_equal(nats, expected)
