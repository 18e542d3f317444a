"""Records in JSON, in tables, and the crossover as a number."""

import json
from dataclasses import replace

import pytest
from measured import SETTING, record, run

from seqgen.api.settings import PROJECT
from seqgen.benchmark.records import KEYS, read_records, write_records
from seqgen.benchmark.report.crossover import crossovers
from seqgen.benchmark.report.table import (
    DEVICE_GB,
    TableRow,
    markdown,
    plain,
    rows_of,
    tables,
)
from seqgen.config import load_config

GPU = replace(SETTING, device="a GPU")


def decode_records(cached, **values):
    """Steps of `torch` take 10 ms everywhere; `cached` gives milliseconds by position."""
    return [
        r
        for position, milliseconds in cached.items()
        for r in (
            record("torch", position, 0.010, repeats=9, **values),
            record("softmax-preallocated", position, milliseconds / 1e3, repeats=9, **values),
        )
    ]


def printed(records):
    return "\n".join(text.plain for text in tables(records))


def test_records_survive_json(tmp_path):
    records = [
        record("library", 5, 0.25, p95_seconds=0.5, tokens_per_second=4.0, ratio_to_library=1.0),
        record("softmax-cache", 5, None, measure="memory", bytes=640),
        record("slow", 5, None, note="left out: too long"),
    ]
    path = tmp_path / "results" / "benchmark.json"
    write_records(path, records)
    assert read_records(path) == records
    assert all(tuple(values) == KEYS for values in json.loads(path.read_text()))


def test_what_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_records(tmp_path / "a.json", [record("a", 5, float("nan"))])
    assert not list(tmp_path.iterdir())


def test_the_crossover_is_interpolated_in_logarithms():
    """A constant of 10 ms meets 0.1 ms a token at 100 tokens, wherever that is measured."""
    for positions in ((16, 4096), (64, 128, 1024), (90, 110)):
        first, *_ = crossovers(decode_records({p: p / 10 for p in positions}))
        assert first[3] == "100"


@pytest.mark.parametrize(
    ("cached", "said"),
    [
        ({8: 12, 16: 20}, ("before 8", "1.20 at 8", "2.00 at 16")),
        ({8: 12, 16: 9}, ("beyond 16", "1.20 at 8", "0.90 at 16")),
        ({8: 8, 16: 12, 32: 9, 128: 12}, ("53", "0.80 at 8", "1.20 at 128")),
    ],
)
def test_the_crossover_says_no_more_than_was_measured(cached, said):
    first, *_ = crossovers(decode_records(cached))
    assert tuple(first[3:]) == said


def test_the_fair_pair_and_the_fastest_of_each_side_are_compared():
    found = [
        *decode_records({8: 5, 16: 20}),
        *(record("native-w8a8", p, 0.002, dtype="w8a8", repeats=9) for p in (8, 16)),
        record("softmax-preallocated-bf16", 16, 0.008, dtype="bf16", repeats=9),
        record("gpt2-static", 8, 0.0001, repeats=1),  # not warmed up
        record("library", 8, 0.0001, repeats=9),
    ]
    fair, fastest = crossovers(found)
    assert fair[:3] == ["1", "torch", "softmax-preallocated"]
    assert fair[4:] == ["0.50 at 8", "2.00 at 16"]
    peers = "softmax-preallocated or softmax-preallocated-bf16"
    assert fastest[:3] == ["1", "native-w8a8", peers]
    assert fastest[4:] == ["2.50 at 8", "4.00 at 16"]


def test_on_a_gpu_cuda_graphs_are_compared_with_cuda_graphs():
    names = {"torch": 0.004, "cuda": 0.002, "softmax-preallocated": 0.006}
    found = [record(n, p, s, setting=GPU, repeats=9) for p in (8, 16) for n, s in names.items()]
    fair, _ = crossovers(found)
    assert fair[1:3] == ["cuda", "softmax-preallocated"]


def test_without_a_comparison_there_is_no_crossover():
    assert list(crossovers([record("torch", 8, 0.01, repeats=9)])) == []
    assert list(crossovers(decode_records({8: 5}, measure="prefill"))) == []


def test_what_is_left_out_is_a_row_with_its_reason():
    note = "left out: would need 9.0 GB, a quarter of the free memory is 5.0 GB"
    headings, rows = rows_of([*run(), record("softmax-recomputed", 64, None, note=note)])
    assert rows[-1] == TableRow(["1", "64", "softmax-recomputed"], note)
    assert plain(headings, rows).splitlines()[-1].endswith(f"softmax-recomputed   {note}")
    line = markdown(headings, rows).splitlines()[-1]
    assert line.startswith("| 1 | 64 | softmax-recomputed | - |")
    assert line.endswith(f"| {note} |")


def test_rows_with_values_fit_a_terminal():
    times = {"setting": SETTING, "p95_seconds": 0.015, "repeats": 9}
    values = {"tokens_per_second": 1_234_567, "ratio_to_library": 1.0}
    records = [
        record("library", 100_000, 0.0123, **times, **values, share_of_floor=0.4),
        record("softmax-preallocated-int8", 100_000, 0.1, **times, **values, batch=1024),
        record("recurrent", 128, None, measure="memory", bytes=1_612_808, setting=SETTING),
        record("training-recomputed", 128, None, measure="memory", bytes=99_000, setting=SETTING),
        record("causal-linear-bf16", 256, 1.5, measure="training", **times, **values, bytes=10**9),
    ]
    text = printed(records)
    for said in ("12.3 ms", "1.6 MB", "99.0 kB", "40%", "1,000.0 MB", "1.50 s", "1,234,567"):
        assert said in text, said
    assert text.count("1.0M parameters (random weights), cpu, 2 threads") == 3
    rows = [line for line in text.splitlines() if "parameters" not in line]
    assert max(map(len, rows)) <= 80


def test_streams_that_fit_are_counted_beside_the_weights():
    memory = {"measure": "memory", "setting": SETTING}
    text = printed(
        [record(name, 128, None, bytes=2**20, **memory) for name in ("recurrent", "training")]
    )
    free = DEVICE_GB * 10**9 - 4 * SETTING.sizes["parameters"]
    assert text.count(f"{free // 2**20:,}") == 1
    assert f"in {DEVICE_GB} GB" in text
    large = replace(SETTING, sizes=SETTING.sizes | {"parameters": DEVICE_GB * 10**9})
    [row] = rows_of([record("recurrent", 128, None, measure="memory", bytes=9, setting=large)])[1]
    assert row.cells[-1] == "0"


def test_each_model_has_a_table_of_its_own():
    larger = replace(SETTING, sizes=SETTING.sizes | {"n_layers": 3})
    text = printed([*run(), *run(setting=larger)])
    assert text.count("decode: one step") == 2
    assert "3 layers of width 16" in text


def test_the_reference_configuration_is_the_reference_model():
    model = load_config(PROJECT / "configs" / "reference-12x512.yaml").model
    assert (model.n_layers, model.d_model, model.n_heads, model.d_ff) == (12, 512, 8, 2048)
