"""What the README shows in Python runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
from making import write_song

from seqgen.checkpoint import save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.midi import open_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "song.mid")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    save_model(tmp_path / "runs/quickstart/model", model, tokenizer, step=1)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(example.splitlines()) <= 20
    exec(compile(example, "README.md", "exec"), {})
    assert open_midi(tmp_path / "continued.mid").instruments


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_every_linked_file_exists(name):
    assert (Path(__file__).parents[1] / name).exists()
