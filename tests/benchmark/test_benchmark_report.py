"""Records in JSON, in tables and in sentences."""

import io
import json
from dataclasses import replace

import pytest
from measured import SETTING, record, run
from rich.console import Console

from seqgen.benchmark.measures.memory import MEMORIES_GIB
from seqgen.benchmark.records import KEYS, read_records, write_records
from seqgen.benchmark.report.crossings import FASTEST, crossings
from seqgen.benchmark.report.sentences import (
    crossing_sentences,
    endless_sentences,
    round_position,
    sentences,
)
from seqgen.benchmark.report.tables import tables
from seqgen.commands.settings import PROJECT
from seqgen.config import load_config


def decode_records(cached):
    """Steps of linear attention take 10 ms everywhere; `cached` gives milliseconds by position."""
    return [
        r
        for position, milliseconds in cached.items()
        for r in (
            record("library", position, 0.010),
            record("recurrent", position, 0.010),
            record("full-cached", position, milliseconds and milliseconds / 1e3),
        )
    ]


def printed(records):
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables(records):
        console.print(part)
    return console.export_text()


def test_records_survive_json(tmp_path):
    records = [
        record("library", 5, 0.25, p95_seconds=0.5, tokens_per_second=4.0, ratio_to_library=1.0),
        record("full-cached", 5, None, measure="memory", bytes=640),
        record("slow", 5, None, note="skipped: too long"),
    ]
    path = tmp_path / "results" / "benchmark.json"
    write_records(path, records)
    assert read_records(path) == records
    assert all(tuple(values) == KEYS for values in json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("cached", "said"),
    [
        ({8: 12, 16: 20}, "at every position measured, from 8 on (2.00 times as fast at 16)."),
        ({8: 8, 16: 12.5, 32: 30}, "from 16 on (3.00 times as fast at 32), but not at 8; equal"),
        ({8: 8, 32: 12.5}, "equal at about 16, between 8 and 32."),
        ({8: 9.8, 32: 20}, "but not at 8; equal at about 8, between 8 and 32; a tie at 8."),
        ({8: 9.8, 16: 10.2}, "not clearly faster up to 16"),
        ({8: 12, 16: 9}, "not faster up to 16, the longest position measured (0.90 times"),
        ({8: 9, 16: 10.2}, "not clearly faster up to 16"),
        ({8: 12, 16: None}, "faster at 8, the one position measured (1.20 times as fast at 8)."),
    ],
)
def test_the_sentence_says_no_more_than_was_measured(cached, said):
    fastest, library, *_ = crossing_sentences(decode_records(cached))
    assert said in library
    assert said in fastest
    assert "whose cache is copied each step" in library


def test_equality_is_interpolated_in_logarithms():
    """A constant of 10 ms meets 0.1 ms a token at 100 tokens, wherever that is measured."""
    for positions in ((16, 4096), (64, 128, 1024), (90, 110)):
        found = decode_records({position: position / 10 for position in positions})
        crossing = list(crossings(found))[-1]
        assert crossing.equal_at == pytest.approx(100)
        assert crossing.seconds_at_equal == pytest.approx(0.010)
    assert round_position(12_345.6) == 12_000


def test_ties_and_measured_places_have_no_interpolated_position():
    for cached in ({8: 9.9, 16: 10.1}, {8: 12, 16: 20}, {8: 8, 16: 12, 32: 9}):
        assert {c.equal_at for c in crossings(decode_records(cached))} == {None}


def test_the_three_pairs_are_compared_and_the_fastest_are_found():
    found = [
        *decode_records({8: 9, 16: 40}),
        *(record("torch", position, 0.006) for position in (8, 16)),
        *(record("native-w8a8", position, 0.002, dtype="w8a8") for position in (8, 16)),
        *(record("full-preallocated", p, seconds) for p, seconds in ((8, 0.005), (16, 0.012))),
        record("full-preallocated-bf16", 16, 0.008, dtype="bf16"),
        record("gpt2-static", 8, 0.0001, repeats=1),
    ]
    same, fastest, library = crossings(found)
    assert (same.ours, same.peers, same.clear_from) == (("torch",), ("full-preallocated",), 16)
    assert fastest.ours == ("native-w8a8",)
    assert fastest.peers == ("full-preallocated", "full-preallocated-bf16")
    assert fastest.ratios == pytest.approx((2.5, 4.0))
    assert (library.ours, library.peers) == (("library",), ("full-cached",))
    assert library.ratios == pytest.approx((0.9, 4.0))
    assert "compiled for one row only" in fastest.pair.words


def test_the_library_is_not_compared_through_our_reference_decoder():
    found = [r for r in decode_records({8: 9, 16: 40}) if r.variant != "library"]
    assert [crossing.pair.words for crossing in crossings(found)] == [FASTEST.words]


def test_on_a_gpu_cuda_graphs_are_compared_with_cuda_graphs():
    gpu = replace(SETTING, device="a GPU")
    names = {"torch": 0.004, "cuda": 0.002, "full-preallocated": 0.006}
    found = [record(n, p, s, setting=gpu) for p in (8, 16) for n, s in names.items()]
    same, _ = crossings(found)
    assert (same.ours, same.peers) == (("cuda",), ("full-preallocated",))
    assert same.ratios == pytest.approx((3.0, 3.0))
    assert "both CUDA graphs" in same.pair.words
    on_cpu, _ = crossings([replace(r, setting=SETTING) for r in found])
    assert on_cpu.ours == ("torch",)
    assert "the same code but for attention" in on_cpu.pair.words


def test_a_share_above_the_floor_is_explained_by_the_cache_of_a_set_of_the_same_size():
    [said] = sentences([record("torch", 8, 0.01, measure="step", share_of_floor=1.2)])
    assert "than a working set of the same size did while the bandwidth was measured" in said
    assert not list(sentences([record("torch", 8, 0.01, measure="step", share_of_floor=0.9)]))


def test_whole_pieces_say_what_their_ways_do_not_share():
    def of(setting):
        job = {"measure": "job", "repeats": 1, "setting": setting}
        return list(sentences([record(n, 8, 1.0, **job) for n in ("torch", "full-preallocated")]))

    [said] = of(SETTING)
    assert "copies each token to the host" in said
    assert "favours these" in said
    _, launched = of(replace(SETTING, device="a GPU"))
    assert "launches each operation by itself on the GPU" in launched


def test_a_stream_without_end_is_compared_with_its_beginning():
    def at(position, seconds, **values):
        return record("torch", position, seconds, measure="endless", **values)

    records = [
        at(100, 0.010, bytes=500_000_000),
        at(1000, 0.011, bytes=502_000_000),
        at(2000, None, note="skipped: too long"),
    ]
    text = printed(records)
    assert "at position 1000 takes 1.10 times as long as at 100" in text
    assert "holds 2.0 MB more memory" in text
    assert "500.00 MB" in text
    assert list(endless_sentences(records[:1])) == []


def test_what_is_left_out_everywhere_is_named_once_and_stands_in_no_row():
    records = [
        *(record("library", position, 0.01) for position in (8, 16)),
        *(record("cuda", position, None, note="not here: no GPU") for position in (8, 16)),
        record("slow", 8, 0.5),
        record("slow", 16, None, note="skipped: 70 s a call or more"),
    ]
    text = printed(records)
    assert text.count("cuda") == 1
    assert "cuda (everywhere) not here: no GPU." in text
    assert "slow (batch 1, 16) skipped: 70 s a call or more." in text


def test_without_a_comparison_there_is_no_sentence():
    assert list(crossing_sentences(decode_records({8: None}))) == []
    once = [record("recurrent", 8, 0.01, repeats=9), record("full-cached", 8, 0.1, repeats=1)]
    assert list(crossing_sentences(once)) == []


def test_tables_fit_a_terminal_and_name_what_was_left_out():
    times = {"setting": SETTING, "p95_seconds": 0.015, "p99_seconds": 0.2}
    values = {"tokens_per_second": 1_234_567, "ratio_to_library": 1.0, "repeats": 9}
    records = [
        record("library", 100_000, 0.0123, **times, **values, share_of_floor=0.4),
        record("full-recomputed", 100_000, None, note="skipped: 70 s a call", setting=SETTING),
        record("full-preallocated-bf16", 100_000, 0.1, **times, **values, batch=1024),
        record("recurrent", 128, None, measure="memory", bytes=1_612_808, setting=SETTING),
        record("training", 128, None, measure="memory", bytes=99_000, setting=SETTING),
        record("prefill-parallel-bf16", 2048, 0.123, measure="prefill", **times, **values),
        record("compiled-bf16", 256, 1.5, measure="training", **times, **values, bytes=10**9),
    ]
    text = printed(records)
    for said in ("12.3 ms", "1.61 MB", "99.0 kB", "+22%", "40%", "1,000.00 MB", "1.50 s"):
        assert said in text, said
    assert "full-recomputed (batch 1, 100000) skipped: 70 s a call." in " ".join(text.split())
    assert text.count("1.0M parameters (random weights), cpu, 2 threads") == 4
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_streams_that_fit_are_counted_beside_the_weights():
    memory = {"measure": "memory", "setting": SETTING}
    text = printed(
        [
            record("recurrent", 128, None, bytes=2**20, **memory),
            record("training", 128, None, bytes=2**20, **memory),
        ]
    )
    free = MEMORIES_GIB[0] * 2**30 - 4 * SETTING.sizes["parameters"]
    assert text.count(f"{free // 2**20:,}") == 1
    assert f"in {MEMORIES_GIB[0]} GiB" in text


def test_other_measures_show_their_own_numbers():
    values = {"setting": SETTING}
    text = printed(
        [
            record("read-large", 1, 0.1, measure="floor", rate=3.61e10, bytes=2**30, **values),
            record("matrix-float32", 1, 0.1, measure="floor", rate=2.5e11, **values),
            record("native", 1024, 2.0, measure="job", tokens_per_second=512.0, **values),
            record(
                "native",
                256,
                None,
                measure="likelihood",
                bits_per_token=1.55631,
                targets=2048,
                **values,
            ),
            *run(measure="step"),
        ]
    )
    for said in (
        "36.1 GB/s",
        "250 GFLOP/s",
        "0.50",
        "1.5563",
        "2,048",
        "step: the same without the draw",
    ):
        assert said in text, said


def test_published_figures_stand_beside_ours_and_say_whose_they_are():
    job = {"measure": "papers"}
    text = printed(
        [
            record("mnist/native", 784, 0.5, tokens_per_second=1568.0, setting=SETTING, **job),
            record("mnist/published-linear", 784, 5.5, note="published: a CPU", threads=0, **job),
            record("cifar10/published-linear", 3072, None, tokens_per_second=54_835.0, batch=0,
                   note="published: a GPU", threads=0, **job),
        ]
    )  # fmt: skip
    assert text.count("papers: whole pieces") == 2
    assert "mnist/published-linear *" in text
    assert "5.50 s" in text
    assert "* mnist/published-linear (batch 1, 784) published: a CPU." in text
    assert "theirs" in text
    assert "nothing was measured here" in text


def test_the_reference_configuration_is_the_reference_model():
    model = load_config(PROJECT / "configs" / "reference-12x512.yaml").model
    assert (model.n_layers, model.d_model, model.n_heads, model.d_ff) == (12, 512, 8, 2048)
