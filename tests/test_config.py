"""Configuration is strict, and says what is wrong in one sentence."""

from pathlib import Path

import pytest

from seqgen.config import Config, load_config, save_config
from seqgen.errors import UserError

SHIPPED = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    assert isinstance(load_config(path), Config)


def test_scientific_numbers_are_numbers_and_no_is_a_word(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train:\n  learning_rate: 3e-4\nrun:\n  dir: no\n")
    config = load_config(path)
    assert config.train.learning_rate == 3e-4
    assert config.run.dir == "no"


def test_arguments_override_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train:\n  max_steps: 5\n  batch_size: 2\n")
    config = load_config(path, ["train.max_steps=7", "data.source=some/folder"])
    assert (config.train.max_steps, config.train.batch_size) == (7, 2)
    assert config.data.source == "some/folder"


def test_what_is_saved_is_read_back(tmp_path):
    config = load_config(
        None,
        ["train.freeze=['stack.*']", "train.learning_rates={'heads.*': 1e-4}", "train.devices=[0]"],
    )
    save_config(config, tmp_path / "a.yaml")
    assert load_config(tmp_path / "a.yaml") == config


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.learning_rat=1", "train.learning_rat is not a known key; did you mean learning_ra"),
        ("trian.max_steps=1", "trian is not a known key; did you mean train"),
        ("train.max_steps=-3", "train.max_steps = -3"),
        ("train.max_steps=many", "train.max_steps = 'many'"),
        ("train.max_steps=true", "train.max_steps = True"),
        ("train.schedule=cosin", "'cosine', 'linear'"),
        ("train.freeze=stack", "train.freeze = 'stack'"),
        ("model.n_heads=3", "d_model 128 must divide by n_heads 3"),
        ("data.validation=0.9", None),
        ("train.max_steps", "not of the form section.key=value"),
        ("max_steps=3", "not of the form section.key=value"),
        ("train=3", "not of the form"),
        ("train.max_steps=[1", "cannot read the value"),
    ],
)
def test_a_wrong_setting_is_named(override, said):
    if said is None:
        with pytest.raises(UserError, match="leave a share for training"):
            load_config(None, [override, "data.test=0.2"])
        return
    with pytest.raises(UserError) as caught:
        load_config(None, [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.recompute=true", "train.compile=true"],
        ["train.carry_state=true", "model.positions=learned"],
        ["train.carry_state=true", "model.attention=full"],
    ],
)
def test_settings_that_exclude_each_other_are_refused(overrides):
    load_config(None, overrides[:1])
    with pytest.raises(UserError, match=overrides[0].partition("=")[0]):
        load_config(None, overrides)


@pytest.mark.parametrize("text", ["- 1\n", "train: 3\n", "train: [1\n", "\tx"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml"):
        load_config(path)


def test_each_wrong_key_is_named_once():
    with pytest.raises(UserError) as caught:
        load_config(None, ["train.devices=7.5", "train.max_steps=0"])
    assert str(caught.value).count("train.devices") == 1
    assert str(caught.value).count("train.max_steps") == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no configuration file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "content", [b"\xff", b"a: [", b"!!int x", b"!!timestamp x", b"[" * 10**4, b"9" * 5000, b"[1]"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_config(path)
