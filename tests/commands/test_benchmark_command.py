"""`benchmark` as it is typed: what is measured, written, compared and guarded."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from measured import run as measured

from seqgen.api.settings import PROJECT
from seqgen.benchmark import run
from seqgen.benchmark.records import read_records, write_records
from seqgen.benchmark.timing import Effort
from seqgen.commands import benchmarking
from seqgen.commands.benchmark import MEASURES, benchmark
from seqgen.errors import UserError


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A small model, a plan that takes no time, and an empty folder of results."""
    effort = Effort(seconds=0.01, max_repeats=2, longest_call=10.0)
    positions = dict.fromkeys(MEASURES, (4, 8))
    monkeypatch.setattr(run, "QUICK", run.BenchmarkPlan(positions, {}, effort))
    monkeypatch.setattr(benchmarking, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("model:\n  d_model: 8\n  n_layers: 1\n  n_heads: 2\n")
    return ["tiny.yaml", "--quick", "--device", "cpu", "--only", "attention"]


@pytest.fixture
def canned(tiny, monkeypatch):
    """Nothing is measured, and a known run comes out."""

    def made(*_, setting, keep, **__):
        records = measured(setting=setting)
        keep(records)
        return records

    monkeypatch.setattr(benchmarking, "run_benchmark", made)
    return tiny


def invoke(*arguments):
    return CliRunner().invoke(benchmark, list(arguments), catch_exceptions=False)


def typed(*arguments):
    with benchmark.make_context("benchmark", list(arguments)) as context:
        return benchmarking.typed(context)


def test_the_command_knows_all_measures():
    assert tuple(run.MEASURES) == MEASURES


def test_tables_are_printed_and_records_and_a_page_are_written(tiny):
    result = invoke(*tiny, "--batch", "2", "--json", "out.json", "--page", "page")
    assert result.exit_code == 0
    assert "attention: one layer" in result.output
    records = read_records(Path("out.json"))
    assert {(r.measure, r.batch) for r in records} == {("attention", 2)}
    assert {r.position for r in records} == {4, 8}
    command = "python cli.py benchmark tiny.yaml --only attention --quick --batch 2 --device cpu"
    assert {r.setting.command for r in records} == {command}
    assert len(read_records(Path("page/attention.json"))) == len(records)
    assert command in Path("page/README.md").read_text()


def test_positions_can_be_named(tiny):
    assert invoke(*tiny, "--position", "6", "--json", "out.json").exit_code == 0
    assert {r.position for r in read_records(Path("out.json"))} == {6}


def test_a_page_is_drawn_again_without_measuring(canned, monkeypatch):
    invoke(*canned, "--page", "page")
    page = Path("page/README.md").read_text()
    Path("page/README.md").unlink()
    monkeypatch.setattr(benchmarking, "run_benchmark", lambda *_, **__: pytest.fail("measured"))
    assert invoke("--redraw", "page").exit_code == 0
    assert Path("page/README.md").read_text() == page


def test_two_files_and_two_pages_are_compared(canned):
    invoke(*canned, "--json", "a.json", "--page", "page")
    for pair in (("a.json", "a.json"), ("a.json", "page")):
        result = invoke("--compare", *pair)
        assert result.exit_code == 0
        assert "0 of 6 rows are better and 0 are worse" in " ".join(result.output.split())
    with pytest.raises(UserError, match=r"no file b\.json"):
        invoke("--compare", "a.json", "b.json")


def test_the_guard_fails_if_ours_became_worse_and_only_then(canned):
    result = invoke(*canned, "--guard", "--json", "now.json")
    assert result.exit_code == 0
    assert "no committed record" in result.output
    setting = read_records(Path("now.json"))[0].setting

    write_records(Path("results/here/quick.json"), measured(torch=0.005, setting=setting))
    result = invoke(*canned, "--guard")
    assert result.exit_code == 1
    assert "worse at most of their places: decode torch" in " ".join(result.output.split())
    assert invoke(*canned, "--against", "results/here/quick.json").exit_code == 1
    assert invoke(*canned).exit_code == 0

    write_records(Path("results/here/quick.json"), measured(torch=0.02, setting=setting))
    result = invoke(*canned, "--guard")
    assert result.exit_code == 0
    assert "2 moved by more than noise" in " ".join(result.output.split())


def test_what_was_measured_before_an_error_is_written(tiny, monkeypatch):
    def stop(*_, setting, keep, **__):
        keep(measured(setting=setting))
        keep(measured(setting=setting, measure="prefill"))
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmarking, "run_benchmark", stop)
    result = CliRunner().invoke(benchmark, [*tiny, "--json", "out.json", "--page", "page"])
    assert result.exit_code != 0
    assert {r.measure for r in read_records(Path("out.json"))} == {"decode", "prefill"}
    assert len(read_records(Path("page/prefill.json"))) == 6
    assert "## prefill" in Path("page/README.md").read_text()


@pytest.mark.parametrize("option", ["--page", "--json"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    tiny, monkeypatch, option
):
    Path("file").write_text("")
    monkeypatch.setattr(benchmarking, "run_benchmark", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(UserError, match="nothing can be written to file"):
        invoke(*tiny, option, "file/out")


def test_a_page_whose_records_cannot_be_read_is_refused_before_measuring(tiny, monkeypatch):
    Path("page").mkdir()
    Path("page/prefill.json").write_text("{")
    monkeypatch.setattr(benchmarking, "run_benchmark", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(UserError, match="holds no records"):
        invoke(*tiny, "--page", "page")


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        (("--compare", "a", "b", "--quick"), "--compare measures nothing: leave out --quick"),
        (("--redraw", "p", "--batch", "2", "--json", "x"), "leave out --batch, --json"),
        (("--redraw", "p", "--compare", "a", "b"), "leave out --compare"),
        (("runs/x", "--compare", "a", "b"), "leave out [RUN|CONFIG]"),
    ],
)
def test_what_measures_nothing_takes_no_options_of_measuring(tmp_path, arguments, left_out):
    result = CliRunner().invoke(benchmark, arguments)
    assert result.exit_code == 2
    assert left_out in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("device", ["mps", "meta", "xpu:0"])
def test_other_devices_than_cpu_and_cuda_are_refused(tiny, device):
    with pytest.raises(UserError, match=rf"--device {device}: .* cpu and cuda only"):
        invoke("tiny.yaml", "--device", device)


def test_one_plan_at_a_time():
    result = CliRunner().invoke(benchmark, ["--quick", "--full"])
    assert result.exit_code == 2
    assert "choose one" in result.output


def test_the_command_is_recorded_without_the_folders_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside, outside = str(tmp_path / "runs" / "a"), "/somewhere/else/b.yaml"
    assert typed(inside, "--threads", "2") == "python cli.py benchmark runs/a --threads 2"
    assert typed(outside) == "python cli.py benchmark b.yaml"
    shipped = str(PROJECT / "configs" / "chorales.yaml")
    assert typed(shipped) == "python cli.py benchmark configs/chorales.yaml"
    assert typed("my run", "--full") == "python cli.py benchmark 'my run' --full"
    assert typed("--json", "/tmp/x.json", "--guard", "--page", "/p") == "python cli.py benchmark"


def test_the_command_names_every_option_that_changes_what_is_measured():
    known = {p.name for p in benchmark.params if isinstance(p, click.Option)}
    assert known >= benchmarking.WHERE_IT_GOES
    assert known - benchmarking.WHERE_IT_GOES == {
        "only", "quick", "full", "batch", "position", "threads", "device",
    }  # fmt: skip


def test_committed_records_can_be_read():
    for path in (PROJECT / "docs" / "results").glob("*/*.json"):
        if path.parent.name == "synthetic":  # of scripts/synthetic.py
            continue
        assert read_records(path), path
        assert isinstance(json.loads(path.read_text()), list)
