"""What the README and the guide to Python show runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
from making import write_song

import seqgen
from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.midi import open_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tokenizers import build_tokenizer, settled

PROJECT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{path.name}" for path in PROJECT.glob("docs/*.md")),
]


def programs(page):
    """The Python programs of a page, compiled."""
    text = (PROJECT / page).read_text()
    return [
        compile(code, page, "exec")
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    ]


@pytest.fixture(autouse=True)
def _run(tmp_path, monkeypatch):
    """A small untrained run and a song in an empty folder."""
    monkeypatch.chdir(tmp_path)
    write_song(tmp_path / "song.mid")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    save_model(tmp_path / "runs/mine/model", model, tokenizer, step=1)


def test_the_readme_program_runs(tmp_path):
    (program,) = programs("README.md")
    exec(program, {})
    assert all(open_midi(tmp_path / f"continued-{i}.mid").instruments for i in range(4))


def test_the_programs_about_streams_run(tmp_path):
    _, _, *streams = programs("docs/python.md")  # the first one trains, as in test_examples.py
    names = {"seqgen": seqgen, "model": seqgen.load("runs/mine")}
    for program in streams:
        exec(program, names)
    assert all(variant.finished for variant in names["variants"])
    assert (tmp_path / "idea.session").stat().st_size < 2**20


def test_the_program_that_asks_and_edits_runs(tmp_path):
    data = DataConfig(tasks={"infill": 1.0, "accompany": 1.0}, controls=["key", "chords"])
    parts = TokenizerConfig(parts="tracks", part_names=["0", "32", "drums"])
    options = {"use_time_signatures": True, "time_signatures": ["4/4", "3/4"]}
    config = with_marks(settled(parts.model_copy(update=options)), data)
    tokenizer = build_tokenizer(config, LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1), tokenizer.vocabulary)
    save_model(tmp_path / "runs/asked/model", model, tokenizer, step=1)
    midi = open_midi(tmp_path / "song.mid")
    midi.instruments = midi.instruments[:1]
    midi.dump(str(tmp_path / "melody.mid"))
    _, program, *_ = programs("docs/python.md")
    exec(program, {"seqgen": seqgen, "model": seqgen.load("runs/asked")})
    for name in ("asked", "rewritten", "varied", "accompanied"):
        assert open_midi(tmp_path / f"{name}.mid").instruments


@pytest.mark.parametrize("page", PAGES)
def test_every_linked_file_exists(page):
    folder = (PROJECT / page).parent
    for name in re.findall(r"\]\(([\w./-]+)\)", (PROJECT / page).read_text()):
        assert (folder / name).exists(), name
