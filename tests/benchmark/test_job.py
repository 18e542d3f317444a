"""Whole jobs: warm and cold."""

import json
import os

import pytest
import torch
from subjects import TWO_FIELDS, patient_clock, tiny_subject

from seqgen.benchmark import cold
from seqgen.benchmark.equality import OutputsDiffer
from seqgen.benchmark.measures import job
from seqgen.benchmark.peers.growing import GrowingPool
from seqgen.benchmark.timing import LIBRARY
from seqgen.errors import UserError
from seqgen.native import why_missing


def test_all_ways_write_all_tokens_of_all_pieces(subject, monkeypatch):
    monkeypatch.setattr(
        job, "generate", lambda *args, **kwargs: lengths(job_generate, args, kwargs)
    )
    job_generate, written = cold.generate, []

    def lengths(generate, args, kwargs):
        steps = list(generate(*args, **kwargs))
        written.append(sum(len(step.tokens) for step in steps))
        return steps

    records = job.write_pieces(subject, patient_clock(), batch=3, n_tokens=20)
    assert set(written) == {60}  # although one in seven tokens would be EOS
    assert [r.variant for r in records] == [LIBRARY, *job.decoders(subject), job.FULL]
    assert all(round(r.tokens_per_second * r.median_seconds) == 60 for r in records)
    assert {r.measure for r in records} == {"job"}


def test_the_decoders_are_the_one_of_auto_and_one_that_rounds(subject):
    exact, rounded = job.decoders(subject)
    assert exact == ("torch" if why_missing() else "native")
    assert rounded in job.ROUNDED


def test_a_growing_cache_is_full_attention(subject):
    job.check(subject, patient_clock(), batch=2, position=9)


def test_a_cache_that_forgets_a_token_is_found(subject, monkeypatch):
    forget = GrowingPool.advance

    def advance(self, slots, tokens):
        logits = forget(self, slots, tokens)
        self.at -= self.at == 4
        return logits

    monkeypatch.setattr(GrowingPool, "advance", advance)
    with pytest.raises(OutputsDiffer, match="whole pieces"):
        job.check(subject, patient_clock(), batch=2, position=9)


def test_a_decoder_of_other_weights_is_found_before_pieces_are_written(subject):
    subject.decoders["torch"] = tiny_subject(TWO_FIELDS).decoder("torch")
    with pytest.raises(OutputsDiffer, match="torch and the parallel form"):
        job.check(subject, patient_clock(), batch=2, position=9)


def test_all_ways_draw_alike(subject, monkeypatch):
    asked, draws = [], job.Draws
    monkeypatch.setattr(
        job, "Draws", lambda *args, **kw: asked.append(kw["sampling"]) or draws(*args, **kw)
    )
    begin = job.generate
    monkeypatch.setattr(
        job, "generate", lambda *args, **kw: asked.append(kw["sampling"]) or begin(*args, **kw)
    )
    job.write_pieces(subject, patient_clock(), batch=1, n_tokens=3)
    assert len(asked) >= 4
    assert set(asked) == {cold.endless_sampling(subject.model.vocabulary)}


def test_one_call_of_a_whole_piece_counts_and_has_a_ratio(subject):
    records = job.write_pieces(subject, patient_clock(seconds=0.0), batch=1, n_tokens=5)
    assert {r.repeats for r in records} == {1}
    assert all(r.ratio_to_library for r in records)


def test_a_growing_cache_begins_anew(subject):
    pool = GrowingPool(subject.decoder("torch"), n_rows=1, n_tokens=5)
    slots, tokens = torch.tensor([0]), subject.random_tokens(1, 5)[0]

    def write():
        pool.begin()
        return [pool.advance(slots, token[None])[0].clone() for token in tokens]

    first, again = write(), write()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_learned_positions_end_before_the_piece_does():
    short = tiny_subject(positions="learned", max_positions=8)
    records = job.measure(short, patient_clock(), batch=1, position=9)
    assert {r.note for r in records} == {"skipped: the model has 8 learned positions"}
    assert all(r.repeats for r in job.write_pieces(short, patient_clock(), batch=1, n_tokens=8))


def test_a_cold_start_is_a_new_process_that_writes_the_piece(subject, monkeypatch):
    seen, begin = [], cold._start

    def start(folder, n_tokens):
        seconds = begin(folder, n_tokens)
        seen.append(json.loads((folder / cold.RESULT).read_text()))
        return seconds

    monkeypatch.setattr(cold, "_start", start)
    order = {"decoder": "torch", "weights": "float32", "n_tokens": 7}
    [seconds] = cold.cold_starts(subject.model, **order, times=1)
    assert [x["n_tokens"] for x in seen] == [7]
    assert seen[0]["process"] != os.getpid()
    assert seconds > 0.2  # torch alone takes longer to be imported


def test_a_process_that_fails_is_an_error_with_its_last_words(subject):
    with pytest.raises(UserError, match=r"fresh process failed: .*decoder nothing"):
        cold.cold_starts(subject.model, decoder="nothing", weights="float32", n_tokens=2, times=1)


def test_cold_jobs_are_of_one_piece_and_repeated_where_there_is_time(subject, hurried, monkeypatch):
    asked = []
    monkeypatch.setattr(job, "cold_starts", lambda _, **order: asked.append(order) or [2.0, 4.0])
    records = {r.variant: r for r in job.measure(subject, patient_clock(), batch=1, position=5)}
    exact, rounded = job.decoders(subject)
    assert records[f"{exact}-cold"].median_seconds == 3.0
    assert records[f"{exact}-cold"].tokens_per_second == pytest.approx(5 / 3)
    assert records[f"{exact}-cold"].ratio_to_library is None
    assert records[f"{rounded}-cold"].dtype == records[rounded].dtype != "float32"
    assert [order["times"] for order in asked] == [job.COLD_STARTS] * 2
    records = job.measure(subject, hurried, batch=1, position=5)
    cold_rows = [r for r in records if r.variant.endswith("-cold")]
    assert [r.note for r in cold_rows] == ["skipped: this is a quick run"] * 2
    assert len(asked) == 2
    records = job.measure(subject, patient_clock(), batch=2, position=5)
    assert not [r for r in records if r.variant.endswith("-cold")]


def test_a_cold_start_that_fails_is_a_row_that_says_so(subject, monkeypatch):
    def fail(*_, **__):
        raise UserError("no more processes")

    monkeypatch.setattr(job, "cold_starts", fail)
    notes = {r.variant: r.note for r in job.measure(subject, patient_clock(), batch=1, position=5)}
    assert notes[job.decoders(subject)[0] + "-cold"] == "not here: no more processes"
