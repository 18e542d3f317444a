"""What `generate` writes for a source, and what it says where it cannot."""

import json

import pytest
from making import write_model, write_song

from seqgen.checkpoint import add_facts
from seqgen.midi import open_midi


@pytest.fixture
def run(tmp_path):
    """A model of pairs that has learned nothing."""
    choices = {"parts": "tracks", "part_names": ["0", "32"], "quotes": False}
    write_model(tmp_path / "run", **choices)
    add_facts(tmp_path / "run" / "model", pairs="piano -> bass")
    write_song(tmp_path / "song.mid", bars=2)
    return "run"


def test_both_sides_are_written_and_the_source_recorded(command, run, tmp_path):
    options = ("--samples", "1", "--max-tokens", "40", "--seed", "1", "--no-png", "-o", "out")
    code, said = command("generate", run, "--source", "song.mid", *options)
    assert code == 0, said
    assert "source song.mid: 2 bars" in said
    record = json.loads((tmp_path / "out" / "001.json").read_text())
    assert record["source"] == "song.mid"
    assert "prompt" not in record
    pitches = [
        [(note.start, note.pitch) for note in open_midi(tmp_path / name).instruments[0].notes]
        for name in ("song.mid", "out/001.mid")
    ]
    assert pitches[0] == pitches[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give it one with --source FILE"),
        (["--source", "none.mid"], "source none.mid: no such file"),
        (["--source", "song.mid", "--key", "Am"], "a run of pairs writes a whole target"),
        (["--prompt", "song.mid"], "a run of pairs writes a whole target"),
    ],
)
def test_what_a_run_of_pairs_cannot_do_is_said(command, run, options, said):
    code, told = command("generate", run, *options)
    assert code == 1
    assert said in told
    assert "Traceback" not in told


def test_other_runs_take_no_source(command, tmp_path):
    write_model(tmp_path / "plain")
    write_song(tmp_path / "song.mid", bars=2)
    code, said = command("generate", "plain", "--source", "song.mid")
    assert code == 1
    assert "train one with data.pairs" in said
