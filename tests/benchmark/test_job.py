"""Whole pieces: all ways write all tokens, draw alike, and are checked before."""

import pytest
from tiny_models import TWO_FIELDS, patient_timer, tiny_model

from seqgen.benchmark.draws import endless_sampling
from seqgen.benchmark.equality import OutputsDiffer
from seqgen.benchmark.measures import job
from seqgen.benchmark.records import LIBRARY, Place
from seqgen.native import why_missing


def test_all_ways_write_all_tokens_of_all_pieces(model, monkeypatch):
    begin, written = job.generate, []

    def generate(*args, **kwargs):
        steps = list(begin(*args, **kwargs))
        written.append(sum(len(step.tokens) for step in steps))
        return steps

    monkeypatch.setattr(job, "generate", generate)
    records = job.measure(model, patient_timer(), Place("job", 3, 20))
    assert set(written) == {3 * job.PART, 3 * 20}  # although one in seven tokens would be EOS
    assert [r.variant for r in records] == [LIBRARY, *job.decoders(model), job.STATIC]
    assert all(round(r.tokens_per_second * r.median_seconds) == 60 for r in records)
    assert all(r.ratio_to_library for r in records)


def test_the_decoders_are_the_one_of_auto_and_one_that_rounds(model):
    exact, rounded = job.decoders(model)
    assert exact == ("torch" if why_missing() else "native")
    assert rounded in job.ROUNDED


def test_a_decoder_of_other_weights_is_found_before_pieces_are_written(model):
    job.check(model, batch=2, position=9)
    model.decoders["torch"] = tiny_model(TWO_FIELDS).decoder("torch")
    with pytest.raises(OutputsDiffer, match="torch and the parallel form"):
        job.check(model, batch=2, position=9)


def test_all_ways_draw_alike(model, monkeypatch):
    asked, draws, begin = [], job.Draws, job.generate
    monkeypatch.setattr(
        job, "Draws", lambda *args, **kw: asked.append(kw["sampling"]) or draws(*args, **kw)
    )
    monkeypatch.setattr(
        job, "generate", lambda *args, **kw: asked.append(kw["sampling"]) or begin(*args, **kw)
    )
    job.measure(model, patient_timer(), Place("job", 1, 3))
    assert len(asked) >= 4
    assert set(asked) == {endless_sampling(model.model.vocabulary)}


def test_a_piece_that_would_take_too_long_is_not_written(model):
    records = job.measure(model, patient_timer(longest_piece=0.0), Place("job", 1, 200))
    assert all(r.note.startswith("left out: a call would take about") for r in records)


def test_learned_positions_may_be_filled_to_the_end():
    short = tiny_model(positions="learned", max_positions=8)
    assert all(r.repeats for r in job.measure(short, patient_timer(), Place("job", 1, 8)))
