"""Both kinds of models learn from pairs, resume exactly, and write for a source."""

import pytest
from making import write_songs
from preparing import prepare

from seqgen.api.model import load
from seqgen.checkpoint import load_model, read_metrics
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError

PAIRS = "piano -> bass"


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = write_songs(tmp_path_factory.mktemp("train-pairs") / "songs", 6, bars=4)
    config = DataConfig(source=str(folder), prepared_dir=f"{folder}-prepared", pairs=PAIRS)
    return prepare(config, LimitsConfig(), TokenizerConfig(parts="tracks")).data


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder"])
def test_a_resumed_run_of_pairs_is_the_uninterrupted_one_and_writes(
    songs, run_steps, tmp_path, kind
):
    model = ModelConfig(d_model=16, n_layers=1, n_heads=2, kind=kind, positions="bar-numbers")
    choices = {"data": songs, "model": model, "pairs": PAIRS, "context_length": 48}
    whole, _ = run_steps("whole", **choices)
    run_steps("parts", max_steps=4, **choices)
    parts, _ = run_steps("parts", resume=True, **choices)
    weights = [load_model(x.path, checkpoint="last").model.state_dict() for x in (whole, parts)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    losses = [line["loss"] for line in read_metrics(whole.metrics) if "loss" in line]
    assert losses[-1] < losses[0]
    loaded = load(whole.path)
    source = write_songs(tmp_path / "source", 1, bars=3) / "song-00.mid"
    [piece] = loaded.generate(source=source, max_tokens=20)
    assert piece.save(tmp_path / "written.mid").stat().st_size > 0
    with pytest.raises(UserError, match="give it one with --source"):
        loaded.generate()
