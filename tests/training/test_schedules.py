"""Learning-rate schedules end where training ends, and a resumed run keeps the one it has."""

from itertools import pairwise

import pytest
import torch
from curves import curve

from seqgen.config import TrainConfig
from seqgen.training.schedules import build_schedule, describe_schedule, schedule_of


@pytest.mark.parametrize("kind", ["cosine", "linear", "inverse-sqrt", "constant"])
def test_schedules_rise_to_the_peak_and_do_not_rise_again(kind):
    schedule = build_schedule(kind, warmup_steps=10, ends=[100], final=0.1)
    values = [schedule(step) for step in range(150)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(values) <= 1.0
    assert all(a >= b for a, b in pairwise(values[10:]))
    if kind in ("cosine", "linear"):
        assert values[100:] == pytest.approx([0.1] * 50)
    if kind == "inverse-sqrt":
        assert values[39] == pytest.approx(0.5)
    if kind == "constant":
        assert values[-1] == 1.0


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_after_an_end_the_same_begins_again_until_the_next(kind):
    schedule = build_schedule(kind, warmup_steps=10, ends=[100, 160], final=0.1)
    first = build_schedule(kind, warmup_steps=10, ends=[100], final=0.1)
    second = build_schedule(kind, warmup_steps=10, ends=[60], final=0.1)
    assert [schedule(step) for step in range(100)] == [first(step) for step in range(100)]
    assert [schedule(step + 100) for step in range(90)] == [second(step) for step in range(90)]


@pytest.mark.parametrize("kind", ["inverse-sqrt", "constant"])
def test_schedules_without_an_end_do_not_begin_again(kind):
    schedule = build_schedule(kind, warmup_steps=10, ends=[100, 160], final=0.1)
    endless = build_schedule(kind, warmup_steps=10, ends=[10**6], final=0.1)
    assert [schedule(step) for step in range(200)] == [endless(step) for step in range(200)]


def test_no_warmup_begins_at_the_peak():
    assert build_schedule("cosine", warmup_steps=0, ends=[10], final=0.0)(0) == 1.0


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="known are cosine"):
        build_schedule("cosin", warmup_steps=1, ends=[2], final=0.0)


@pytest.mark.parametrize("max_steps", [10, 300])
def test_by_default_the_schedule_ends_where_training_ends(max_steps):
    schedule = schedule_of(TrainConfig(max_steps=max_steps, warmup_steps=2))
    assert schedule(max_steps - 1) > 0
    assert schedule(max_steps) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "up to 0.001 in 50 steps, then falling to 0 at step 1,000 (cosine)"),
        ({"schedule": "constant", "warmup_steps": 0}, "learning rate: 0.001, constant"),
        ({"schedule": "inverse-sqrt"}, "falling with the square root of the step"),
        ({"schedule_steps": [500, 1000]}, "at step 500 (cosine), repeated until step 1,000"),
        (
            {"schedule_steps": 500, "final_learning_rate": 0.1},
            "falling to 0.0001 at step 500 (cosine), 0.0001 after that",
        ),
        ({"schedule_steps": 1950, "schedule": "linear"}, "stopped at step 1,000, at 0.0005"),
    ],
)
def test_the_schedule_is_said_in_a_line(settings, said):
    assert said in describe_schedule(TrainConfig(**settings))


@pytest.mark.parametrize("restart", [True, False])
def test_going_on_after_the_end_equals_the_same_schedule_from_the_start(run_steps, restart):
    """The checkpoint's own learning rate, of the schedule before, is not used for a step."""
    settings = {"final_learning_rate": 0.1, "warmup_steps": 1}
    longer = {"max_steps": 8, "schedule_steps": [4, 8] if restart else 4}
    whole, _ = run_steps("whole", **longer, **settings)
    run_steps("parts", max_steps=4, schedule_steps=None, **settings)
    parts, _ = run_steps("parts", **longer, resume=True, **settings)
    rates = [x["learning_rate"] for x in curve(parts) if "learning_rate" in x]
    assert rates[4:] == pytest.approx(rates[:4] if restart else [1e-3] * 4)
    assert [x for x in curve(parts) if "loss" in x] == [x for x in curve(whole) if "loss" in x]
    weights = [torch.load(run.last, weights_only=True)["state_dict"] for run in (whole, parts)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
