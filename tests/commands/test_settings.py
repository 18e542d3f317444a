"""Which configuration a command uses, and that it prints text as it is."""

import io
import sys

import pytest
from making import write_songs
from rich.table import Table

from seqgen.api.settings import CONFIGS, describe_settings, read_config
from seqgen.commands import main
from seqgen.commands.settings import console, progress_bar, say
from seqgen.config import Config, TokenizerConfig

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
    for said in (
        "songs [live]-remi",
        "a [bold].mid: ",
        f"run folder: {run}",
        f"model: {run}/model (",
    ):
        assert said.lower() in out.lower()
    out = command("generate", run, "--samples", "1", "--max-tokens", "40", "-o", "o [/b]")
    assert f"{run} (" in out
    assert "1 file in o [/b], " in out


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ([], "quickstart"),
        (["train.max_steps=3"], "quickstart"),
        (["data.source=songs"], "midi"),
        (["data.source=chorales"], "midi"),
        (["data.source=poem.txt", "tokenizer.type=bytes"], "text"),
        (["configs/pop909.yaml", "data.source=songs"], "pop909"),
    ],
)
def test_the_configuration_fits_the_data(arguments, file):
    settings = read_config(arguments)
    assert settings.file.stem == file
    assert describe_settings(settings).startswith(f"configuration: configs/{file}.yaml; ")


def test_other_data_get_nothing_of_the_quickstarts_corpus():
    assert read_config(["data.source=songs"]).config.tokenizer == TokenizerConfig()


def test_what_a_file_sets_beyond_the_defaults_is_said(tmp_path):
    path = tmp_path / "mine [x].yaml"
    path.write_text(
        "tokenizer: {use_tempos: true, tempo: 84}\nmodel: {d_model: 64}\n"
        "train: {max_steps: 5, batch_size: 8, init_from: null}\n"
    )
    assert describe_settings(read_config([str(path), "train.max_steps=7"])).splitlines() == [
        f"configuration: {path}; it changes these defaults of seqgen/config.py:",
        "  tokenizer: use_tempos true, tempo 84.0",
        "  model: d_model 64",
    ]
    said = describe_settings(read_config([str(path), "train.init_from=runs/a"]))
    assert "  model and tokenizer: those of runs/a" in said
    assert "d_model" not in said
    path.write_text("")
    assert describe_settings(read_config([str(path)])) == f"configuration: {path}"


def test_each_shipped_configuration_says_all_it_sets():
    for path in CONFIGS.glob("*.yaml"):
        values = read_config([str(path)]).config.model_dump()
        said = describe_settings(read_config([str(path)]))
        max_steps = values["train"]["max_steps"]
        assert f"max_steps {max_steps}" in said or max_steps == Config().train.max_steps
