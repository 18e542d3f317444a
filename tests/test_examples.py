"""The examples run as they stand, on a small run of their own."""

import runpy
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from making import write_song, write_songs

from seqgen.checkpoint import load_model, save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.decoding import build_decoder
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


@pytest.mark.parametrize(
    "choices",
    [
        {"conv_width": 0, "activation": "relu"},
        {"conv_width": 5, "decay": "learned", "heads_without_decay": 1, "decay_range": [0.5, 4.0]},
    ],
)
@pytest.mark.parametrize("weights", ["float32", "bf16"])
def test_numpy_decoder_has_the_logits_of_the_reference_at_every_position(
    tmp_path, choices, weights
):
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(**SMALL, **choices), tokenizer.vocabulary)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_model(tmp_path / "model", model, tokenizer, step=1, weights=weights)
    reference = build_decoder(load_model(tmp_path / "model").model, "reference")
    sys.argv = ["numpy_decoder.py"]  # which runpy sets
    ours = runpy.run_path(str(EXAMPLES / "numpy_decoder.py"))["Decoder"](tmp_path / "model")
    state, ids = reference.initial_state(1), [1, *range(10, 40)]
    for i in ids:
        (logits,), state = reference.step(torch.tensor([[i]]), state)
        assert np.allclose(ours.step(i), logits[0].numpy(), atol=1e-3, rtol=1e-4)


def test_numpy_decoder_generates(run, capsys):
    assert execute("numpy_decoder.py", f"{run}/model", "--tokens", "30") == 0
    drawn = [int(word) for word in capsys.readouterr().out.split()]
    assert 0 < len(drawn) <= 30
    assert not {0, 1, 2} & set(drawn)


def test_studio_client(run, tmp_path, capsys):
    pytest.importorskip("fastapi", reason="needs the extra `studio`")
    import uvicorn

    from seqgen.serving.app import build_app
    from seqgen.serving.studio import Studio

    app = build_app(Studio(tmp_path / "projects"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            assert execute("studio_client.py", address, "small") == 0
        finally:
            server.should_exit = True
            thread.join()
    assert "notes" in capsys.readouterr().out
    assert open_midi(tmp_path / "piece.mid").instruments
