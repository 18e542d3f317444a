import json
import subprocess
import sys
from dataclasses import replace

import pytest

from seqgen.data.chorales import CHORALES
from seqgen.data.score_corpora import MANIFEST, build_scores
from seqgen.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """One chorale in a folder that the test may spoil."""
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    return build_scores(CHORALES, tmp_path / "one", only=["bwv253"], workers=1)


def test_a_finished_folder_is_reused(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert build_scores(CHORALES, folder, only=["bwv253"], progress=pytest.fail) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("spoil", ["no manifest", "torn manifest", "missing file", "old format"])
def test_an_unfinished_or_older_folder_is_built_anew(folder, spoil):
    finished = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = folder / MANIFEST
    if spoil == "no manifest":
        manifest.unlink()
    elif spoil == "torn manifest":
        manifest.write_bytes(manifest.read_bytes()[:20])
    elif spoil == "missing file":
        (folder / "bwv253.mid").unlink()
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 0}))
    reports = []
    build_scores(
        CHORALES,
        folder,
        only=["bwv253"],
        workers=1,
        progress=lambda *report: reports.append(report),
    )
    assert reports == [(1, 1)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == finished
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_score_that_cannot_be_read_is_counted_and_skipped(tmp_path):
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    broken = tmp_path / "bwv0.xml"
    broken.write_text("<score-partwise><part>")

    def find(corpus):
        return [(broken.name, broken), ("bwv253.mxl", corpus / "bach" / "bwv253.mxl")]

    folder = build_scores(replace(CHORALES, find=find), tmp_path / "two", workers=1)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["count"] == 1
    assert "could not read it (ParseError" in manifest["left_out"]["bwv0.xml"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    mine = tmp_path / "mine.mid"
    mine.write_bytes(b"")
    with pytest.raises(UserError, match=r"holds mine\.mid"):
        build_scores(CHORALES, tmp_path)
    assert mine.exists()


def test_an_unknown_work_is_named(tmp_path):
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    with pytest.raises(UserError, match="has no bwv9999"):
        build_scores(CHORALES, tmp_path / "x", only=["bwv253", "bwv9999"])


def test_without_music21_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(UserError) as caught:
        build_scores(CHORALES, tmp_path / "chorales")
    assert str(caught.value) == (
        "the chorales corpus needs music21: pip install 'seqgen[chorales]'"
    )
    assert not list(tmp_path.iterdir())


def test_importing_brings_neither_music21_nor_torch():
    code = "import sys, seqgen.data.chorales; print({'music21', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")
