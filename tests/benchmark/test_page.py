"""The page is made of the records beside it, and says how each of them is measured again."""

import re
import shutil
from dataclasses import replace

import pytest
from measured import SETTING, record, run

from seqgen.benchmark.records import read_records
from seqgen.benchmark.report import page as pages
from seqgen.benchmark.report.page import draw_page, update_records
from seqgen.errors import UserError

GPU = replace(SETTING, device="a GPU", command="python cli.py benchmark --device cuda")


@pytest.fixture(scope="module")
def records():
    return [
        record("read-large", 1, 0.1, measure="floor", rate=3.6e10, bytes=2**30, setting=SETTING),
        *run(),
        *run(batch=8),
        *run(measure="prefill"),
        *run(measure="training"),
        record("recurrent", 64, None, measure="memory", bytes=10**6, setting=SETTING),
        record("recurrent", 256, None, measure="memory", bytes=10**6, setting=SETTING),
    ]


def update_page(folder, records):
    """What a measurement with `--page` does."""
    update_records(folder, records)
    draw_page(folder)


@pytest.fixture(scope="module")
def page(records, tmp_path_factory):
    """The page of all records, which is only read."""
    folder = tmp_path_factory.mktemp("page")
    update_page(folder, records)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    """Figures take long to write, and only the test of figures looks at them."""
    monkeypatch.setattr(pages, "save_figure", lambda figure, path: None)


@pytest.fixture
def own_page(page, tmp_path, no_pictures):
    """The same page in a folder where it may change."""
    shutil.copytree(page, tmp_path, dirs_exist_ok=True)
    return tmp_path


def page_of(folder):
    return (folder / "README.md").read_text()


def test_every_record_is_in_its_table_and_every_figure_is_there(page, records):
    text = page_of(page)
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert {"decode-time.svg", "decode-throughput.svg", "memory-bytes.svg"} <= set(figures)
    assert all((page / name).read_text().startswith("<?xml") for name in figures)
    for r in records:
        assert f"| {r.batch} | {r.position} | {r.variant} |" in text, r
    assert "36 GB/s" in text


def test_each_table_states_its_setting_and_the_command_for_it(page):
    text = page_of(page)
    assert text.startswith("# Benchmark: 2 cores of A9 (avx2), 8 GiB\n")
    for measure in ("decode", "prefill", "training", "memory", "floor"):
        section = text[text.index(f"## {measure}:") :].split("\n## ")[0]
        assert "2 layers of width 16, 2 heads, 1.0M parameters (random weights), cpu" in section
        assert "python 3.11, torch 2.13.0" in section
        assert "`python cli.py benchmark --quick`" in section
    assert "Not measured here: attention, job, likelihood, endless." in text
    assert "follows an untimed one of the same kind" in text


def test_the_crossover_is_in_a_table(tmp_path, no_pictures):
    cached = {64: 0.005, 256: 0.020}
    slow = [r for p, s in cached.items() for r in run(cached=s, positions=(p,), spread=1e-4)]
    update_page(tmp_path, slow)
    row = "| 1 | torch | softmax-preallocated | 130 | 0.50 at 64 | 2.00 at 256 |"
    assert row in page_of(tmp_path)


def test_measuring_a_part_again_replaces_it_alone(own_page):
    other = (own_page / "prefill.json").read_bytes()
    new = run(torch=0.001, batch=8)
    update_page(own_page, new)
    found = read_records(own_page / "decode.json")
    medians = {(r.variant, r.batch, r.position): r.median_seconds for r in [*run(), *new]}
    assert {(r.variant, r.batch, r.position): r.median_seconds for r in found} == medians
    assert len(found) == len(medians)
    assert (own_page / "prefill.json").read_bytes() == other
    assert "1.00 ms" in page_of(own_page)
    assert "## prefill" in page_of(own_page)


def test_another_device_is_a_section_of_its_own_with_its_own_figures(own_page):
    update_page(own_page, run(setting=GPU))
    text = page_of(own_page)
    assert text.count("## decode: ") == 2
    assert "decode-time-2.svg" in text
    assert "Measured by (batch 1): `python cli.py benchmark --device cuda`" in text


def test_tables_of_several_commands_name_each(tmp_path, no_pictures):
    other = replace(SETTING, command="python cli.py benchmark --only decode --batch 8")
    update_page(tmp_path, [*run(), *run(batch=8, setting=other)])
    text = page_of(tmp_path)
    assert "Measured by (batch 1): `python cli.py benchmark --quick`" in text
    assert "Measured by (batch 8): `python cli.py benchmark --only decode --batch 8`" in text


def test_a_note_that_a_person_wrote_stands_at_the_top(tmp_path, no_pictures):
    (tmp_path / "notes.md").write_text("Measured on a quiet evening.\n")
    update_page(tmp_path, run())
    text = page_of(tmp_path)
    assert text.index("Measured on a quiet evening.") < text.index("## decode")


def test_what_was_left_out_is_on_the_page_with_its_reason(tmp_path, no_pictures):
    note = "left out: would need 9.0 GB, a quarter of the free memory is 5.0 GB"
    update_page(
        tmp_path, [*run(), record("softmax-recomputed", 64, None, note=note, setting=SETTING)]
    )
    [row] = [x for x in page_of(tmp_path).splitlines() if "softmax-recomputed" in x]
    assert row.startswith("| 1 | 64 | softmax-recomputed | - |")
    assert row.endswith(f"| {note} |")


def test_no_path_of_this_machine_is_on_the_page(page):
    for path in page.iterdir():
        assert str(page) not in path.read_text()


def test_a_folder_without_records_has_no_page(tmp_path):
    (tmp_path / "quick.json").write_text("[]")
    with pytest.raises(UserError, match="holds no records"):
        draw_page(tmp_path)
