"""The sampling operations that settings need.

Legend: F fields.
"""

from typing import NamedTuple

import numpy as np

from seqgen.sampling.settings import (
    FREQUENCY_PENALTY,
    MIN_P,
    REPETITION_PENALTY,
    TEMPERATURE,
    TOP_P,
    TYPICAL_P,
)


class Flags(NamedTuple):
    """What a draw has to do; the rest costs nothing. Equal flags mean equal operations.

    All are 0 or 1, but for `top_k`. Those of several streams are the largest of each.

    Attributes:
        greedy, random: whether there are streams with temperature 0 in a field, and with another.
        top_k: 0 if none is kept so, else no smaller than the streams' `top_k`: a power of two or
            the size of the largest field, so that few settings are few sequences of operations.
    """

    greedy: int
    random: int
    repetition: int
    frequency: int
    bias: int
    top_k: int
    top_p: int
    min_p: int
    typical: int

    @classmethod
    def of(
        cls, columns: np.ndarray, top_k: np.ndarray, *, has_bias: bool, largest_field: int
    ) -> "Flags":
        """Return the operations that one stream's settings need.

        Args:
            columns, top_k: `Sampling.columns` [F, 7] and `Sampling.top_ks` [F].
            has_bias: whether it has a bias.
            largest_field: how many ids the largest field has.
        """
        random = columns[columns[:, TEMPERATURE] > 0]
        k = int(top_k[columns[:, TEMPERATURE] > 0].max(initial=0))
        return cls(
            greedy=int(len(random) < len(columns)),
            random=int(len(random) > 0),
            repetition=int((columns[:, REPETITION_PENALTY] != 1).any()),
            frequency=int((columns[:, FREQUENCY_PENALTY] != 0).any()),
            bias=int(has_bias),
            top_k=min(1 << (k - 1).bit_length(), largest_field) if k else 0,
            top_p=int((random[:, TOP_P] < 1).any()),
            min_p=int((random[:, MIN_P] > 0).any()),
            typical=int((random[:, TYPICAL_P] < 1).any()),
        )
