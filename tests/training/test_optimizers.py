"""Parameter groups and schedules, without a trainer."""

from itertools import pairwise

import pytest

from seqgen.config import TrainConfig
from seqgen.errors import UserError
from seqgen.training.optimizers import build_optimizer, parameter_groups
from seqgen.training.schedules import build_schedule


@pytest.fixture
def model(tiny, plain_vocabulary):
    return tiny(plain_vocabulary)


def names(model, group):
    ours = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in ours}


def test_norms_biases_and_embeddings_do_not_decay(model):
    groups = parameter_groups(model, learning_rate=1.0, learning_rates={}, weight_decay=0.1)
    still = set().union(*(names(model, g) for g in groups if g["weight_decay"] == 0))
    decayed = set().union(*(names(model, g) for g in groups if g["weight_decay"] > 0))
    assert still | decayed == {name for name, _ in model.named_parameters()}
    assert all(n.endswith("weight") and "norm" not in n and "embedding" not in n for n in decayed)
    assert {
        n for n, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in n
    } == decayed


def test_each_part_has_its_learning_rate(model):
    rates = {"stack.*": 0.5, "stack.layers.1.*": 0.25}
    groups = parameter_groups(model, learning_rate=1.0, learning_rates=rates, weight_decay=0.1)
    rate = {name: g["lr"] for g in groups for name in names(model, g)}
    assert rate["heads.heads.0.weight"] == 1.0
    assert rate["stack.layers.0.linear1.weight"] == 0.5
    assert rate["stack.layers.1.linear1.weight"] == 0.25


def test_a_pattern_that_matches_nothing_is_named(model):
    with pytest.raises(UserError, match="'layers'"):
        build_optimizer(model, TrainConfig(freeze=["layers"]))
    with pytest.raises(UserError, match=r"train\.learning_rates"):
        build_optimizer(model, TrainConfig(learning_rates={"x.*": 0.1}))
    with pytest.raises(UserError, match="nothing is left"):
        build_optimizer(model, TrainConfig(freeze=["*"]))


@pytest.mark.parametrize("kind", ["cosine", "linear", "inverse-sqrt", "constant"])
def test_schedules_rise_to_the_peak_and_do_not_rise_again(kind):
    schedule = build_schedule(kind, warmup_steps=10, total_steps=100, final=0.1)
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


def test_no_warmup_begins_at_the_peak():
    assert build_schedule("cosine", warmup_steps=0, total_steps=10, final=0.0)(0) == 1.0


def test_an_unknown_schedule_is_named():
    with pytest.raises(ValueError, match="known are cosine"):
        build_schedule("cosin", warmup_steps=1, total_steps=2, final=0.0)
