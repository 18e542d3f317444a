"""Whole jobs: warm, cold, and those of papers with their figures."""

import json
import os
from dataclasses import replace

import pytest
import torch
from subjects import TWO_FIELDS, patient_clock, tiny_subject

from seqgen.benchmark import cold, papers
from seqgen.benchmark.equality import OutputsDiffer
from seqgen.benchmark.measures import job
from seqgen.benchmark.peers.growing import GrowingPool
from seqgen.benchmark.timing import LIBRARY
from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.native import why_missing

TINY = papers.Job(
    name="tiny",
    n_tokens=6,
    sizes=ModelConfig(n_layers=1, d_model=16, n_heads=2, dropout=0.0, input_window=0),
    fields={"type": 3, "pitch": 9},
    batches={"cpu": (1, 2), "cuda": (1, 2)},
    source="Nobody 2020",
    figures=(
        papers.Figure("linear", 12.0, hardware="an abacus", seconds=0.5),
        papers.Figure("softmax", 3.0, hardware="an abacus", batch=0),
    ),
)


@pytest.fixture
def subject():
    return tiny_subject(TWO_FIELDS)


@pytest.fixture
def hurried():
    return patient_clock(measure_seconds=60.0)


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
    records = {r.variant: r for r in job.measure(subject, hurried, batch=1, position=5)}
    exact, rounded = job.decoders(subject)
    assert records[f"{exact}-cold"].median_seconds == 3.0
    assert records[f"{exact}-cold"].tokens_per_second == pytest.approx(5 / 3)
    assert records[f"{exact}-cold"].ratio_to_library is None
    assert records[f"{rounded}-cold"].dtype == records[rounded].dtype != "float32"
    assert [order["times"] for order in asked] == [1, 1]
    job.measure(subject, patient_clock(), batch=1, position=5)
    assert asked[-1]["times"] == job.COLD_STARTS > 1
    records = job.measure(subject, hurried, batch=2, position=5)
    assert not [r for r in records if r.variant.endswith("-cold")]


def test_a_cold_start_that_fails_is_a_row_that_says_so(subject, hurried, monkeypatch):
    def fail(*_, **__):
        raise UserError("no more processes")

    monkeypatch.setattr(job, "cold_starts", fail)
    notes = {r.variant: r.note for r in job.measure(subject, hurried, batch=1, position=5)}
    assert notes[job.decoders(subject)[0] + "-cold"] == "not here: no more processes"


def test_jobs_of_papers_stand_beside_their_figures(subject, monkeypatch):
    monkeypatch.setattr(job, "JOBS", (TINY,))
    records = job.afterwards(subject, patient_clock())
    ours = [r for r in records if r.repeats]
    assert {(r.variant, r.batch) for r in ours} >= {("tiny/library", 1), ("tiny/library", 2)}
    assert {r.position for r in records} == {6}
    assert {tuple(r.setting.sizes["vocabulary"]) for r in ours} == {(6, 12)}
    theirs = {r.variant: r for r in records if "published" in r.variant}
    linear, softmax = theirs["tiny/published-linear"], theirs["tiny/published-softmax"]
    assert (linear.median_seconds, linear.tokens_per_second) == (0.5, 12.0)
    assert (softmax.median_seconds, softmax.tokens_per_second, softmax.batch) == (None, 3.0, 0)


def test_a_published_figure_cannot_be_taken_for_a_measured_one(subject, monkeypatch):
    monkeypatch.setattr(job, "JOBS", (TINY,))
    for record in job.afterwards(subject, patient_clock()):
        is_published = "published" in record.variant
        assert record.note.startswith("published: an abacus, Nobody 2020") == is_published
        assert (record.setting.device == "an abacus") == is_published
        assert (record.samples == ()) == (record.repeats is None) == is_published


def test_a_quick_run_leaves_papers_out_and_says_so(subject, hurried):
    records = job.afterwards(subject, hurried)
    assert not [r for r in records if r.samples]
    skipped = [r for r in records if not r.note.startswith("published")]
    assert [r.variant for r in skipped] == ["compound-word", "mnist", "cifar10"]
    assert all(r.note.startswith("skipped: ") for r in skipped)


def test_the_jobs_have_the_papers_sizes():
    jobs = {x.name: x for x in papers.JOBS}
    words = jobs["compound-word"]
    assert sum(words.fields.values()) == 342  # ids of theirs, as they say
    assert words.n_tokens / words.figures[0].per_second == pytest.approx(20.9, abs=0.05)
    small = replace(words, sizes=words.sizes.model_copy(update={"n_layers": 1}))
    vocabulary = papers.subject_of(small, torch.device("cpu")).model.vocabulary
    assert vocabulary.sizes == tuple(n + 3 for n in words.fields.values())
    images = {f.way: f for f in jobs["mnist"].figures if f.batch == 0}
    assert images["linear"].per_second == pytest.approx(142.8 * 784)
    assert (jobs["cifar10"].n_tokens, jobs["cifar10"].sizes.n_layers) == (3072, 16)
