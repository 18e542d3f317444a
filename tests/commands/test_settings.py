"""What commands print is what was meant: a name with brackets or colons is no markup."""

import io
import sys

import pytest
from making import write_songs
from rich.table import Table

from seqgen.commands import main
from seqgen.commands.settings import console, progress_bar, say

NAMES = ("Songs [live]", "x [/y]", "[bold]", ":smile:")


@pytest.fixture
def printed(monkeypatch):
    """The console as it is, on a wide terminal that is read here."""
    monkeypatch.setattr(console, "_file", io.StringIO())
    monkeypatch.setattr(console, "width", 200)
    return console.file


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_taken_for_markup(printed, name):
    table = Table(name, title=f"title {name}", caption=f"caption {name}")
    table.add_row(f"cell {name}")
    console.print(table)
    console.print(f"line {name}", style="bold")
    console.rule(f"rule {name}")
    say(f"said {name}")
    with progress_bar() as tell:
        tell(f"task {name}", 1, 2)
    for part in ("title", "caption", "cell", "line", "rule", "said", "task"):
        assert f"{part} {name}" in printed.getvalue()


def test_commands_say_and_write_names_with_brackets(tmp_path, monkeypatch, capsys):
    write_songs(tmp_path / "Songs [live]", 6, bars=4)
    (tmp_path / "Songs [live]" / "a [bold].mid").write_bytes(b"MThd broken")
    monkeypatch.chdir(tmp_path)
    run = "runs/x [/y] :smile:"

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["seqgen", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == 0, out + err
        return out

    small = ["model.d_model=16", "model.n_layers=1", "model.n_heads=2", "train.context_length=32"]
    steps = ["train.max_steps=2", "train.sample_tokens=0", "train.accelerator=cpu"]
    out = command("train", "data.source=Songs [live]", f"run.dir={run}", *small, *steps)
    for said in ("songs [live]-remi", "a [bold].mid: ", f"run folder: {run}", f"in {run}/model"):
        assert said.lower() in out.lower()
    out = command("generate", run, "--samples", "1", "--max-tokens", "40", "-o", "o [/b]")
    assert f"{run} (" in out
    assert "1 file in o [/b], " in out
