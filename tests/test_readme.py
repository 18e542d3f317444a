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


def test_the_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "song.mid")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    save_model(tmp_path / "runs/quickstart/model", model, tokenizer, step=1)
    generating, streaming = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(generating.splitlines()) <= 20
    names = {}
    exec(compile(generating, "README.md", "exec"), names)
    assert open_midi(tmp_path / "continued.mid").instruments
    exec(compile(streaming, "README.md", "exec"), names)
    assert all(variant.finished for variant in names["variants"])
    assert (tmp_path / "idea.session").stat().st_size < 2**20


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_every_linked_file_exists(name):
    assert (Path(__file__).parents[1] / name).exists()
