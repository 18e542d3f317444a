"""Settings name what is wrong with them."""

import json

import numpy as np
import pytest

from seqgen.errors import UserError
from seqgen.sampling import Sampling
from seqgen.sampling.settings import TEMPERATURE, TOP_P, parse_setting

FIELDS = ["family", "pitch", "velocity"]


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
        ("top_k", {"pitch": 2.5}),
        ("temperature", {"pitch": -1}),
        ("temperature", {"pitch": None}),
        ("temperature", {3: 1.0}),
        ("temperature", [["pitch", 1.0, 2.0]]),
        ("min_p", {"pitch": "much"}),
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


def test_a_number_holds_for_all_fields_and_a_name_for_one():
    columns = Sampling(temperature=0.5, top_p={"pitch": 0.9}).columns(FIELDS)
    assert columns[:, TEMPERATURE].tolist() == [0.5] * 3
    assert columns[:, TOP_P] == pytest.approx([1, 0.9, 1])
    others = Sampling(temperature={"": 0.5, "velocity": 2}, top_k={"pitch": 3})
    assert others.columns(FIELDS)[:, TEMPERATURE].tolist() == [0.5, 0.5, 2]
    assert others.top_ks(FIELDS).tolist() == [0, 3, 0]
    assert np.array_equal(Sampling().columns(["token"]), Sampling().columns(FIELDS)[:1])


def test_settings_by_field_survive_json_and_can_be_compared():
    sampling = Sampling(temperature={"pitch": 0.9, "velocity": 1.2}, top_k={"pitch": 3})
    again = Sampling(**json.loads(json.dumps(vars(sampling))))
    assert again == sampling
    assert hash(again) == hash(sampling)
    assert sampling != Sampling(temperature={"pitch": 0.9})


def test_an_unknown_field_is_named_with_those_that_are_known():
    for name in ("temperature", "top_p", "repetition_penalty", "frequency_penalty"):
        with pytest.raises(UserError, match=f"{name} is given for colour.*family, pitch, velocity"):
            Sampling(**{name: {"colour": 1}}).columns(FIELDS)
    with pytest.raises(UserError, match="top_k is given for colour"):
        Sampling(top_k={"colour": 1}).top_ks(FIELDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.9", 0.9),
        ("pitch=0.9", {"pitch": 0.9}),
        ("pitch=0.9,velocity=1.2", {"pitch": 0.9, "velocity": 1.2}),
        (" pitch = 0.9 , 1 ", {"pitch": 0.9, "": 1.0}),
        ("field 1=2", {"field 1": 2.0}),
    ],
)
def test_settings_are_read_as_people_write_them(text, expected):
    assert parse_setting(text, float) == expected


@pytest.mark.parametrize("text", ["1,2", "pitch=1,pitch=2"])
def test_two_numbers_for_one_field_are_refused(text):
    with pytest.raises(UserError, match="name each field once"):
        parse_setting(text, float)
