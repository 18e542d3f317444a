"""The page is made of the records beside it, and says how each of them is measured again."""

import re
from dataclasses import replace

import pytest
from measured import SETTING, record, run, sampled

from seqgen.benchmark.records import read_records, write_records
from seqgen.benchmark.report.page import draw_page, merge, narrowed, update_records
from seqgen.errors import UserError

GPU = replace(SETTING, device="a GPU", command="python cli.py benchmark --device cuda")


@pytest.fixture
def records():
    paper = {"measure": "papers", "setting": SETTING}
    return [
        record("read-large", 1, 0.1, measure="floor", rate=3.6e10, bytes=2**30, setting=SETTING),
        *run(),
        *run(batch=8),
        *run(measure="step"),
        *run(measure="training"),
        record("recurrent", 64, None, measure="memory", bytes=10**6, setting=SETTING),
        record("recurrent", 256, None, measure="memory", bytes=10**6, setting=SETTING),
        record("mnist/native", 784, 0.5, tokens_per_second=1568.0, **paper),
        record("mnist/published-linear", 784, 5.5, measure="papers", note="published: a CPU"),
    ]


def update_page(folder, records):
    """What a measurement with `--page` does."""
    update_records(folder, records)
    draw_page(folder)


def page_of(folder):
    return (folder / "README.md").read_text()


def test_every_record_is_in_its_table_and_every_figure_is_there(tmp_path, records):
    update_page(tmp_path, records)
    text = page_of(tmp_path)
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert {"decode-latency.svg", "decode-throughput.svg", "memory-bytes.svg"} <= set(figures)
    assert all((tmp_path / name).read_text().startswith("<?xml") for name in figures)
    for r in records:
        assert re.search(rf"\| {r.batch} \| {r.position} \| {r.variant}( \*)? \|", text), r
    assert "36 GB/s" in text
    assert "mnist/published-linear \\*" in text or "mnist/published-linear *" in text


def test_each_table_states_its_setting_and_the_command_for_it(tmp_path, records):
    update_page(tmp_path, records)
    text = page_of(tmp_path)
    assert text.startswith("# Benchmark: 2 cores of A9 (avx2), 8 GiB\n")
    for measure in ("decode", "step", "training", "memory", "floor", "papers"):
        section = text[text.index(f"## {measure}:") :].split("\n## ")[0]
        assert "2 layers of width 16, 2 heads, 1.0M parameters (random weights), cpu" in section
        assert "python 3.11, torch 2.13.0" in section
        assert f"Again: `python cli.py benchmark --quick --only {measure}`" in section
    assert "Not measured here: prefill, attention, job, likelihood, endless." in text
    assert "No GPU has been measured here" in text
    assert "follows an untimed one of the same kind" in text
    assert "in place of those that it may have" in text


def test_the_crossing_is_in_a_table(tmp_path):
    cached = {64: 0.005, 256: 0.020}
    slow = [r for p, s in cached.items() for r in run(cached=s, positions=(p,), spread=1e-4)]
    update_page(tmp_path, slow)
    assert "| 1 | torch | full-preallocated | 130 | 256 | 2.00 at 256 |" in page_of(tmp_path)


def test_measuring_a_part_again_replaces_it_alone(tmp_path, records):
    update_page(tmp_path, records)
    step = (tmp_path / "step.json").read_bytes()
    new = run(torch=0.001, batch=8)
    update_page(tmp_path, new)
    found = read_records(tmp_path / "decode.json")
    medians = {(r.variant, r.batch, r.position): r.median_seconds for r in [*run(), *new]}
    assert {(r.variant, r.batch, r.position): r.median_seconds for r in found} == medians
    assert len(found) == len(medians)
    assert (tmp_path / "step.json").read_bytes() == step
    assert "1.00 ms" in page_of(tmp_path)
    assert "## step" in page_of(tmp_path)


def test_another_device_or_model_is_a_section_of_its_own(tmp_path, records):
    update_page(tmp_path, records)
    update_page(tmp_path, run(setting=GPU))
    larger = replace(SETTING, sizes=SETTING.sizes | {"n_layers": 3})
    update_page(tmp_path, run(setting=larger, measure="step"))
    text = page_of(tmp_path)
    assert "## decode: one step after so many tokens, whole call with its draw (2)" in text
    assert "decode-latency-2.svg" in text
    assert text.count("## step: ") == 2
    assert "3 layers of width 16" in text
    assert "Again: `python cli.py benchmark --device cuda --only decode`" in text
    assert "No GPU" not in text


def test_tables_of_several_commands_name_each(tmp_path):
    other = replace(SETTING, command="python cli.py benchmark --only decode --batch 8")
    update_page(tmp_path, [*run(), *run(batch=8, setting=other)])
    text = page_of(tmp_path)
    assert "- batch 1: `python cli.py benchmark --quick --only decode`" in text
    assert "- batch 8: `python cli.py benchmark --batch 8 --only decode`" in text


def test_old_records_make_a_page_that_says_what_is_not_known(tmp_path):
    old = [record("torch", position, 0.01, ratio_to_library=2.0) for position in (64, 256)]
    write_records(tmp_path / "decode.json", old)
    draw_page(tmp_path)
    text = page_of(tmp_path)
    assert "model, machine and versions were not recorded; 2 threads" in text
    assert "The command was not recorded." in text
    assert merge(old, run()) == sorted(
        [*run()], key=lambda r: (r.batch, r.position)
    )  # what is not known gives way


def test_a_note_that_a_person_wrote_stands_at_the_top(tmp_path):
    (tmp_path / "notes.md").write_text("Measured on a quiet evening.\n")
    update_page(tmp_path, run())
    text = page_of(tmp_path)
    assert text.index("Measured on a quiet evening.") < text.index("## decode")


def test_what_could_not_run_is_on_the_page_with_its_reason(tmp_path):
    missing = record("onnx-runtime", 64, None, note="not here: not installed", setting=SETTING)
    update_page(tmp_path, [*run(), missing])
    assert "- onnx-runtime (batch 1, 64) not here: not installed." in page_of(tmp_path)


def test_no_path_of_this_machine_is_on_the_page(tmp_path, records):
    update_page(tmp_path, records)
    for path in tmp_path.iterdir():
        assert str(tmp_path) not in path.read_text()


def test_a_folder_without_records_has_no_page(tmp_path):
    (tmp_path / "quick.json").write_text("[]")
    with pytest.raises(UserError, match="holds no records"):
        draw_page(tmp_path)


def test_a_command_is_narrowed_to_one_measure():
    command = "python cli.py benchmark 'my run' --only decode --only step --batch 8"
    assert narrowed(command, "step") == "python cli.py benchmark 'my run' --batch 8 --only step"
    assert sampled("torch", 8, 1.0).setting.command == "python cli.py benchmark --quick"
