"""Loss by position: every target once, in its place, whatever the passes."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from seqgen.evaluation import likelihood
from seqgen.evaluation.likelihood import nats_by_position, nats_of
from seqgen.model.loss import token_nats
from seqgen.model.recurrent_model import RecurrentModel


class Data:
    """Pieces by number."""

    def __init__(self, pieces):
        self._pieces = pieces

    def read(self, piece):
        return self._pieces[piece]


def pieces_of(*lengths):
    rng = np.random.default_rng(0)
    return Data([rng.integers(3, 24, (length, 1)) for length in lengths])


def test_every_target_counts_once_and_in_its_range(tiny, plain_vocabulary):
    model, data = tiny(plain_vocabulary), pieces_of(300, 40, 65)
    ranges = nats_by_position(model, data, [0, 1, 2])
    assert [(r.start, r.stop) for r in ranges] == [(0, 64), (64, 128), (128, 256), (256, 299)]
    assert [r.targets for r in ranges] == [64 + 39 + 64, 64, 128, 43]
    total = 0.0
    for piece in range(3):
        tokens = torch.from_numpy(data.read(piece))[None]
        with torch.no_grad():
            total += float(token_nats(model(tokens[:, :-1]), tokens[:, 1:]).sum())
    assert sum(r.nats_per_token * r.targets for r in ranges) == pytest.approx(total, rel=1e-4)


def test_passes_of_any_size_give_the_same(tiny, plain_vocabulary, monkeypatch):
    model, data = tiny(plain_vocabulary), pieces_of(300)
    whole = nats_by_position(model, data, [0])
    monkeypatch.setattr(likelihood, "PASS", 17)
    for a, b in zip(whole, nats_by_position(model, data, [0]), strict=True):
        assert a.nats_per_token == pytest.approx(b.nats_per_token, rel=1e-4)


def test_learned_positions_end_the_curve(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, positions="learned", max_positions=100)
    assert nats_by_position(model, pieces_of(300), [0])[-1].stop == 99


def test_passes_with_decay_score_as_the_steps_do(tiny, plain_vocabulary):
    model, data = tiny(plain_vocabulary), pieces_of(100)
    recurrent, tokens = RecurrentModel(model, decay_after=6), torch.from_numpy(data.read(0))
    state, nats = recurrent.initial_state(1), []
    for token, target in pairwise(tokens):
        logits, state = recurrent.step(token[None], state)
        nats.append(token_nats([logits[0][None]], target[None, None]))
    scored = nats_of(model, data.read(0), decay_after=6)
    np.testing.assert_allclose(scored, torch.cat(nats).flatten().numpy(), rtol=1e-4, atol=1e-5)
    assert nats_of(model, data.read(0))[64:].mean() != pytest.approx(scored[64:].mean(), rel=1e-4)
