"""Parameter groups, without a trainer."""

import pytest

from seqgen.config import TrainConfig
from seqgen.errors import UserError
from seqgen.training.optimizers import build_optimizer, parameter_groups


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
    tables = ("embedding", "held.")
    assert decayed == {
        n for n, p in model.named_parameters() if p.ndim >= 2 and not any(t in n for t in tables)
    }


def test_decays_of_heads_learn_and_are_not_pulled_to_a_half(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, decay="learned")
    groups = parameter_groups(model, learning_rate=1.0, learning_rates={}, weight_decay=0.1)
    still = set().union(*(names(model, g) for g in groups if g["weight_decay"] == 0))
    decays = {name for name, _ in model.named_parameters() if name.endswith("decay.logit")}
    assert len(decays) == model.config.n_layers
    assert decays < still


def test_each_part_has_its_learning_rate(model):
    rates = {"stack.*": 0.5, "stack.layers.1.*": 0.25}
    groups = parameter_groups(model, learning_rate=1.0, learning_rates=rates, weight_decay=0.1)
    rate = {name: g["lr"] for g in groups for name in names(model, g)}
    assert rate["lm_head.linears.0.weight"] == 1.0
    assert rate["stack.layers.0.linear1.weight"] == 0.5
    assert rate["stack.layers.1.linear1.weight"] == 0.25


def test_a_pattern_that_matches_nothing_is_named(model):
    with pytest.raises(UserError, match="'layers'"):
        build_optimizer(model, TrainConfig(freeze=["layers"]))
    with pytest.raises(UserError, match=r"train\.learning_rates"):
        build_optimizer(model, TrainConfig(learning_rates={"x.*": 0.1}))
    with pytest.raises(UserError, match="nothing is left"):
        build_optimizer(model, TrainConfig(freeze=["*"]))
