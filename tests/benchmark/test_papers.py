"""Whole jobs of papers' sizes, beside the figures that the papers give."""

from dataclasses import replace

import pytest
import torch
from subjects import patient_clock

from seqgen.benchmark import papers as data
from seqgen.benchmark.equality import OutputsDiffer
from seqgen.benchmark.measures import papers
from seqgen.benchmark.plans import PAPERS, THEIRS, make_plan
from seqgen.benchmark.run import run_benchmark
from seqgen.benchmark.subject import Subject
from seqgen.config import ModelConfig
from seqgen.model.sequence_model import SequenceModel

TINY = data.Job(
    name="tiny",
    n_tokens=6,
    sizes=ModelConfig(n_layers=1, d_model=16, n_heads=2, dropout=0.0, input_window=0),
    fields={"type": 3, "pitch": 9},
    batches={"cpu": (1, 2), "cuda": (1, 2)},
    source="Nobody 2020",
    figures=(
        data.PublishedFigure("linear", 12.0, hardware="an abacus", seconds=0.5),
        data.PublishedFigure("softmax", 3.0, hardware="an abacus", batch=0),
    ),
)


def write_all(subject, clock, *lengths, batch=THEIRS):
    measured = [papers.measure(subject, clock, batch=batch, position=n) for n in lengths]
    return [r for part in (*measured, papers.afterwards(subject, clock)) for r in part]


def test_jobs_of_papers_stand_beside_their_figures(subject, monkeypatch):
    monkeypatch.setattr(papers, "JOBS", (TINY,))
    records = write_all(subject, patient_clock(), 6)
    ours = [r for r in records if r.repeats]
    assert {(r.variant, r.batch) for r in ours} >= {("tiny/library", 1), ("tiny/library", 2)}
    assert {r.position for r in records} == {6}
    assert {tuple(r.setting.sizes["vocabulary"]) for r in ours} == {(6, 12)}
    theirs = {r.variant: r for r in records if "published" in r.variant}
    linear, softmax = theirs["tiny/published-linear"], theirs["tiny/published-softmax"]
    assert (linear.median_seconds, linear.tokens_per_second) == (0.5, 12.0)
    assert (softmax.median_seconds, softmax.tokens_per_second, softmax.batch) == (None, 3.0, 0)


def test_a_published_figure_cannot_be_taken_for_a_measured_one(subject, monkeypatch):
    monkeypatch.setattr(papers, "JOBS", (TINY,))
    for record in write_all(subject, patient_clock(), 6):
        is_published = "published" in record.variant
        assert record.note.startswith("published: an abacus, Nobody 2020") == is_published
        assert (record.setting.device == "an abacus") == is_published
        assert (record.samples == ()) == (record.repeats is None) == is_published


def test_a_quick_run_leaves_papers_out_and_says_so(subject, hurried):
    records = write_all(subject, hurried, *PAPERS)
    assert not [r for r in records if r.samples]
    skipped = [r for r in records if not r.note.startswith("published")]
    assert [r.variant for r in skipped] == ["mnist", "compound-word", "cifar10"]
    assert all(r.note.startswith("skipped: ") for r in skipped)


def test_the_jobs_have_the_papers_sizes():
    jobs = {x.name: x for x in data.JOBS}
    words = jobs["compound-word"]
    assert sum(words.fields.values()) == 342  # ids of theirs, as they say
    assert words.n_tokens / words.figures[0].per_second == pytest.approx(20.9, abs=0.05)
    small = replace(words, sizes=words.sizes.model_copy(update={"n_layers": 1}))
    vocabulary = data.subject_of(small, torch.device("cpu")).model.vocabulary
    assert vocabulary.sizes == tuple(n + 3 for n in words.fields.values())
    images = {f.way: f for f in jobs["mnist"].figures if f.batch == 0}
    assert images["linear"].per_second == pytest.approx(142.8 * 784)
    assert (jobs["cifar10"].n_tokens, jobs["cifar10"].sizes.n_layers) == (3072, 16)


def test_a_quick_run_of_all_measures_has_a_row_for_each_job(subject):
    records = run_benchmark(subject, make_plan(quick=True), only=["papers"])
    skipped = [(r.variant, r.batch) for r in records if r.note == papers.SKIPPED]
    assert skipped == [("mnist", 1), ("compound-word", 1), ("cifar10", 1)]
    assert len(records) == 3 + sum(len(x.figures) for x in data.JOBS)


def test_rows_can_be_chosen_and_jobs_are_told_by_their_length(subject, monkeypatch):
    monkeypatch.setattr(papers, "JOBS", (TINY, replace(TINY, name="longer", n_tokens=7)))
    measured = papers.measure(subject, patient_clock(), batch=3, position=7)
    assert {(r.measure, r.batch, r.variant.partition("/")[0]) for r in measured} == {
        ("papers", 3, "longer")
    }
    assert papers.measure(subject, patient_clock(), batch=3, position=8) == []


def test_a_papers_own_model_is_checked_before_it_is_timed(subject, monkeypatch):
    def wrong(of, device):
        made = data.subject_of(of, device)
        other = SequenceModel(of.sizes, made.model.vocabulary)
        made.decoders["torch"] = Subject(other, weights="others").decoder("torch")
        return made

    monkeypatch.setattr(papers, "JOBS", (TINY,))
    monkeypatch.setattr(papers, "subject_of", wrong)
    monkeypatch.setattr(papers.pieces, "write_pieces", lambda *_, **__: pytest.fail("timed"))
    with pytest.raises(OutputsDiffer, match="torch and the parallel form"):
        papers.measure(subject, patient_clock(), batch=THEIRS, position=6)
