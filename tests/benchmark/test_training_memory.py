"""Memory of training steps: its peak in the records, and rows where it would not suffice."""

import pytest
import torch
from subjects import TWO_FIELDS, patient_clock, tiny_subject

from seqgen.benchmark.measures import training
from seqgen.benchmark.subject import Subject

QUICK = {"measure_seconds": 60.0}


@pytest.fixture
def subject():
    return tiny_subject(TWO_FIELDS)


def measure(subject, *, batch=1, position=9):
    clock = patient_clock(**QUICK)
    return {r.variant: r for r in training.measure(subject, clock, batch=batch, position=position)}


def test_every_timed_step_has_a_peak_and_no_other_row(subject):
    records = measure(subject)
    assert records["causal-linear"].repeats
    assert all((r.bytes is None) == (r.repeats is None) for r in records.values())


def test_a_longer_window_has_a_higher_peak(subject):
    sizes = [measure(subject, position=n)["causal-linear"].bytes for n in (200, 400, 800)]
    # What stays is the same, and the rest grows with the length.
    assert (sizes[2] - sizes[1]) == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.1)


def test_what_would_not_fit_is_not_tried(subject, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Subject, "too_large", lambda self, size: asked.append(size) or "skipped: needs more"
    )
    monkeypatch.setattr(training.Trainee, "step", lambda *_: pytest.fail("a step was taken"))
    few = measure(subject, position=100)
    n = len(asked)
    measure(subject, position=200)
    assert few["causal-linear"].note == few["full"].note == "skipped: needs more"
    assert all(b > a for a, b in zip(asked[:n], asked[n:], strict=True))


@pytest.mark.parametrize("longest", [5, 15])
def test_a_step_that_runs_out_of_memory_is_a_row_that_says_so(subject, monkeypatch, longest):
    """In the timed call, or already in the first one, which is shorter."""
    step = training.Trainee.step

    def small(self, tokens, way):
        if way.attention == training.FULL and tokens.shape[1] > longest:
            raise torch.OutOfMemoryError("no more")
        step(self, tokens, way)

    monkeypatch.setattr(training.Trainee, "step", small)
    records = measure(subject, position=30)
    assert records["full"].note == "skipped: ran out of memory"
    assert records["causal-linear"].repeats
