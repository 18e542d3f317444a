"""The examples run as they stand, on a small run of their own."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from making import write_song, write_songs

from seqgen.checkpoint import save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.midi import open_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {"d_model": 16, "n_layers": 2, "n_heads": 2}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An untrained run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(**SMALL), tokenizer.vocabulary)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_model(tmp_path / "runs/small/model", model, tokenizer, step=1)
    return "runs/small"


def execute(name, *arguments):
    """Run an example as a program; return its exit code."""
    sys.argv = [name, *arguments]
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.fixture(autouse=True)
def _arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", [])


def test_every_example_is_tested():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    text = Path(__file__).read_text()
    assert {name for name in names if f'"{name}"' in text} == names


def test_train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_songs(tmp_path / "songs", 6)
    sizes = [f"model.{key}={value}" for key, value in SMALL.items()]
    steps = ["train.max_steps=4", "train.warmup_steps=1", "train.validate_every=4"]
    fast = ["train.accelerator=cpu", "train.sample_tokens=0", "run.dir=runs/new"]
    assert execute("train.py", "songs", *sizes, *steps, *fast) == 0
    assert all(open_midi(tmp_path / f"new-{n}.mid").instruments for n in (1, 2))
    assert (tmp_path / "runs/new/validation.json").exists()


def test_continue_file(run, tmp_path):
    write_song(tmp_path / "song.mid")
    assert execute("continue_file.py", run, "song.mid") == 0
    assert all(open_midi(tmp_path / f"continued-{n}.mid").instruments for n in (1, 2, 3, 4))
    with pytest.raises(UserError, match=r"continued-1\.mid exists"):
        execute("continue_file.py", run, "song.mid")


def test_engine(run, capsys):
    assert execute("engine.py", run) == 0
    assert capsys.readouterr().out.count("ended by") == 10


def test_sessions(run, tmp_path, capsys):
    assert execute("sessions.py", run, "idea.session") == 0
    assert (tmp_path / "idea.session").exists()
    lines = capsys.readouterr().out.splitlines()
    assert len(set(lines)) == 3


def test_numpy_decoder(run, capsys):
    assert execute("numpy_decoder.py", run) == 0
    assert "differ" not in capsys.readouterr().out
