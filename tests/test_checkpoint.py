"""A model folder comes back whole or is refused with a sentence."""

import json
import os

import pytest
import torch

from seqgen.checkpoint import describe_step, find_run, load_model, save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer


@pytest.fixture
def saved(tmp_path):
    tokenizer = build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    folder = tmp_path / "run" / "model"
    save_model(folder, model, tokenizer, step=7, loss=1.5)
    return folder, model


def change_record(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip_from_the_model_folder_or_its_run(saved):
    folder, model = saved
    for path in (folder, folder.parent):
        loaded = load_model(path)
        assert loaded.step == 7
        assert loaded.record["loss"] == 1.5
        assert not loaded.model.training
        assert loaded.model.config == model.config
        for name, value in model.state_dict().items():
            assert torch.equal(value, loaded.model.state_dict()[name])


def test_the_kind_of_attention_is_stored(saved):
    """The weights of both kinds have the same names and shapes, so nothing else tells them."""
    folder, model = saved
    assert load_model(folder).model.config.attention == "causal-linear"
    full = {**model.config.model_dump(), "attention": "full"}
    change_record(folder, model=full)
    loaded = load_model(folder).model
    assert loaded.config == ModelConfig(**full)
    tokens = torch.randint(0, 100, (1, 9, 1))
    with torch.no_grad():
        assert not torch.allclose(loaded(tokens)[0], model.eval()(tokens)[0])


def test_a_last_checkpoint_that_is_missing_or_damaged_is_named(saved):
    run = saved[0].parent
    assert describe_step(run, load_model(run)) == "step 7"
    with pytest.raises(UserError, match=r"no last checkpoint .*last\.ckpt: use --checkpoint best"):
        load_model(run, checkpoint="last")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    assert describe_step(run, load_model(run)) == "step 7"
    with pytest.raises(UserError, match=r"last\.ckpt is damaged .*: use --checkpoint best"):
        load_model(run, checkpoint="last")


def test_a_flipped_bit_is_noticed(saved):
    path = saved[0] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_model(saved[0])


def test_weights_of_other_sizes_are_refused(saved):
    folder, model = saved
    change_record(folder, model={**model.config.model_dump(), "n_layers": 2})
    with pytest.raises(UserError, match="does not hold the model"):
        load_model(folder)


def test_an_unknown_choice_is_refused(saved):
    folder, model = saved
    change_record(folder, model={**model.config.model_dump(), "attention": "quadratic"})
    with pytest.raises(UserError, match="does not hold the model"):
        load_model(folder)


def test_a_foreign_tokenizer_is_refused(saved):
    other = build_tokenizer(TokenizerConfig(), LimitsConfig())
    other.save(saved[0] / "tokenizer")
    with pytest.raises(UserError, match="not the tokenizer"):
        load_model(saved[0])


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_record_is_refused(saved, text):
    (saved[0] / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        load_model(saved[0])


def test_a_later_format_is_refused(saved):
    change_record(saved[0], format=99)
    with pytest.raises(UserError, match="format 99"):
        load_model(saved[0])


def test_missing_weights_and_runs_are_named(saved, tmp_path):
    (saved[0] / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(saved[0])
    with pytest.raises(UserError, match="no run"):
        load_model(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no model in"):
        load_model(tmp_path / "empty")


def test_the_newest_run_is_found(saved, tmp_path):
    folder, model = saved
    tokenizer = build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig())
    save_model(tmp_path / "later" / "model", model, tokenizer, step=1)
    os.utime(folder / "model.json", (1, 1))
    assert find_run(tmp_path) == tmp_path / "later"
    with pytest.raises(UserError, match="no trained model"):
        find_run(tmp_path / "none")
