"""Memory of training steps: its peak in the records, and rows where it would not suffice."""

import pytest
import torch
from tiny_models import TWO_FIELDS, patient_timer, tiny_model

from seqgen.benchmark import timing
from seqgen.benchmark.measures import training
from seqgen.benchmark.records import Place


@pytest.fixture
def model():
    return tiny_model(TWO_FIELDS, quick=True)


def measure(model, *, batch=1, position=9):
    timer = patient_timer()
    return {
        r.variant: r for r in training.measure(model, timer, Place("training", batch, position))
    }


def test_every_timed_step_has_a_peak_and_no_other_row(model):
    records = measure(model)
    assert records["causal-linear"].repeats
    assert all((r.bytes is None) == (r.repeats is None) for r in records.values())


def test_a_longer_window_has_a_higher_peak(model):
    sizes = [measure(model, position=n)["causal-linear"].bytes for n in (200, 400, 800)]
    # What stays is the same, and the rest grows with the length.
    assert (sizes[2] - sizes[1]) == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.1)


def test_what_would_not_fit_is_not_tried(model, monkeypatch):
    monkeypatch.setattr(timing, "free_bytes", lambda device: 2**20)
    monkeypatch.setattr(training.Trainee, "step", lambda *_: pytest.fail("a step was taken"))
    records = measure(model, position=1000)
    for name in ("causal-linear", "softmax"):
        assert records[name].note.startswith("left out: would need")


def test_only_what_the_device_runs_is_listed(model):
    names = training.ways(tiny_model())
    assert ("causal-linear-bf16" in names) == model.has_bfloat16
    assert "compiled" in names
    assert "compiled" not in training.ways(tiny_model(quick=True))


@pytest.mark.parametrize("longest", [5, 15])
def test_a_step_that_runs_out_of_memory_is_a_row_that_says_so(model, monkeypatch, longest):
    """In the timed call, or already in the first one, which is shorter."""
    step = training.Trainee.step

    def small(self, tokens, way):
        if way.attention == training.SOFTMAX and tokens.shape[1] > longest:
            raise torch.OutOfMemoryError("no more")
        step(self, tokens, way)

    monkeypatch.setattr(training.Trainee, "step", small)
    records = measure(model, position=30)
    assert records["softmax"].note == timing.OUT_OF_MEMORY
    assert records["causal-linear"].repeats
