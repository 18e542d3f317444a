"""Pieces of one length: places along axes are the same in all decoders, and pieces end whole."""

import numpy as np
import pytest
import torch
from decoders import EXACT
from making import random_tokens

from seqgen.config import ModelConfig
from seqgen.decoding import ReferenceDecoder, generate
from seqgen.errors import UserError
from seqgen.model.positions import AxisPositions, LearnedPositions
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampling
from seqgen.vocabulary import Field, Vocabulary

AXES = (3, 2, 2)  # rows, columns, channels


@pytest.fixture
def vocabulary():
    return Vocabulary((Field("level", 9),), bos_id=7, eos_id=8, pad_id=6, axes=AXES)


def test_each_index_has_the_vectors_of_its_places():
    positions = AxisPositions(4, AXES)
    rows, columns, channels = positions.tables
    for i in range(12):
        place = rows.weight[i // 4] + columns.weight[i // 2 % 2] + channels.weight[i % 2]
        torch.testing.assert_close(positions.rows()[i], place)
    torch.testing.assert_close(
        positions.rows()[12], rows.weight[3] + columns.weight[0] + channels.weight[0]
    )
    assert isinstance(positions, LearnedPositions)
    assert positions.limit == 14  # 12 places, EOS, and what takes EOS


@pytest.mark.parametrize("build", EXACT, ids=lambda build: build.name)
def test_every_decoder_is_the_parallel_form_at_every_position(tiny, vocabulary, build):
    model = tiny(vocabulary, positions="axes", conv_width=2)
    tokens = random_tokens(vocabulary, 3, 14)
    expected = torch.cat(model(tokens), dim=-1)
    decoder = build(model)
    logits, state = decoder.prefill(tokens[:, :5], torch.tensor([5, 5, 5]))
    pool, slots = decoder.open(4), torch.tensor([3, 0, 2])
    pool.write(slots, state)
    steps = [torch.cat(pool.advance(slots, token), 1).clone() for token in tokens[:, 5:].unbind(1)]
    torch.testing.assert_close(torch.stack(steps, 1), expected[:, 5:], atol=2e-4, rtol=2e-5)
    torch.testing.assert_close(torch.cat(logits, -1), expected[:, 4], atol=2e-4, rtol=2e-5)


def test_a_transposed_place_shows(tiny, vocabulary):
    model = tiny(vocabulary, positions="axes", conv_width=0)
    tokens = random_tokens(vocabulary, 1, 12)
    before = model(tokens)[0]
    model.positions.axes = (4, 2, 2)[::-1]
    model.positions.tables = model.positions.tables[::-1]
    assert not torch.allclose(model(tokens)[0], before, atol=1e-2)


def test_pieces_end_when_they_are_whole(tiny, vocabulary):
    decoder = ReferenceDecoder(tiny(vocabulary, positions="axes"))
    never = Sampling(logit_bias=((8, -1e6),))
    prompts = [np.array([[7]]), np.array([[7], [1], [2], [3]])]
    drawn, ended = [0, 0], set()
    for step in generate(decoder, prompts, sampling=never, max_tokens=1000):
        for row in step.rows:
            drawn[row] += 1
        ended |= set(step.ended)
    assert drawn == [12, 9]
    assert ended == {0, 1}


def test_nothing_follows_a_whole_piece(tiny, vocabulary):
    whole = np.array([[7], *[[1]] * 12])
    with pytest.raises(UserError, match="a piece has 12 tokens, and all are given"):
        list(generate(ReferenceDecoder(tiny(vocabulary, positions="axes")), [whole]))


def test_axes_are_refused_where_pieces_have_none(plain_vocabulary):
    with pytest.raises(UserError, match=r"model\.positions=axes is for pieces of one length"):
        SequenceModel(ModelConfig(positions="axes"), plain_vocabulary)
