"""A model folder comes back whole or is refused with a sentence."""

import os
import random

import pytest
import torch

from seqgen import checkpoint
from seqgen.checkpoint import (
    FORMAT,
    describe_step,
    find_run,
    load_model,
    read_metrics,
    save_model,
)
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.files import read_record, write_record
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer


@pytest.fixture
def saved(tmp_path):
    tokenizer = build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    folder = tmp_path / "run" / "model"
    save_model(folder, model, tokenizer, step=7, loss=1.5)
    return folder, model


def change_record(folder, *, format=FORMAT, **changes):
    """Write another record, with a checksum that is right."""
    path = folder / "config.json"
    record = read_record(path, format=FORMAT, way_out="")
    write_record(path, {**record, "format": format, **changes}, format=format)


def damage(content, rng):
    """Flip a bit somewhere, or cut the end off."""
    place = rng.randrange(len(content))
    if rng.random() < 0.2:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def assert_equal_models(a, b):
    assert a.config == b.config
    assert a.vocabulary == b.vocabulary
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def test_round_trip_from_the_model_folder_or_its_run(saved):
    folder, model = saved
    for path in (folder, folder.parent):
        loaded = load_model(path)
        assert loaded.step == 7
        assert loaded.record["loss"] == 1.5
        assert not loaded.model.training
        assert_equal_models(loaded.model, model)


def test_the_kind_of_attention_is_stored(saved):
    """The weights of both kinds have the same names and shapes, so nothing else tells them."""
    folder, model = saved
    assert load_model(folder).model.config.attention == "causal-linear"
    softmax = {**model.config.model_dump(), "attention": "softmax"}
    change_record(folder, model=softmax)
    loaded = load_model(folder).model
    assert loaded.config == ModelConfig(**softmax)
    tokens = torch.randint(0, 100, (1, 9, 1))
    with torch.no_grad():
        assert not torch.allclose(loaded(tokens)[0], model.eval()(tokens)[0])


@pytest.mark.parametrize("kind", ["bytes", "remi"])
def test_a_damaged_folder_is_refused_or_changes_nothing(tmp_path, kind):
    tokenizer = build_tokenizer(TokenizerConfig(type=kind), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=8, n_layers=1), tokenizer.vocabulary)
    folder = tmp_path / "model"
    save_model(folder, model, tokenizer, step=7, loss=1.5)
    rng = random.Random(0)
    refused = 0
    for path in [path for path in sorted(folder.rglob("*")) if path.is_file()]:
        whole = path.read_bytes()
        for _ in range(60):
            path.write_bytes(damage(whole, rng))
            try:
                loaded = load_model(folder)
            except UserError:
                refused += 1
                continue
            assert (loaded.step, loaded.record["loss"]) == (7, 1.5)
            assert loaded.tokenizer.fingerprint() == tokenizer.fingerprint()
            assert_equal_models(loaded.model, model)
        path.write_bytes(whole)
    assert refused > 100


def test_a_changed_record_is_refused(saved):
    """Weights of other numbers of heads have the same names and shapes."""
    path = saved[0] / "config.json"
    path.write_text(path.read_text().replace('"n_heads": 4', '"n_heads": 2'))
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_model(saved[0])


def test_a_last_checkpoint_that_is_missing_or_damaged_is_named(saved):
    run = saved[0].parent
    assert describe_step(run, load_model(run)) == "step 7"
    with pytest.raises(UserError, match=r"no checkpoint .*last\.ckpt: use --checkpoint best"):
        load_model(run, checkpoint="last")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    assert describe_step(run, load_model(run)) == "step 7"
    with pytest.raises(UserError, match=r"last\.ckpt is damaged .*: use --checkpoint best"):
        load_model(run, checkpoint="last")


def test_weights_that_are_not_numbers_are_named(saved):
    folder, model = saved
    tokenizer = build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig())
    with torch.no_grad():
        model.lm_head.linears[0].bias[3] = torch.nan
    save_model(folder, model, tokenizer, step=7)
    with pytest.raises(UserError, match=r"not finite, in lm_head\.linears\.0\.bias"):
        load_model(folder)


def test_a_model_that_is_replaced_while_it_is_read_is_read_again(saved, monkeypatch):
    folder, model = saved
    tokenizer = build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig())
    check = checkpoint.check_files

    def replace(*arguments, **options):
        monkeypatch.setattr(checkpoint, "check_files", check)
        with torch.no_grad():
            model.lm_head.linears[0].bias += 1
        save_model(folder, model, tokenizer, step=8)
        check(*arguments, **options)

    monkeypatch.setattr(checkpoint, "check_files", replace)
    assert load_model(folder).step == 8


@pytest.mark.parametrize(
    "line", [b"", b"\xff", b"[1]", b'{"loss": 1}', b'{"step": 1, "loss": "x"}']
)
def test_a_damaged_line_of_metrics_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 2}\n' + line + b'\n{"step": 3, "loss": null}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged in line 2"):
        read_metrics(path)


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
    with pytest.raises(UserError, match=r"tokenizer\.json is damaged"):
        load_model(saved[0])
    change_record(saved[0], files={})
    with pytest.raises(UserError, match="not the tokenizer"):
        load_model(saved[0])


@pytest.mark.parametrize("text", ["{", "[]", "[" * 10**5, "\x00", f'{{"format": {FORMAT}}}'])
def test_a_damaged_record_is_refused(saved, text):
    (saved[0] / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load_model(saved[0])


def test_a_later_format_is_refused(saved):
    change_record(saved[0], format=99)
    with pytest.raises(UserError, match=r"another version of seqgen .it has format 99"):
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
    os.utime(folder / "config.json", (1, 1))
    assert find_run(tmp_path) == tmp_path / "later"
    assert find_run(tmp_path / "none") is None


def test_an_unknown_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="checkpoint = newest: must be one of best, last"):
        load_model(tmp_path, checkpoint="newest")
