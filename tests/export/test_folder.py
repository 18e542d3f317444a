"""Exported folders: the same model again, with a card that says what is known, nothing private."""

import shutil

import pytest
import torch
from making import write_songs
from safetensors.torch import load_file

from seqgen.api.settings import CONFIGS
from seqgen.checkpoint import load_model, save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig, load_config, save_config
from seqgen.errors import UserError
from seqgen.export.folder import export_folder
from seqgen.files import write_record
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer

CONFIG = CONFIGS / "quickstart.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with random weights and a validation."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    save_model(folder / "model", model, tokenizer, step=7, loss=1.5, context_length=64)
    save_config(load_config(CONFIG, [f"data.source={folder}"]), folder / "config.yaml")
    scores = [{"name": "this model", "nats_per_token": 1.25, "bits_per_unit": 4.5}]
    write_record(folder / "validation.json", {"unit": "note", "scores": scores}, format=3)
    return folder


def test_an_exported_folder_is_the_same_model(run, tmp_path):
    export_folder(run, tmp_path / "out")
    ours, theirs = load_model(run), load_model(tmp_path / "out")
    assert (theirs.step, theirs.record["context_length"]) == (7, 64)
    assert theirs.tokenizer.fingerprint() == ours.tokenizer.fingerprint()
    for name, value in ours.model.state_dict().items():
        assert torch.equal(value, theirs.model.state_dict()[name])


def test_bf16_rounds_matrices_alone(run, tmp_path):
    export_folder(run, tmp_path / "out", weights="bf16")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    loaded = load_model(tmp_path / "out").model.state_dict()
    for name, value in load_model(run).model.state_dict().items():
        if value.dim() > 1:
            assert stored[name].dtype == torch.bfloat16
            value = value.bfloat16().float()
        assert torch.equal(loaded[name], value)


def test_the_card_has_the_figures_and_no_private_path(run, tmp_path):
    export_folder(run, tmp_path / "a-name", weights="bf16")
    card = (tmp_path / "a-name" / "README.md").read_text()
    for words in ("# a-name", "| this model | 1.250 | 4.500 |", "1 folder of the trainer's own"):
        assert words in card
    assert "rounded to bf16" in card
    assert str(run) not in card


def test_the_card_names_a_corpus_and_its_licence(run, tmp_path):
    named = shutil.copytree(run, tmp_path / "named")
    save_config(load_config(CONFIG), named / "config.yaml")
    export_folder(named, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Bach's four-part chorales" in card
    assert "Licence: The music is in the public domain" in card


def test_a_model_folder_without_its_run_has_a_card_too(run, tmp_path):
    alone = shutil.copytree(run / "model", tmp_path / "alone")
    export_folder(alone, tmp_path / "out")
    assert "not recorded" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_overwritten(run, tmp_path):
    write_songs(tmp_path / "mine", 1)
    with pytest.raises(UserError, match="mine exists already: choose another folder"):
        export_folder(run, tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    export_folder(run, tmp_path / "empty")
    assert load_model(tmp_path / "empty").step == 7


def test_a_changed_file_is_refused_by_name(run, tmp_path):
    export_folder(run, tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path / "out")
