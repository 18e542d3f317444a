"""The sampling operations that settings need."""

from typing import NamedTuple

from seqgen.sampling.settings import Sampling


class Flags(NamedTuple):
    """What a draw has to do; the rest costs nothing. Equal flags mean equal operations.

    All are 0 or 1, but for `top_k`. Those of several streams are the largest of each.

    Attributes:
        greedy, random: whether there are streams of temperature 0, and of another.
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
    def of(cls, sampling: Sampling, *, largest_field: int) -> "Flags":
        """Return the operations that one stream's settings need."""
        random, k = sampling.temperature > 0, sampling.top_k or 0
        return cls(
            greedy=int(not random),
            random=int(random),
            repetition=int(sampling.repetition_penalty != 1),
            frequency=int(sampling.frequency_penalty != 0),
            bias=int(bool(sampling.logit_bias)),
            top_k=min(1 << (k - 1).bit_length(), largest_field) if random and k else 0,
            top_p=int(random and (sampling.top_p or 1) < 1),
            min_p=int(random and (sampling.min_p or 0) > 0),
            typical=int(random and (sampling.typical_p or 1) < 1),
        )
