"""Likelihood: every target once in each form, the forms equal, scales that are what they say."""

from math import log

import numpy as np
import pytest
import torch
from making import random_tokens

from seqgen.attention.kinds import KINDS
from seqgen.evaluation.likelihood import score_piece, score_recurrent, score_windows
from seqgen.evaluation.piece_sets import Amount, Item, PieceSet
from seqgen.evaluation.scoring import compare_forms, entry, mean_of, paired, per_cell
from seqgen.model.loss import token_nats


def pieces_of(vocabulary, *lengths):
    return [random_tokens(vocabulary, 1, n, seed=n)[0].numpy() for n in lengths]


def nats(model, ids):
    """One forward pass over everything."""
    tokens = torch.from_numpy(ids)[None]
    with torch.no_grad():
        logits = model(tokens[:, :-1], targets=tokens[:, 1:])
        return token_nats(logits, tokens[:, 1:], uses=model.uses)[0].numpy()


def quiet(_):
    return


def test_windows_score_every_target_from_its_window_alone(tiny, toy_vocabulary):
    model, pieces = tiny(toy_vocabulary), pieces_of(toy_vocabulary, 23, 7, 2, 40)
    told = []
    curves = score_windows(model, pieces, length=10, tell=told.append)
    assert sum(told) == sum(len(ids) - 1 for ids in pieces)
    for ids, curve in zip(pieces, curves, strict=True):
        assert curve.shape == (len(ids) - 1, 3)
        for at in range(0, len(ids) - 1, 10):
            expected = nats(model, ids[at : at + 11])
            np.testing.assert_allclose(curve[at : at + 10].sum(axis=1), expected, rtol=1e-4)


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("name", ["toy_vocabulary", "compound_vocabulary"])
def test_both_forms_score_whole_pieces_alike_and_by_field(request, tiny, name, attention):
    vocabulary = request.getfixturevalue(name)
    model = tiny(vocabulary, attention=attention)
    pieces = pieces_of(vocabulary, 9, 31, 2, 31, 18)
    parallel = [score_piece(model, ids) for ids in pieces]
    recurrent = score_recurrent(model, pieces, tell=quiet)
    for ids, a, b in zip(pieces, parallel, recurrent, strict=True):
        np.testing.assert_allclose(a.sum(axis=1), nats(model, ids), rtol=1e-4)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        assert ((a == 0) == ~vocabulary.uses[ids[1:, 0]]).all()


class Run:
    """As much of a run as comparing forms needs."""

    def __init__(self, model, context_length):
        self.context_length = context_length
        self.loaded = self
        self.model = model


def counted_set(pieces, *, notes=(), in_files=None):
    amounts = [Amount(n, 2.0 * n) for n in notes] or [Amount()] * len(pieces)
    found = zip(pieces, amounts, in_files or amounts, strict=True)
    items = [Item(f"{i}.mid", ids, *held) for i, (ids, *held) in enumerate(found)]
    return PieceSet("held out", tuple(items), len(items))


def test_forms_that_differ_are_told(tiny, plain_vocabulary):
    model, pieces = tiny(plain_vocabulary), pieces_of(plain_vocabulary, 30, 12)
    parallel = [score_piece(model, ids) for ids in pieces]
    run, counted = Run(model, 8), counted_set(pieces)

    def compare(curves):
        return compare_forms(run, counted, curves, progress=lambda *_: None)

    assert compare(parallel)["agree"]
    assert compare(parallel)["targets"] == 29 + 11
    broken = [parallel[0], np.where(np.arange(11)[:, None] == 5, np.nan, parallel[1])]
    assert not compare(broken)["agree"]
    parallel[1][5] += 0.1
    wrong = compare(parallel)
    assert not wrong["agree"]
    assert wrong["largest_difference_nats"] == pytest.approx(0.1, rel=1e-3)


def test_what_has_no_seconds_has_no_bits_per_second(plain_vocabulary):
    ids = np.array([[1], [5], [2]])
    counted = counted_set([ids], in_files=[Amount(units=4)])
    scored = entry("m", [np.ones((2, 1))], counted, plain_vocabulary, kind="own")
    assert scored["bits_per_unit"]["value"] == pytest.approx(1 / log(2) / 4)
    assert scored["bits_per_second"] is None


def test_bits_per_note_leave_special_tokens_out_and_tokens_keep_them(plain_vocabulary):
    ids = np.array([[1], [5], [6], [2]])  # BOS, two tokens, EOS
    curves = [np.array([[1.0], [2.0], [4.0]])]
    scored = entry("m", curves, counted_set([ids], notes=[3]), plain_vocabulary, kind="own")
    assert scored["nats_per_token"] == {"value": 7 / 3, "low": None, "high": None}
    assert scored["bits_per_unit"]["value"] == pytest.approx((1 + 2) / log(2) / 3)
    assert scored["bits_per_second"]["value"] == pytest.approx((1 + 2) / log(2) / 6)


def test_files_count_where_all_are_there_and_tokens_do_otherwise(plain_vocabulary):
    ids = np.array([[1], [5], [2]])
    curves = [np.array([[1.0], [1.0]])] * 2

    def per_note(in_files):
        counted = counted_set([ids, ids], notes=[2, 2], in_files=in_files)
        return entry("m", curves, counted, plain_vocabulary, kind="own")["bits_per_unit"]["value"]

    assert per_note([Amount(4), Amount(4)]) == pytest.approx(per_note(None) / 2)
    assert per_note([Amount(4), None]) == pytest.approx(per_note(None))


def test_a_piece_cut_by_learned_positions_has_no_bits_per_note(plain_vocabulary):
    ids = np.array([[1], [5], [6], [2]])
    scored = entry(
        "m", [np.ones((2, 1))], counted_set([ids], notes=[3]), plain_vocabulary, kind="own"
    )
    assert scored["targets"] == 2
    assert scored["bits_per_unit"] is None


def test_intervals_hold_the_mean_and_shrink_to_it_where_pieces_are_alike():
    rng = np.random.default_rng(0)
    spread = mean_of(rng.normal(10, 2, 40), np.full(40, 5))
    low, high = spread["low"], spread["high"]
    assert low < spread["value"] < high
    assert high - low == pytest.approx(2 * 1.96 * 0.4 / 40**0.5, rel=0.4)
    assert mean_of([4.0, 8.0], [2, 4]) == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert mean_of([4.0], [2])["low"] is None
    assert mean_of([4.0], [0]) is None
    assert np.isfinite(mean_of([4.0, 0.0], [2, 0])["high"])  # often nothing is drawn


def test_a_gap_is_the_first_set_minus_the_second():
    second = [2.0, 2.0, 2.0], [2, 2, 2]
    gap = {"value": 2.0, "low": 2.0, "high": 2.0}
    assert mean_of([6.0, 6.0], [2, 2], minus=second) == gap
    assert mean_of([6.0], [2], minus=second) == {"value": 2.0, "low": None, "high": None}


def test_pieces_are_paired():
    a = [np.array([[1.0], [1.0]]), np.array([[5.0]])]
    b = [np.array([[0.5], [0.5]]), np.array([[4.5]])]
    assert paired(a, b) == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_a_grid_costs_four_times_as_much_per_frame_as_per_cell_without_its_ends(toy_vocabulary):
    pieces = [ids[:9] for ids in pieces_of(toy_vocabulary, 9, 9)]
    for ids in pieces:
        ids[-1] = toy_vocabulary.special_token(toy_vocabulary.eos_id)
    counted = counted_set(pieces, notes=(7, 7))
    curves = [np.full((8, 3), nats) for nats in (0.1, 0.2)]
    found = per_cell(entry("run", curves, counted, toy_vocabulary, kind="own"), counted)
    assert (found["cells"], found["frames"]) == (14, 3)
    assert found["nats_per_cell"]["value"] == pytest.approx(7 * (0.3 + 0.6) / 14)
    assert found["nats_per_frame"]["value"] == pytest.approx(4 * 7 * (0.3 + 0.6) / 14)
