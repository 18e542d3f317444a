"""Exported graphs are compared with the reference while they are written, or not written."""

import json

import pytest
from making import write_model

from seqgen.decoding.onnx import open_graph
from seqgen.errors import UserError
from seqgen.export import onnx as export
from seqgen.export.onnx import export_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("run"), decay="fixed")


def test_a_folder_holds_graphs_vocabulary_and_what_was_compared(run, tmp_path):
    told = export_onnx(run, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    graphs = {f"{name}{kind}.onnx" for name in ("step", "prefill") for kind in ("", "-int8")}
    assert names == graphs | {"vocabulary.json", "README.md"}
    for name in graphs:
        inputs = [
            one.name for one in open_graph((tmp_path / "out" / name).read_bytes()).get_inputs()
        ]
        assert inputs[0] == "tokens"
        assert {"S", "Z", "position"} <= set(inputs)
    vocabulary = json.loads((tmp_path / "out" / "vocabulary.json").read_text())
    assert len(vocabulary["names"]) == vocabulary["fields"][0][1]
    assert 0 <= told.difference < export.MOST_DIFFERENCE
    assert told.bits[1] == pytest.approx(told.bits[0], abs=0.05)
    assert f"{told.bits[1]:.4f} with 8-bit weights" in (tmp_path / "out" / "README.md").read_text()


def test_a_graph_that_differs_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr("seqgen.decoding.onnx_graph.EPS", 1.0)
    with pytest.raises(UserError, match="differs from the reference decoder"):
        export_onnx(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(run, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="exists already"):
        export_onnx(run, tmp_path)
