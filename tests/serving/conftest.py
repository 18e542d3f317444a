"""A server with tiny models that have learned nothing: the grammar makes music of their draws."""

import pytest
import torch
from making import write_band

from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tokenizers import build_tokenizer, settled

TRACKS = {"parts": "tracks", "part_names": ["0", "33", "40", "drums"], "use_time_signatures": True}
TRACKS |= {"use_tempos": True, "use_velocities": True, "positions_per_beat": 4}
TASKS = {"continue": 1.0, "infill": 1.0, "accompany": 1.0}


def write_run(folder, config):
    tokenizer = build_tokenizer(config, LimitsConfig())
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary)
    if tokenizer.bar is not None:
        with torch.no_grad():  # short bars, and no end before the last one
            bias = model.lm_head.linears[0].bias
            bias[int(tokenizer.bar[0])] += 3
            bias[[name.startswith("Part_") for name in tokenizer.names()]] += 4
            bias[[name == "position" for name in tokenizer.names()]] += 6  # of compound words
            bias[tokenizer.vocabulary.eos_id] -= 30
    save_model(folder / "model", model, tokenizer, step=7, context_length=256, loss=2.0)
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A band with all tasks and controls, a piano that quotes bars, and two more."""
    folder = tmp_path_factory.mktemp("runs")
    band = with_marks(settled(TokenizerConfig(**TRACKS)), DataConfig(tasks=TASKS, controls=["all"]))
    levels = {"levels": {"density": [1.0, 2.0, 4.0, 8.0], "register": [40.0, 50.0, 60.0, 70.0]}}
    write_run(folder / "band", band.model_copy(update=levels))
    write_run(folder / "piano", settled(TokenizerConfig(parts="one", quotes=True, tempo=90.0)))
    write_run(folder / "compound", settled(TokenizerConfig(type="cpword", **TRACKS)))
    write_run(folder / "words", TokenizerConfig(type="bytes"))
    return folder


@pytest.fixture(scope="session")
def song(tmp_path_factory):
    return write_band(tmp_path_factory.mktemp("song") / "song.mid", bars=4)


@pytest.fixture
def studio(runs, tmp_path):
    from seqgen.serving.studio import Studio

    return Studio(tmp_path / "projects", runs_folder=runs)


@pytest.fixture
def client(studio):
    from fastapi.testclient import TestClient

    from seqgen.serving.app import build_app

    with TestClient(build_app(studio), raise_server_exceptions=False) as client:
        yield client
