"""Pictures of files and runs: beside them, never over something else, and one bad file is one."""

import json
import subprocess
import sys

import matplotlib.image
import pytest
from making import write_song

from seqgen.checkpoint import FORMAT
from seqgen.commands import showing
from seqgen.commands.showing import prompt_seconds
from seqgen.files import write_record
from seqgen.rendering.figures import save_figure


@pytest.fixture(autouse=True)
def _songs(tmp_path):
    write_song(tmp_path / "song.mid")
    write_song(tmp_path / "other.mid", seed=1)
    (tmp_path / "broken.mid").write_bytes(b"MThd broken")


def write_run(folder, *, finished=True):
    folder.mkdir(parents=True)
    lines = [{"step": i, "loss": 4 - i / 50} for i in range(1, 100)]
    lines += [{"step": i, "validation_loss": 4 - i / 60} for i in range(20, 100, 20)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 100, "lo')  # as a kill leaves it
    if finished:
        scores = [{"name": "unigram", "nats_per_token": 3.3}]
        write_record(folder / "validation.json", {"scores": scores}, format=FORMAT)


def test_pictures_lie_beside_their_files_and_a_bad_file_is_named_at_the_end(command, tmp_path):
    code, said = command("show", "song.mid", "broken.mid", "other.mid")
    assert code == 1
    assert "cannot use broken.mid" in said
    assert {p.name for p in tmp_path.glob("*.png")} == {"song.png", "other.png"}


def test_nothing_is_overwritten_unless_it_is_named_or_forced(command, tmp_path):
    (tmp_path / "song.png").write_text("holiday")
    code, said = command("show", "song.mid")
    assert (code, said.count("\n")) == (1, 1)
    assert "song.png exists" in said
    assert (tmp_path / "song.png").read_text() == "holiday"
    assert command("show", "song.mid", "-o", "song.png")[0] == 0
    (tmp_path / "song.png").write_text("holiday")
    assert command("show", "song.mid", "--force")[0] == 0
    assert matplotlib.image.imread(tmp_path / "song.png").ndim == 3


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(command, tmp_path, monkeypatch):
    def save_slowly(figure, path):
        (tmp_path / "song.png").write_text("holiday")
        save_figure(figure, path)

    monkeypatch.setattr(showing, "save_figure", save_slowly)
    before = {"song.png", *(path.name for path in tmp_path.iterdir())}
    code, said = command("show", "song.mid")
    assert code == 1
    assert "song.png exists" in said
    assert (tmp_path / "song.png").read_text() == "holiday"
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_folder_a_name_and_svg(command, tmp_path):
    assert command("show", "song.mid", "other.mid", "-o", "new/pictures", "--svg", "--dark")[0] == 0
    assert {p.name for p in (tmp_path / "new/pictures").iterdir()} == {"song.svg", "other.svg"}
    assert "#16181d" in (tmp_path / "new/pictures/song.svg").read_text()
    assert command("show", "song.mid", "-o", "x.svg", "--from-bar", "3", "--bars", "2")[0] == 0
    assert (tmp_path / "x.svg").read_text().count("\n") > 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["song.mid", "other.mid", "-o", "x.png"], "-o x.png is one file"),
        (["song.mid", "-o", "x.pdf"], "should end in .png or .svg"),
        (["song.mid", "--from-bar", "30"], "there is no bar 30: the piece has 8"),
        (["none.mid"], "cannot use none.mid: no such file"),
        (["."], "is a folder, but not a run"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(command, tmp_path, arguments, said):
    before = sorted(tmp_path.iterdir())
    code, text = command("show", *arguments)
    assert (code, text.count("\n")) == (1, 1)
    assert said in text
    assert sorted(tmp_path.iterdir()) == before


def test_two_files_of_one_name_do_not_overwrite_each_other(command, tmp_path):
    write_song(tmp_path / "more/song.mid", seed=2)
    code, said = command("show", "song.mid", "more/song.mid", "-o", "pictures", "--force")
    assert code == 1
    assert "more/song.mid would overwrite pictures/song.png, which was made from song.mid" in said


def test_a_run_is_its_loss_curves_and_is_drawn_anew(command, tmp_path):
    write_run(tmp_path / "runs/a")
    for _ in range(2):
        assert command("show", "runs/a")[0] == 0
    assert matplotlib.image.imread(tmp_path / "runs/a/losses.png").ndim == 3
    write_run(tmp_path / "runs/b", finished=False)
    assert command("show", "runs/b", "-o", "b.svg")[0] == 0
    assert (tmp_path / "b.svg").exists()


def test_a_run_with_a_point_in_its_name_keeps_it(command, tmp_path):
    write_run(tmp_path / "runs/v1.5")
    (tmp_path / "pics").mkdir()
    assert command("show", "runs/v1.5", "-o", "pics")[0] == 0
    assert [p.name for p in (tmp_path / "pics").iterdir()] == ["v1.5.png"]


def test_paths_are_said_as_they_are(command, tmp_path):
    folder = "[bold]" + "long" * 40
    write_song(tmp_path / folder / "a\udcff.mid")
    code, said = command("show", f"{folder}/a\udcff.mid")
    assert code == 0
    assert f"{folder}/a�.png" in said.splitlines()


def test_loss_curves_do_not_load_the_trainer(tmp_path):
    write_run(tmp_path / "a")
    code = (
        "import sys; from seqgen.commands.showing import execute;"
        f"execute([{str(tmp_path / 'a')!r}], output=None, svg=False, dark=False,"
        "from_bar=None, bars=None, force=False);"
        "sys.exit('pytorch_lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_record_of_a_continuation_gives_its_boundary(tmp_path):
    path = tmp_path / "001.mid"
    assert prompt_seconds(path) is None
    record = {"file": "001.mid", "prompt": "song.mid", "prompt_seconds": 4.5}
    for changes, expected in (
        ({}, 4.5),
        ({"prompt": None}, None),
        ({"file": "002.mid"}, None),
        ({"prompt_seconds": None}, None),
        ({"prompt_seconds": 1e999}, None),
    ):
        path.with_suffix(".json").write_text(json.dumps(record | changes))
        assert prompt_seconds(path) == expected
    path.with_suffix(".json").write_text("[1]")
    assert prompt_seconds(path) is None
