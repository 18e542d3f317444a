"""Where trained models are found, and the one that ships with the package."""

import sys
from types import SimpleNamespace

import pytest
from making import write_model

import seqgen
from seqgen.api.places import SHIPPED_FOLDER, find_model, model_name
from seqgen.errors import UserError
from seqgen.midi import open_midi

MOST_BYTES = 3_000_000


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for huggingface_hub: it has one repository and notes what is asked of it."""
    asked = []

    class HubError(OSError):
        pass

    def snapshot_download(repository, **options):
        asked.append((repository, options))
        if repository != "someone/chorales":
            raise HubError("404 Client Error\nmore words")
        return str(SHIPPED_FOLDER)

    errors = SimpleNamespace(HfHubHTTPError=HubError, LocalEntryNotFoundError=HubError)
    module = SimpleNamespace(snapshot_download=snapshot_download, errors=errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


def test_without_a_run_the_shipped_model_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_model(None) == SHIPPED_FOLDER
    run = write_model(tmp_path / "runs" / "mine")
    assert find_model(None).resolve() == run.resolve()
    assert find_model("shipped") == SHIPPED_FOLDER
    assert model_name(SHIPPED_FOLDER) == "shipped"


def test_the_shipped_model_is_small_and_writes_music(tmp_path):
    assert (SHIPPED_FOLDER / "model.safetensors").stat().st_size < MOST_BYTES
    assert "Licence" in (SHIPPED_FOLDER / "README.md").read_text()
    [piece] = seqgen.load("shipped").generate(max_tokens=100, seed=1)
    assert sum(len(track.notes) for track in open_midi(piece.save(tmp_path / "a.mid")).instruments)


def test_a_repository_is_read_at_its_revision_without_code(hub):
    assert find_model("hf:someone/chorales@v1") == SHIPPED_FOLDER
    [(_, options)] = hub
    assert options["revision"] == "v1"
    assert options["allow_patterns"] == ["config.json", "model.safetensors", "tokenizer/*"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf:someone/chorales", "the revision, a commit, tag or branch"),
        ("hf:chorales@v1", r"must be hf:OWNER/NAME@REVISION"),
        ("hf:someone/else@v1", "cannot read hf:someone/else@v1 from Hugging Face: 404 Client Err"),
    ],
)
def test_a_repository_that_cannot_be_read_is_one_sentence(hub, name, words):
    with pytest.raises(UserError, match=words) as raised:
        find_model(name)
    assert "\n" not in str(raised.value)


def test_a_missing_library_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'seqgen\[hub\]'"):
        find_model("hf:someone/chorales@v1")
