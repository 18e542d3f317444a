"""A folder of generated files is read whole, whatever lies in it and beside the files."""

import json

import pytest
from making import write_song

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.evaluation import generated, validity
from seqgen.evaluation.generated import read_generated
from seqgen.evaluation.piece_sets import Amount
from seqgen.evaluation.validity import check_generated
from seqgen.tokenizers import build_tokenizer


def nothing(*_):
    pass


def read(folder, kind="remi", **limits):
    tokenizer = build_tokenizer(TokenizerConfig(type=kind), LimitsConfig(**limits))
    paths = sorted(folder.rglob(f"*{tokenizer.suffix}"))
    return read_generated(paths, folder=folder, tokenizer=tokenizer, progress=nothing)


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    write_song(tmp_path / "a/001.mid")
    write_song(tmp_path / "b/001.mid")
    assert [piece.name for piece in read(tmp_path)] == ["a/001.mid", "b/001.mid"]


def test_names_that_are_no_utf8_can_be_written(tmp_path):
    write_song(tmp_path / "\udcff.mid")
    (piece,) = read(tmp_path)
    assert piece.name.encode().decode() == "�.mid"


@pytest.mark.parametrize(
    "said",
    [
        {"sampling": "nucleus", "seed": [1], "run": 7, "ended_by_itself": "yes"},
        {"sampling": {"top": 3}, "prompt_seconds": 1e999, "step": 10**30},
        ["a", "list"],
    ],
)
def test_a_foreign_record_is_not_believed(tmp_path, said):
    path = write_song(tmp_path / "001.mid")
    path.with_suffix(".json").write_text(json.dumps(said))
    (piece,) = read(tmp_path)
    assert piece.record == {}
    assert (piece.ended_by_itself, piece.prompted) == (None, False)


def test_what_is_no_json_is_no_record(tmp_path):
    path = write_song(tmp_path / "001.mid")
    for content in (b"\xff\xfe", b"[" * 100_000, b"9" * 10_000):
        path.with_suffix(".json").write_bytes(content)
        assert read(tmp_path)[0].record == {}


def test_a_record_of_generate_is_kept(tmp_path):
    path = write_song(tmp_path / "001.mid")
    record = {
        "sampling": {"temperature": 0.9, "top_k": None, "grammar": True, "logit_bias": []},
        "seed": 3, "run": "runs/a", "ended_by_itself": False, "prompt": "song.mid",
        "prompt_tokens": 9, "prompt_seconds": 4.5, "file": "001.mid",
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(record))
    (piece,) = read(tmp_path)
    del record["file"], record["sampling"]["logit_bias"]
    assert piece.record == record
    assert (piece.prompted, piece.ended_by_itself) == (True, False)


def test_files_beyond_generous_limits_are_told_and_each_is_parsed_once(tmp_path, monkeypatch):
    write_song(tmp_path / "long.mid", bars=40)
    write_song(tmp_path / "short.mid", bars=2)
    (tmp_path / "none.mid").write_bytes(b"")
    limits = generated.GENEROUS.model_copy(update={"max_notes": 100})
    monkeypatch.setattr(generated, "GENEROUS", limits)
    pieces = read(tmp_path)
    assert [piece.problem for piece in pieces] == [
        "it has 320 notes, more than limits.max_notes=100", "it holds no bytes", None,
    ]  # fmt: skip
    monkeypatch.setattr(validity, "open_midi", None)  # it would open them again
    found = check_generated(pieces, progress=nothing)
    assert found["generated"]["usable"] == 1
    reasons = {failed["file"]: failed["reasons"][0] for failed in found["failed"]}
    assert reasons["long.mid"] == "it has 320 notes, more than limits.max_notes=100"


def test_text_is_read_and_what_is_none_is_told(tmp_path):
    (tmp_path / "1.txt").write_text("tell me")
    (tmp_path / "2.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "3.txt").write_text("x" * 50)
    pieces = read(tmp_path, "bytes", max_file_bytes=20)
    assert [piece.preview for piece in pieces] == ["tell me", None, None]
    assert [piece.amount for piece in pieces] == [Amount(7), None, None]
    assert "UTF-8" in pieces[1].problem
    assert "larger than limits.max_file_bytes=20" in pieces[2].problem


def test_what_follows_a_prompt_is_what_the_model_wrote(tmp_path):
    (tmp_path / "1.txt").write_text("tell me")
    (tmp_path / "1.json").write_text(json.dumps({"prompt": "x.txt", "prompt_tokens": 1 + 5}))
    (piece,) = read(tmp_path, "bytes")
    assert len(piece.drawn_ids) == len("me")
    path = write_song(tmp_path / "2.mid", bars=2)
    path.with_suffix(".json").write_text(json.dumps({"prompt": "x.mid", "prompt_seconds": 1e4}))
    (piece,) = read(tmp_path)
    assert (piece.drawn_ids, piece.reason) == (None, "no note follows the prompt")


def test_what_the_tokens_refuse_is_valid_and_told(tmp_path):
    write_song(tmp_path / "long.mid", bars=40)
    (piece,) = read(tmp_path, max_notes=100)
    assert piece.amount.units == 320
    assert piece.drawn_ids is None
    assert "limits.max_notes=100" in piece.problem
    assert check_generated([piece], progress=nothing)["generated"]["usable"] == 1
