"""Settings name what is wrong with them."""

import pytest

from seqgen.errors import UserError
from seqgen.sampling import Sampling


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 1e-9),
        ("temperature", "warm"),
        ("temperature", None),
        ("top_k", 0),
        ("top_k", 2.5),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_p", True),
        ("min_p", -0.1),
        ("repetition_penalty", 0),
        ("typical_p", 0),
        ("typical_p", 1.1),
        ("frequency_penalty", float("nan")),
        ("grammar", "yes"),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {5: float("-inf")}),
        ("logit_bias", {5: "much"}),
        ("logit_bias", {"five": 1.0}),
        ("logit_bias", [5, 6]),
        ("logit_bias", 5),
    ],
)
def test_a_senseless_setting_is_named(name, value):
    with pytest.raises(UserError, match=name):
        Sampling(**{name: value})


@pytest.mark.parametrize("name", ["top_k", "top_p", "min_p", "typical_p"])
def test_a_filter_may_be_off(name):
    assert Sampling(**{name: None}) == Sampling()


def test_biases_are_the_same_however_they_are_given():
    expected = ((3, -1.0), (12, 0.5))
    for given in ({12: 0.5, 3: -1}, {"3": -1, "12": 0.5}, [(12, 0.5), (3, -1)], expected):
        assert Sampling(logit_bias=given).logit_bias == expected
        assert hash(Sampling(logit_bias=given)) == hash(Sampling(logit_bias=expected))
