"""`evaluate` as a user types it: what it writes, what it refuses, and that nothing is lost."""

import contextlib
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html import escape
from pathlib import Path

import pytest
from click.testing import CliRunner
from making import write_song, write_songs

from seqgen.commands import cli, evaluating, main
from seqgen.errors import UserError
from seqgen.evaluation.music import comparison
from seqgen.evaluation.page import build
from seqgen.evaluation.page.render import PagePicture
from seqgen.evaluation.subject import open_subject

SMALL = [
    "model.d_model=16",
    "model.n_layers=1",
    "model.n_heads=2",
    "data.transpose=1",
    "data.validation=0.2",
    "data.test=0.2",
    "train.accelerator=cpu",
    "train.batch_size=4",
    "train.context_length=32",
    "train.max_steps=20",
    "train.validate_every=10",
    "train.log_every=1",
    "train.sample_tokens=0",
    "train.warmup_steps=2",
    "train.ngram_models=false",
    "train.weight_formats=false",
]
FEW = ["--samples", "3", "--max-tokens", "80", "--device", "cpu"]


def invoke(folder, *arguments):
    with contextlib.chdir(folder):
        return CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.fixture(scope="module", autouse=True)
def _little_of_what_takes_long():
    """Play and picture short openings of few pieces, and draw sets again few times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "N_SAMPLES", 2)
        patch.setattr(build, "OPENING_SECONDS", 3.0)
        patch.setattr(comparison, "compare", partial(comparison.compare, resamples=20))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Songs, and two runs on them: causal linear attention, and softmax."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_songs(folder / "songs", 12, bars=4)
    write_songs(folder / "others", 3, bars=4, tempo=80.0)
    for name, extra in (("a", []), ("a-softmax", ["model.attention=softmax"])):
        invoke(folder, "train", "data.source=songs", f"run.dir=runs/{name}", *SMALL, *extra)
    return folder


@pytest.fixture(scope="module")
def report(place):
    """The report of the first run with the second beside it, and what was said."""
    result = invoke(place, "evaluate", "runs/a", "--beside", "runs/a-softmax", *FEW)
    assert result.exit_code == 0
    return json.loads((place / "runs/a/evaluation/evaluation.json").read_text()), result.output


@pytest.mark.slow
def test_a_report_has_every_part_and_the_page_stands_alone(place, report):
    record, said = report
    assert [part["name"] for part in record["likelihood"]["sets"]] == ["validation", "test"]
    for part in record["likelihood"]["sets"]:
        forms = {(e["kind"], e["form"]) for e in part["models"]}
        assert {("own", "windows"), ("own", "whole pieces"), ("beside", "windows")} <= forms
        assert {"unigram", "bigram", "trigram"} <= {e["name"] for e in part["models"]}
        assert part["forms"]["agree"]
        assert part["counted_in"] == "files"
    assert record["music"]["generated_pieces"] + len(record["generated"]["not_written"]) == 3
    assert {"notes", "tokens"} <= set(record["copying"])
    assert record["likelihood"]["beside"][0]["differences"] == []
    assert record["verdict"]["title"] in said
    assert [x["text"].split(":")[0] for x in record["verdict"]["summary"]] == [
        "Sounds like your music", "Does not", "Copies",
    ]  # fmt: skip
    page = (place / "runs/a/evaluation/report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    for section in ("listen", "music", "copying", "validity", "likelihood", "how"):
        assert f'id="{section}"' in page
    files = list((place / "runs/a/evaluation/generated").glob("*.mid"))
    assert len(files) == record["generated"]["files"]


@pytest.fixture
def plain_page(monkeypatch):
    """A page without pictures: drawing them takes longest."""
    name = "seqgen.commands.evaluating.build_page"
    monkeypatch.setattr(name, lambda record, material, *, progress: record["verdict"]["title"])


def test_an_earlier_report_keeps_its_figures_under_another_name(place, plain_page, tmp_path):
    arguments = ["runs/a", "--data", "others", "--device", "cpu", "-o", str(tmp_path / "out")]
    invoke(place, "evaluate", *arguments, *FEW)
    first = (tmp_path / "out/evaluation.json").read_text()
    drawn = str(tmp_path / "out/generated")
    said = invoke(place, "evaluate", *arguments, "--generated", drawn).output
    assert (tmp_path / "out/evaluation-1.json").read_text() == first
    assert (tmp_path / "out/report-1.html").is_file()
    assert "report-1.html" in said.replace("\n", "")
    again = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert again["likelihood"]["sets"] == json.loads(first)["likelihood"]["sets"]


def test_reports_written_at_once_are_all_kept_with_their_own_page(tmp_path):
    folder, n = tmp_path / "out", 12
    with ThreadPoolExecutor(n) as pool:
        list(pool.map(lambda i: evaluating._write_report(folder, {"i": i}, f"{i}"), range(n)))
    places = ["", *(f"-{number}" for number in range(1, n))]
    found = [json.loads((folder / f"evaluation{place}.json").read_text())["i"] for place in places]
    assert sorted(found) == list(range(n))
    assert [(folder / f"report{place}.html").read_text() for place in places] == [
        str(i) for i in found
    ]
    assert len(list(folder.iterdir())) == 2 * n


def test_a_folder_of_generated_files_is_reserved_before_anything_is_in_it(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda _: evaluating._new_folder(tmp_path / "out", "made"), range(8))
    assert {place.name for place in made} == {"made", *(f"made-{i}" for i in range(2, 9))}


def test_a_page_that_cannot_be_drawn_does_not_lose_the_record(place, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no ink")

    monkeypatch.setattr(evaluating, "build_page", fail)
    arguments = ["runs/a", "--data", "others", "-o", str(tmp_path / "out")]
    with pytest.raises(RuntimeError, match="no ink"):
        invoke(place, "evaluate", *arguments, *FEW)
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["verdict"]["title"]


def test_other_files_are_a_set_of_their_own_and_known_ones_are_told(place, plain_page, tmp_path):
    out = str(tmp_path / "out")
    invoke(place, "evaluate", "runs/a", "--data", "songs", "-o", out, *FEW)
    record = json.loads((tmp_path / "out/evaluation.json").read_text())
    part, own = record["likelihood"]["sets"]
    assert (own["name"], own["is_split"]) == ("validation", True)
    assert record["music"]["real"].startswith("songs")
    assert "validation" not in record["music"]["real"]
    assert (part["name"], part["is_split"]) == ("songs", False)
    assert 0 < part["training_files_among_them"] < 12
    assert part["pieces"] == 12 - part["training_files_among_them"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs/none"], "no run runs/none"),
        (["runs/a", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["runs/a", "--generated", "nowhere"], "no such folder"),
        (["runs/a", "--generated", "runs/a/model"], "holds no .kar or .mid or .midi"),
        (["runs/a", "--beside", "runs/other"], "another tokenizer"),
        (["runs/a", "--beside", "runs/a/model"], "this run is given twice"),
        (["runs/a", "-o", "songs/song-00.mid"], "is a file, and not a folder"),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(place, arguments, said, monkeypatch, capsys):
    if "runs/other" in arguments and not (place / "runs/other").exists():
        settings = ["data.source=songs", "run.dir=runs/other", "tokenizer.type=tsd"]
        invoke(place, "train", *SMALL, *settings)
    before = sorted(place.rglob("*"))
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["seqgen", "evaluate", *arguments, "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_told_before_the_work(place, monkeypatch):
    def work(*_, **__):
        raise AssertionError("work was begun")

    monkeypatch.setattr(evaluating, "choose_sets", work)
    with contextlib.chdir(place), pytest.raises(OSError, match="Not a directory"):
        CliRunner().invoke(
            cli,
            ["evaluate", "runs/a", "--device", "cpu", "-o", "songs/song-00.mid/out"],
            catch_exceptions=False,
        )


def test_the_model_folder_of_a_run_is_the_run(place, tmp_path):
    subject = open_subject(place / "runs/a/model")
    assert subject.path == place / "runs/a"
    assert (subject.name, subject.steps) == ("a", 20)
    assert evaluating._report_folder(subject, None) == place / "runs/a/evaluation"
    with contextlib.chdir(place / "runs/a/model"):
        assert open_subject(Path()).path == (place / "runs/a").resolve()
    shutil.copytree(place / "runs/a/model", tmp_path / "model")
    bare = open_subject(tmp_path / "model")
    with pytest.raises(UserError, match="-o DIR"):
        evaluating._report_folder(bare, None)
    assert evaluating._report_folder(bare, "x") == Path("x")


def test_files_and_records_of_others_do_not_stop_the_page(place, tmp_path, monkeypatch):
    for name in ("_distributions", "_learning"):  # pictures that name no file
        monkeypatch.setattr(build, name, lambda *_: [])
    monkeypatch.setattr(build, "_positions", lambda *_: PagePicture("", "", "", ""))
    made = tmp_path / "made"
    for name in ("a/夜\udcff.mid", "b/夜\udcff.mid"):
        write_song(made / name, bars=4)
        (made / name).with_suffix(".json").write_text('{"sampling": "nucleus", "seed": []}')
    (made / "broken.mid").write_bytes(b"MThd broken")
    write_song(made / "long.mid", bars=200, tempo=10.0)
    out = ["-o", str(tmp_path / "[out]"), "--generated", str(made), "--data", "others"]
    result = invoke(place, "evaluate", "runs/a", *out, *FEW)
    assert result.exit_code == 0
    assert f"report: {tmp_path}/[out]/report.html" in result.output
    record = json.loads((tmp_path / "[out]/evaluation.json").read_text())
    assert [sample["file"] for sample in record["samples"]] == [
        "a/夜�.mid", "b/夜�.mid", "broken.mid", "long.mid",
    ]  # fmt: skip
    assert (record["generated"]["unreadable"], record["generated"]["settings"]) == (1, {})
    left_out = {x["file"]: x["reason"] for x in record["copying"]["tokens"]["not_compared"]}
    assert set(left_out) == {"broken.mid", "long.mid"}
    assert "limits.max_minutes" in left_out["long.mid"]
    page = (tmp_path / "[out]/report.html").read_text()
    assert "2 generated pieces could not be compared" in page
    assert "a/夜�.mid" in page


def test_text_is_evaluated_in_bits_per_byte_without_music(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "svg_text", lambda figure: "")  # pictures are tested elsewhere
    (tmp_path / "poem.txt").write_text("tell me a line of verse & prose\n" * 60)
    settings = ["data.source=poem.txt", "tokenizer.type=bytes", "run.dir=runs/t"]
    invoke(tmp_path, "train", *SMALL, "data.transpose=0", *settings)
    assert invoke(tmp_path, "evaluate", "runs/t", *FEW).exit_code == 0
    record = json.loads((tmp_path / "runs/t/evaluation/evaluation.json").read_text())
    own = record["likelihood"]["sets"][0]["models"][0]
    assert own["bits_per_unit"]["value"] == pytest.approx(own["bits_per_token"]["value"], rel=0.02)
    assert own["bits_per_second"] is None
    assert record["music"] is record["validity"] is None
    assert set(record["copying"]) == {"baseline", "tokens"}
    page = (tmp_path / "runs/t/evaluation/report.html").read_text()
    assert "bits per byte" in page
    texts = record["texts"]
    assert escape(texts["held_out"][0]["text"]) in page
    assert page.count("<pre>") == len(texts["generated"]) + len(texts["held_out"]) > 1
