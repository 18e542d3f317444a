"""A suffix array in numpy, and the longest match of every place of a query in its text.

Legend: n symbols of the text, m symbols of a query, A suffixes that are not in order yet.
"""

import numpy as np

KEY_BITS = 62  # of a key of several symbols, an int64 that stays positive
NOWHERE = -1  # beyond the end of a query: less than every symbol, equal to none
FIRST_WIDTH, LAST_WIDTH = 8, 512  # symbols of a comparison, which doubles while they are equal
MAX_CELLS = 1 << 20  # symbols that are in memory for comparisons at a time


class SuffixArray:
    """All suffixes of a text of integers [n] in order, ready for queries.

    The text is of integers above 0, and 0 ends each of its parts, the last one too. A query has no
    0, so that no match reaches from one part into the next.
    """

    def __init__(self, text: np.ndarray):
        """Sort the suffixes; ValueError where the text does not end with 0 or has less."""
        if not len(text) or text[-1] != 0 or text.min() < 0:
            raise ValueError("a text has integers from 0 on and ends with 0")
        self.text = text
        self._order = suffix_array(text)

    def longest_matches(self, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each place of a query [m] the longest part from there on that the text has.

        Returns lengths [m] and where in the text one such part begins [m] (anywhere for length 0).
        Manber and Myers' binary search for all places at once: both bounds remember how many
        symbols they share with the query, and what both share is not compared again.
        """
        m = len(query)
        ended = np.append(query, NOWHERE)
        at = np.arange(m)
        low, high = np.full(m, -1), np.full(m, len(self._order))
        low_shares, high_shares = np.zeros(m, dtype=np.int64), np.zeros(m, dtype=np.int64)
        for _ in range(len(self._order).bit_length()):
            middle = (low + high) // 2  # the same as `low` once both are neighbours
            places = self._order[np.maximum(middle, 0)]
            shares = np.minimum(low_shares, high_shares)
            shares += shared_lengths(ended, at + shares, self.text, places + shares)
            is_less = self.text[places + shares] < ended[at + shares]
            is_less[middle < 0] = True  # before the first suffix, there is nothing to compare
            shares[middle < 0] = 0
            low, high = np.where(is_less, middle, low), np.where(is_less, high, middle)
            low_shares = np.where(is_less, shares, low_shares)
            high_shares = np.where(is_less, high_shares, shares)
        best = np.where(low_shares >= high_shares, low, np.minimum(high, len(self._order) - 1))
        return np.maximum(low_shares, high_shares), self._order[np.maximum(best, 0)]


def suffix_array(text: np.ndarray) -> np.ndarray:
    """Return where the suffixes of a text of integers >= 0 [n] begin, in their order [n].

    Prefix doubling, after Manber and Myers, "Suffix arrays: a new method for on-line string
    searches", SIAM Journal on Computing 22(5), 1993; suffixes that are in their place are not
    sorted again, after Larsson and Sadakane, "Faster suffix sorting", Theoretical Computer Science
    387(3), 2007. As many sorts as the longest repetition can be doubled from a few symbols.
    """
    n = len(text)
    ranks = np.zeros(n, dtype=np.int64)  # how many suffixes are less in the symbols compared so far
    active = np.arange(n)
    keys, width = _first_keys(text)
    while len(active):
        active = _refine(active, keys, ranks)
        later = active + width
        inside = later < n
        keys = ranks[active] * (n + 1)
        keys[inside] += ranks[later[inside]] + 1
        width *= 2
    order = np.empty(n, dtype=np.int32 if n < 2**31 else np.int64)
    order[ranks] = np.arange(n)
    return order


def _first_keys(text: np.ndarray) -> tuple[np.ndarray, int]:
    """Pack as many symbols as fit into one key for each suffix [n]; return keys and how many."""
    bits = int(text.max(initial=0) + 1).bit_length()
    width = max(1, min(KEY_BITS // bits, len(text)))
    keys = np.zeros(len(text), dtype=np.int64)
    for shift in range(width):
        keys <<= bits
        keys[: len(text) - shift] += text[shift:] + 1  # 0: the text is over
    return keys, width


def _refine(active: np.ndarray, keys: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Rank the suffixes `active` [A] by their keys [A], and return those that are still equal.

    Keys sort first as the ranks do so far; `ranks` [n] changes in place.
    """
    by_key = np.argsort(keys)
    active, keys = active[by_key], keys[by_key]
    old = ranks[active]
    first, is_first = _group_starts(keys)
    ranks[active] = old + first - _group_starts(old)[0]
    is_alone = is_first & np.append(is_first[1:], True)
    return active[~is_alone]


def _group_starts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For sorted values [A], where the run of equal ones begins [A], and whether it is here [A]."""
    is_first = np.append(True, values[1:] != values[:-1])
    return np.maximum.accumulate(np.where(is_first, np.arange(len(values)), 0)), is_first


def shared_lengths(
    a: np.ndarray, a_places: np.ndarray, b: np.ndarray, b_places: np.ndarray
) -> np.ndarray:
    """How many symbols from `a_places` [m] in a are those from `b_places` [m] in b, as int64 [m].

    Either array must end with a symbol that the other does not have.
    """
    lengths = np.zeros(len(a_places), dtype=np.int64)
    active, width = np.arange(len(a_places)), FIRST_WIDTH
    while len(active):
        parts = np.array_split(active, 1 + len(active) * width // MAX_CELLS)
        going_on = []
        for part in parts:
            columns = lengths[part, None] + np.arange(width)
            left = np.minimum(a_places[part, None] + columns, len(a) - 1)
            right = np.minimum(b_places[part, None] + columns, len(b) - 1)
            is_different = a[left] != b[right]
            ends = is_different.any(axis=1)
            lengths[part] += np.where(ends, is_different.argmax(axis=1), width)
            going_on.append(part[~ends])
        active, width = np.concatenate(going_on), min(2 * width, LAST_WIDTH)
    return lengths
