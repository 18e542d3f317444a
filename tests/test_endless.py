"""The script that compares ways beyond the training length scores what it says."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqgen.evaluation.likelihood import nats_of

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "endless.py"))
two_sums, all_ways, score = (SCRIPT[x] for x in ("nats_with_two_sums", "all_ways", "score"))


def piece(length, seed=0):
    return np.random.default_rng(seed).integers(3, 24, (length, 1))


def test_two_sums_hold_the_last_half_length_to_length_and_no_more(tiny, plain_vocabulary):
    model = tiny(replace(plain_vocabulary, held=()), n_layers=1, conv_width=0)  # nothing stays
    tokens = piece(41)
    nats = two_sums(model, tokens, length=16)
    changed = tokens.copy()
    changed[:16] = piece(16, seed=1)  # what the positions from 24 on have forgotten
    again = two_sums(model, changed, length=16)
    assert np.allclose(nats[24:], again[24:], atol=1e-5)
    assert np.abs(nats[16:24] - again[16:24]).max() > 0.01
    fresh = nats_of(model, tokens[16:])  # begins where the older sums of 24 … 31 do
    assert np.allclose(nats[24:32], fresh[8:16], atol=1e-4)


def test_before_the_decay_all_ways_are_the_same(tiny, plain_vocabulary):
    model, tokens = tiny(plain_vocabulary), piece(30)
    for name, way in all_ways([64]).items():
        assert np.allclose(way(model, tokens), nats_of(model, tokens), atol=1e-5), name


def test_ways_are_compared_beyond_the_training_length_piece_by_piece(tiny, plain_vocabulary):
    model, pieces = tiny(plain_vocabulary), [piece(33, seed) for seed in range(3)]
    scores = score(model, pieces, piece(70), ways=all_ways([4]), trained=8)
    assert (scores["continued"].difference, scores["continued"].standard_error) == (0, 0)
    with torch.no_grad():
        means = [[nats_of(model, p, decay_after=w)[8:].mean() for p in pieces] for w in (4, None)]
    differences = np.subtract(*means)
    assert scores["decay 4"].difference == pytest.approx(differences.mean(), rel=1e-4)
    assert scores["decay 4"].standard_error == pytest.approx(
        differences.std(ddof=1) / 3**0.5, rel=1e-3
    )
    assert scores["decay 4"].stream[-1].stop == 69
