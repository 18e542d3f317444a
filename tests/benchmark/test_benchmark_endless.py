"""A stream that is timed far from its beginning goes on as it should."""

import pytest
import torch
from tiny_models import patient_timer, tiny_model

from seqgen.benchmark.measures import endless
from seqgen.benchmark.records import Place
from seqgen.errors import UserError

TIMER = patient_timer()


@pytest.fixture
def slow(monkeypatch):
    """Each step takes a second of a clock that nothing else moves."""

    class Time:
        now = 0.0

        def perf_counter(self):
            return self.now

    fake, step = Time(), endless.Engine.step

    def slow_step(engine):
        fake.now += 1.0
        return step(engine)

    monkeypatch.setattr(endless, "time", fake)
    monkeypatch.setattr(endless.Engine, "step", slow_step)
    return fake


def measure(position, model=None):
    return endless.measure(model or tiny_model(quick=True), TIMER, Place("endless", 1, position))


def test_records_stand_at_powers_of_ten_and_at_the_end():
    first, second = measure(300)
    assert (first.position, second.position) == (100, 300)
    assert first.repeats == second.repeats == 100
    assert first.median_seconds > 0
    assert first.bytes is None or 10**7 < first.bytes < 10**11
    assert [endless.marks(10**5, 500), endless.marks(1500, 500)] == [
        [100, 1000, 10_000, 100_000],
        [100, 1000, 1500],
    ]


def test_the_stream_steps_as_often_as_it_says(slow, monkeypatch):
    monkeypatch.setitem(endless.LONGEST, True, 1e6)
    first, second = measure(300)
    assert (first.median_seconds, second.median_seconds, slow.now) == (1.0, 1.0, 400.0)


def test_a_stream_that_would_take_too_long_ends_early_and_says_so(slow, monkeypatch):
    monkeypatch.setitem(endless.LONGEST, True, 350.0)
    first, second = measure(300)
    assert first.median_seconds == 1.0
    assert second.median_seconds is None
    assert second.note == "left out: would take 200 s more, the limit of a stream is 350 s"
    assert slow.now == 200.0


def test_the_sums_decay_and_eos_is_never_drawn(monkeypatch):
    model, asked, build = tiny_model(quick=True), [], endless.build_decoder
    monkeypatch.setattr(
        endless,
        "build_decoder",
        lambda *args, **kw: asked.append(kw["decay_after"]) or build(*args, **kw),
    )
    with torch.no_grad():  # left to itself it would draw nothing else
        model.model.lm_head.load_state_dict(
            {
                name: torch.where(torch.arange(11) == 2, 50.0, 0.0) if x.dim() == 1 else x
                for name, x in model.model.lm_head.state_dict().items()
            }
        )
    assert all(record.repeats for record in measure(300, model))
    assert set(asked) == {endless.DECAY_AFTER}


def test_without_compiled_operators_the_stream_is_of_plain_torch(monkeypatch):
    def build(model, decoder, **choices):
        if decoder != "torch":
            raise UserError("not built")
        return right(model, decoder, **choices)

    right = endless.build_decoder
    monkeypatch.setattr(endless, "build_decoder", build)
    assert {(r.variant, r.dtype) for r in measure(150)} == {("torch", "float32")}


def test_learned_positions_have_no_endless_stream():
    [record] = measure(150, tiny_model(positions="learned", max_positions=64))
    assert record.note.startswith("left out: the model has 64 learned positions")
    assert record.median_seconds is None
