"""Legend: a text is parts of integers above 0, each ended by 0."""

import numpy as np
import pytest

from seqgen.evaluation import suffixes
from seqgen.evaluation.suffixes import SuffixArray, shared_lengths, suffix_array


def random_text(generator, *, n_symbols, n_parts=5, longest=20):
    parts = [
        np.append(generator.integers(1, n_symbols + 1, generator.integers(0, longest)), 0)
        for _ in range(n_parts)
    ]
    return np.concatenate(parts)


def shared(a, b):
    """Equal symbols at the beginning of two lists, by looking at each."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


@pytest.mark.parametrize("seed", range(30))
def test_order_equals_that_of_sorted_suffixes(seed):
    generator = np.random.default_rng(seed)
    text = random_text(generator, n_symbols=1 + seed % 3)
    expected = sorted(range(len(text)), key=lambda i: text[i:].tolist())
    assert suffix_array(text).tolist() == expected


def test_order_of_long_repetitions_and_of_symbols_too_large_to_be_packed():
    text = np.append(np.tile([2**40, 1, 2**40], 50), 0)
    expected = sorted(range(len(text)), key=lambda i: text[i:].tolist())
    assert suffix_array(text).tolist() == expected


@pytest.mark.parametrize("seed", range(40))
def test_matches_equal_a_double_loop(seed):
    generator = np.random.default_rng(seed)
    n_symbols = 1 + seed % 4
    text = random_text(generator, n_symbols=n_symbols, n_parts=1 + seed % 6)
    query = generator.integers(1, n_symbols + 2, generator.integers(0, 30))  # one is unknown
    lengths, places = SuffixArray(text).longest_matches(query)
    for i, (length, place) in enumerate(zip(lengths, places, strict=True)):
        assert length == max(shared(query[i:], text[j:]) for j in range(len(text)))
        np.testing.assert_array_equal(query[i : i + length], text[place : place + length])


def test_no_match_reaches_into_the_next_part():
    lengths, _ = SuffixArray(np.array([1, 2, 3, 0, 4, 5, 6, 0])).longest_matches(np.arange(1, 7))
    assert lengths.tolist() == [3, 2, 1, 3, 2, 1]


def test_many_cells_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr(suffixes, "MAX_CELLS", 16)
    text = np.append(np.tile(np.arange(1, 6), 40), 0)
    places = np.arange(100)
    lengths = shared_lengths(np.append(text[:-1], -1), places, text, places + 5)
    assert lengths.tolist() == [195 - place for place in places]


@pytest.mark.parametrize("text", [[], [1, 2], [0, -1, 0]])
def test_a_text_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="ends with 0"):
        SuffixArray(np.array(text, dtype=np.int64))
