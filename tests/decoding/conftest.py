"""The decoder of the plain properties of streams, and the shortest prompt."""

import pytest
from streams import make_prompt

from seqgen.decoding import ReferenceDecoder


@pytest.fixture
def decoder(tiny, plain_vocabulary):
    return ReferenceDecoder(tiny(plain_vocabulary, n_layers=1))


@pytest.fixture
def bos(plain_vocabulary):
    return make_prompt(plain_vocabulary)
