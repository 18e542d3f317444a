"""Controls and edits on the command line: what is said, what is written, and what is refused."""

import json

import pytest
from making import write_band, write_model

from seqgen.checkpoint import save_model
from seqgen.commands.showing import new_quarters
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tokenizers import build_tokenizer, settled

TRACKS = {"parts": "tracks", "part_names": ["0", "33", "40", "drums"], "use_time_signatures": True}
SMALL = ("--samples", "2", "--seed", "1", "--no-png", "-o", "out")


@pytest.fixture
def generate(command, tmp_path):
    """Run `generate` in a folder with a song and a model that knows all tasks."""
    data = DataConfig(
        tasks={"continue": 1.0, "infill": 1.0, "accompany": 1.0}, controls=["key", "chords"]
    )
    config = with_marks(settled(TokenizerConfig(**TRACKS)), data)
    tokenizer = build_tokenizer(config, LimitsConfig())
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary)
    save_model(tmp_path / "run" / "model", model, tokenizer, step=0, context_length=256)
    write_band(tmp_path / "song.mid", bars=4)
    return lambda *options: command("generate", "run", *SMALL, *options)


def test_what_came_is_said_and_recorded(generate, tmp_path):
    code, said = generate("--key", "Am", "--chords", "Am F", "--bars", "2", "--metre", "4/4")
    assert code == 0
    assert said.count("key Am: ") == said.count("chords Am F: ") == 2
    assert "kept 2 of 8 alternatives: those that meet most of what was asked" in said
    record = json.loads((tmp_path / "out" / "001.json").read_text())
    assert (record["key"], record["guidance"]) == ("Am", 2.0)
    assert {one["name"] for one in record["asked"]} == {"bars", "metre", "key", "chords"}


@pytest.mark.parametrize(
    "change", [("--rewrite", "2-3"), ("--vary", "1-4", "--amount", "0.5")], ids=["rewrite", "vary"]
)
def test_a_changed_copy_is_written_and_the_file_stays(generate, tmp_path, change):
    before = (tmp_path / "song.mid").read_bytes()
    code, said = generate("--edit", "song.mid", *change)
    assert code == 0
    assert "edit song.mid: bars" in said
    assert len(list((tmp_path / "out").glob("*.mid"))) == 2
    assert (tmp_path / "song.mid").read_bytes() == before
    first, last = (2, 3) if change[0] == "--rewrite" else (1, 4)
    found = new_quarters(tmp_path / "out" / "001.mid")
    assert found is not None
    assert (first - 1) * 4 <= found[0] < found[1] <= last * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--edit", "song.mid", "--rewrite", "2", "--free"), "have to be whole: leave it out"),
        (("--rewrite", "2"), "give --edit FILE too"),
        (("--edit", "song.mid"), "--edit needs one of"),
        (("--edit", "song.mid", "--rewrite", "2", "--add", "bass"), "--edit needs one of"),
        (("--edit", "song.mid", "--rewrite", "7"), "has bars 1 to 4"),
        (("--edit", "song.mid", "--rewrite", "2", "--bars", "4"), "leave out"),
        (
            ("--edit", "song.mid", "--rewrite", "2", "--amount", "0.5"),
            "--amount is for --vary",
        ),
        (("--edit", "song.mid", "--vary", "2", "--amount", "1.5"), "at most 1"),
        (("--edit", "song.mid", "--vary", "7"), "bars 7: song.mid has bars 1 to 4"),
        (("--edit", "song.mid", "--vary", ""), "write bars as in"),
        (("--edit", "song.mid", "--rewrite", "2", "--tempo", "90"), "keeps its tempo"),
        (("--edit", "song.mid", "--rewrite", "2", "--as-tokens"), "leave out"),
        (("--tracks", ""), "give --edit FILE too"),
        (("--key", ""), "is no key"),
        (("--pick", "asked", "--alternatives", "4"), "nothing is asked for"),
        (("--chords", ""), "--chords is empty"),
        (("--edit", "song.mid", "--add", "bass", "--tracks", "drums"), "--tracks is for"),
        (("--edit", "none.mid", "--rewrite", "2"), "none.mid"),
        (("--density", "high"), "has not learned to follow it (it knows: key, chords)"),
        (("--key", "Am", "--form", "AA"), "--form lays out a whole piece"),
        (("--key", "Am", "--seconds", "4"), "give --bars"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(generate, tmp_path, options, said):
    code, message = generate(*options)
    assert code == 1
    assert said in message
    assert not list(tmp_path.glob("out/*"))


def test_a_run_that_has_learned_nothing_of_it_says_how_one_would(command, tmp_path):
    write_model(tmp_path / "run")
    write_band(tmp_path / "song.mid", bars=4)
    code, said = command("generate", "run", *SMALL, "--key", "Am")
    assert (code, "data.controls=[all]" in said) == (1, True)
    code, said = command("generate", "run", *SMALL, "--edit", "song.mid", "--rewrite", "2")
    assert (code, "data.tasks={continue: 0.5, infill: 0.5}" in said) == (1, True)
