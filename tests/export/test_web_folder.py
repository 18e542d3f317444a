"""The folder of a page that needs no server, or the sentence that says why there is none."""

import gzip
import json

import pytest
import torch
from click.testing import CliRunner
from making import write_model

from seqgen.checkpoint import save_model
from seqgen.commands.export import export as command
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.export import web
from seqgen.export.web import export_web
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch):
    """A page in the place of the built one."""
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "index.js").write_text("")
    monkeypatch.setattr(web, "PAGE", folder)
    monkeypatch.setenv("SEQGEN_SOUNDFONT", "")
    return folder


def test_a_folder_holds_the_page_the_model_and_nothing_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_small_soundfont", lambda: None)
    run = write_model(tmp_path / "run", decay="fixed", parts="tracks", part_names=["0", "drums"])
    assert export_web(run, tmp_path / "out", name="mine") is None
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    model = {f"model/{x}" for x in ("step-int8.bin", "vocabulary.json", "manifest.json")}
    assert names == model | {"index.html", "assets/index.js"}
    text = (tmp_path / "out" / "model" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["name"] == "mine"
    assert [part["token"] for part in manifest["parts"]] == ["0", "drums"]
    assert manifest["state"]["S"] == {"type": "float32", "shape": [1, "rows", 2, 8, 8]}
    assert str(tmp_path) not in text


def test_the_card_of_a_published_model_says_what_it_learned_from(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_small_soundfont", lambda: None)
    run = write_model(tmp_path / "run")
    card = "# mine\n\n## Trained on\n\nTunes of mine. Licence: CC0.\n\n500 steps.\n\n## Limits\n"
    (run / "README.md").write_text(card)
    export_web(run, tmp_path / "out", name="mine")
    manifest = json.loads((tmp_path / "out" / "model" / "manifest.json").read_text())
    assert manifest["about"][-1] == "It was trained on Tunes of mine. Licence: CC0."


def test_a_small_soundfont_goes_with_the_page(tmp_path, monkeypatch):
    sound = tmp_path / "small.sf2"
    sound.write_bytes(b"RIFF0000sfbk")
    monkeypatch.setenv("SEQGEN_SOUNDFONT", str(sound))
    run = write_model(tmp_path / "run")
    assert export_web(run, tmp_path / "out", name="mine") == sound
    packed = (tmp_path / "out" / "model" / "sound.bin").read_bytes()
    assert gzip.decompress(packed) == sound.read_bytes()


def test_a_large_soundfont_stays_here(tmp_path, monkeypatch):
    sound = tmp_path / "large.sf2"
    sound.write_bytes(b"RIFF0000sfbk")
    monkeypatch.setenv("SEQGEN_SOUNDFONT", str(sound))
    monkeypatch.setattr(web, "LARGEST_SOUNDFONT", 11)
    assert export_web(write_model(tmp_path / "run"), tmp_path / "out", name="mine") is None


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export_web(write_model(tmp_path / "run"), tmp_path / "out", name="mine")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_without_a_built_page_the_way_to_build_it_is_named(tmp_path, page):
    (page / "index.html").unlink()
    with pytest.raises(UserError, match="make studio"):
        export_web(write_model(tmp_path / "run"), tmp_path / "out", name="mine")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("choices", "setting"),
    [
        ({"type": "tsd"}, "tokenizer.type=tsd"),
        ({"type": "midilike"}, "tokenizer.type=midilike"),
        ({"type": "cpword"}, "tokenizer.type=cpword"),
        ({"use_sustain_pedals": True}, "tokenizer.use_sustain_pedals=true"),
        ({"use_pitch_bends": True}, "tokenizer.use_pitch_bends=true"),
    ],
)
def test_what_the_page_cannot_read_is_refused_by_its_setting(choices, setting, tmp_path):
    run = write_model(tmp_path / "run", **choices)
    with pytest.raises(UserError, match=setting):
        export_web(run, tmp_path / "out", name="mine")


def test_softmax_attention_is_refused(tmp_path):
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    config = ModelConfig(d_model=16, n_layers=1, n_heads=2, attention="softmax")
    torch.manual_seed(0)
    model = SequenceModel(config, tokenizer.vocabulary)
    save_model(tmp_path / "model", model, tokenizer, step=0)
    with pytest.raises(UserError, match=r"model\.attention=softmax"):
        export_web(tmp_path / "model", tmp_path / "out", name="mine")


def test_the_command_tells_the_size_and_how_to_try_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_small_soundfont", lambda: None)
    run, out = write_model(tmp_path / "run"), tmp_path / "out"
    result = CliRunner().invoke(command, [str(run), "--web", str(out)])
    assert result.exit_code == 0, result.output
    assert "MB)" in result.output
    assert "plain synthesizer" in result.output
    assert f"python -m http.server -d {out}" in result.output
    assert json.loads((out / "model" / "manifest.json").read_text())["name"] == "run"
