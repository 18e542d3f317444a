"""Guidance: with weight 1 nothing changes, with more the draws lean to what is asked for."""

import numpy as np
import pytest
import torch
from making import random_tokens

from seqgen.config import ModelConfig
from seqgen.decoding import build_decoder, generate
from seqgen.decoding.guided import generate_guided
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampling
from seqgen.vocabulary import Field, Vocabulary

VOCABULARY = Vocabulary((Field("id", 30),), bos_id=0, eos_id=1, pad_id=2)
NOTHING = np.zeros((0, 1), dtype=np.int64)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(d_model=32, n_layers=2, n_heads=2), VOCABULARY)
    with torch.no_grad():  # so that what came before matters
        for parameter in model.parameters():
            parameter *= 3
    return build_decoder(model)


def prompts(n):
    return [random_tokens(VOCABULARY, 1, 5 + r, seed=r)[0].numpy() for r in range(n)]


def forced(token, length):
    """What follows some tokens without a draw."""
    if token[0] % 5:
        return NOTHING
    return random_tokens(VOCABULARY, 1, length, seed=int(token[0]))[0].numpy()


def drawn(steps):
    found = {}
    for step in steps:
        for row, token in zip(step.rows, step.tokens, strict=True):
            found.setdefault(row, []).append(int(token[0]))
    return found


@pytest.mark.parametrize("same", [True, False], ids=["nothing is asked", "weight 1"])
def test_nothing_changes_where_nothing_is_asked_or_with_weight_1(decoder, same):
    given, options = prompts(3), {"max_tokens": 30, "seed": 4}
    others = given if same else prompts(6)[3:]
    stop = lambda row, token: token[0] == 7 and row == 1  # noqa: E731
    plain = generate(
        decoder, given, stop=stop, force=lambda row, token: forced(token, 4), **options
    )
    guided = generate_guided(
        decoder,
        list(zip(given, others, strict=True)),
        scale=2.5 if same else 1.0,
        sampling=[Sampling()] * 3,
        stop=stop,
        force=lambda row, token: (forced(token, 4), forced(token, 4 if same else 2)),
        **options,
    )
    expected, found = drawn(plain), drawn(guided)
    assert found == expected
    assert sum(map(len, found.values())) > 60


def test_more_weight_draws_what_the_asked_stream_likes_more(decoder):
    """The mean of (c - o) over the tokens drawn first rises with the scale."""
    [asked], [free] = prompts(1), prompts(9)[8:]
    logits = [
        decoder.prefill(torch.from_numpy(one)[None], torch.tensor([len(one)]))[0][0][0]
        for one in (asked, free)
    ]
    likes = (torch.log_softmax(logits[0], -1) - torch.log_softmax(logits[1], -1)).numpy()
    means = []
    for scale in (0.0, 1.0, 3.0):
        steps = generate_guided(
            decoder,
            [(asked, free)] * 100,
            scale=scale,
            sampling=[Sampling()] * 100,
            max_tokens=1,
            stop=lambda row, token: False,
            force=lambda row, token: (NOTHING, NOTHING),
            seed=1,
        )
        means.append(np.mean([likes[token] for [token] in drawn(steps).values()]))
    assert means[0] < means[1] < means[2]


def test_a_negative_weight_is_refused(decoder):
    with pytest.raises(UserError, match="0 or more"):
        next(
            generate_guided(
                decoder,
                [(prompts(1)[0],) * 2],
                scale=-1.0,
                sampling=[Sampling()],
                max_tokens=1,
                stop=lambda row, token: False,
                force=lambda row, token: (NOTHING, NOTHING),
                seed=1,
            )
        )
