"""Configuration is strict, and says what is wrong in one sentence."""

from pathlib import Path

import pytest

from seqgen.config import Config, TrainConfig, load_config, save_config
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


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_booleans_are_spelled_as_in_yaml_or_python(text):
    assert load_config(None, [f"tokenizer.use_tempos={text}"]).tokenizer.use_tempos is True


@pytest.mark.parametrize("key", ["train.init_from", "train.early_stopping"])
def test_null_clears_a_key_that_may_be_null(tmp_path, key):
    path = tmp_path / "a.yaml"
    path.write_text("train:\n  init_from: runs/a\n  early_stopping: 3\n")
    config = load_config(path, [f"{key}=null"])
    assert getattr(config.train, key.partition(".")[2]) is None


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400", "nan"])
@pytest.mark.parametrize(
    "key", ["train.learning_rate", "train.grad_clip", "limits.max_minutes", "tokenizer.tempo"]
)
def test_every_number_is_finite(key, value):
    with pytest.raises(UserError, match=rf"{key} = .*: input should be a (finite|valid) number"):
        load_config(None, [f"{key}={value}"])


def test_numbers_inside_a_setting_are_finite():
    with pytest.raises(UserError, match=r"train\.learning_rates.* = inf: .*finite"):
        load_config(None, ["train.learning_rates={'lm_head.*': .inf}"])
    with pytest.raises(ValueError, match="finite number"):
        TrainConfig(weight_decay=float("nan"))


def test_arguments_override_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train:\n  max_steps: 5\n  batch_size: 2\n")
    config = load_config(path, ["train.max_steps=7", "data.source=some/folder"])
    assert (config.train.max_steps, config.train.batch_size) == (7, 2)
    assert config.data.source == "some/folder"


def test_several_sources_are_a_list_of_names_however_they_look(tmp_path):
    config = load_config(None, ["data.source=[my songs, /x/1999, 007]"])
    assert config.data.source == ["my songs", "/x/1999", "007"]
    save_config(config, tmp_path / "a.yaml")
    assert load_config(tmp_path / "a.yaml") == config
    assert load_config(None, ["data.source=Songs [live]"]).data.source == "Songs [live]"
    assert load_config(None, ["data.source=['[live]']"]).data.source == ["[live]"]


def test_what_is_saved_is_read_back(tmp_path):
    config = load_config(
        None,
        [
            "train.freeze=['stack.*']",
            "train.learning_rates={'lm_head.*': 1e-4}",
            "train.devices=[0]",
        ],
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
        ("tokenizer.use_tempos=yes", "'yes': input should be a valid boolean (true or false)"),
        ("train.early_stopping=None", "valid integer, or null"),
        ("train.freeze=stack", "train.freeze = 'stack'"),
        ("data.source=[]", "data.source = []: give the name of a folder, a file or a corpus, or"),
        ("data.source=", "data.source = ''"),
        ("data.source=[[a]]", "data.source = [['a']]"),
        ("data.source=[a, '']", "data.source = ['a', '']"),
        ("data.source=[a", "data.source: cannot read the value '[a'"),
        ("model.decay=slow", "model.decay = 'slow'"),
        ("model.decay_range=[0,8]", "model.decay_range"),
        ("model.decay_range=[8,3]", "model.decay_range = [8, 3]: the first head"),
        ("model.n_heads=3", "d_model 128 must be a multiple of n_heads 3"),
        ("data.validation=0.9", None),
        ("train.max_steps", "not of the form section.key=value"),
        ("max_steps=3", "not of the form section.key=value"),
        ("train=3", "not of the form"),
        ("train.max_steps=[1", "cannot read the value"),
        ("data.pairs=soprano ->", "both sides of an arrow"),
        ("model.kind=encoder-decoder", "set data.pairs"),
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
        ["train.carry_state=true", "model.attention=softmax"],
        ["model.decay=fixed", "model.attention=softmax"],
        ["model.decay=learned", "model.heads_without_decay=4"],
        ["data.pairs=files", "train.carry_state=true"],
        ["data.pairs=files", "data.controls=[all]"],
        ["data.pairs=files", "model.positions=learned"],
    ],
)
def test_settings_that_exclude_each_other_are_refused(overrides):
    load_config(None, overrides[:1])
    with pytest.raises(UserError, match=overrides[0].partition("=")[0]):
        load_config(None, overrides)


def test_a_schedule_that_would_leave_nothing_to_learn_with_is_refused():
    early = ["train.max_steps=900", "train.schedule_steps=300"]
    with pytest.raises(UserError, match=r"learning rate is 0 from train.schedule_steps=300 on"):
        load_config(None, early)
    load_config(None, [*early, "train.final_learning_rate=0.1"])
    load_config(None, [*early, "train.schedule=constant"])
    for ends in ("[]", "[900,300]"):
        with pytest.raises(UserError, match="ascending"):
            load_config(None, [f"train.schedule_steps={ends}"])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("max_steps", [300, 30_000])
def test_every_shipped_schedule_ends_with_training(path, max_steps):
    config = load_config(path, [f"train.max_steps={max_steps}"])
    assert config.train.schedule_ends == [max_steps]


@pytest.mark.parametrize("text", ["- 1\n", "train: 3\n", "train: [1\n", "\tx"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml"):
        load_config(path)


def test_a_mistake_is_laid_to_the_file_only_if_it_is_there(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("train:\n  max_steps: 5\n")
    for override in ("train.max_stepz=3", "train.batch_size=many", "model.n_heads=3"):
        with pytest.raises(UserError) as caught:
            load_config(path, [override])
        assert "a.yaml" not in str(caught.value)
    path.write_text("train:\n  max_steps: many\n")
    for overrides in ([], ["train.batch_size=many"]):
        with pytest.raises(UserError, match=r"^.*a\.yaml: train\.max_steps = 'many'"):
            load_config(path, overrides)


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
