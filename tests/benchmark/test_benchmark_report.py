"""Records in JSON, in tables, in sentences, and from the command."""

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from seqgen.benchmark import run
from seqgen.benchmark.records import KEYS, Record, read_records, write_records
from seqgen.benchmark.report.tables import crossing_sentences, endless_sentences, tables
from seqgen.benchmark.timing import Effort
from seqgen.commands.benchmark import MEASURES, benchmark
from seqgen.commands.settings import PROJECT
from seqgen.config import load_config


def record(variant, position, seconds, *, measure="decode", batch=1, **values):
    return Record(
        measure=measure,
        variant=variant,
        dtype="float32",
        batch=batch,
        position=position,
        threads=2,
        median_seconds=seconds,
        **values,
    )


def decode_records(cached):
    """The recurrent step takes 10 ms everywhere; `cached` gives milliseconds by position."""
    return [
        r
        for position, milliseconds in cached.items()
        for r in (
            record("recurrent", position, 0.010),
            record("full-cached", position, milliseconds and milliseconds / 1e3),
        )
    ]


def printed(records):
    console = Console(width=80, record=True, file=io.StringIO())
    for part in tables(records, setting="a tiny model"):
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
        ({8: 12, 16: 20}, "at every position measured, from 8 on (2.00 times as fast at 16)"),
        ({8: 9, 16: 10.1, 32: 30}, "from position 32 on (3.00 times as fast at 32), but not"),
        ({8: 12, 16: 9}, "does not clearly beat"),
        ({8: 12, 16: None}, "from 8 on (1.20 times as fast at 8)"),
    ],
)
def test_the_sentence_says_no_more_than_was_measured(cached, said):
    sentence, caution = crossing_sentences(decode_records(cached))
    assert said in sentence
    assert "harder opponent" in caution


def test_a_cache_allocated_ahead_is_an_opponent_of_its_own():
    ahead = [record("full-preallocated", position, 0.02) for position in (8, 16)]
    first, second = crossing_sentences(decode_records({8: 9, 16: 9}) + ahead)
    assert "library's KV cache up to the longest" in first
    assert "allocated ahead at every position measured, from 8 on (2.00" in second


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
    records = [
        record("library", 100_000, 0.0123, tokens_per_second=81.3, ratio_to_library=1.0, repeats=9),
        record("full-recomputed", 100_000, None, note="skipped: 70 s a call or more"),
        record("recurrent", 128, None, measure="memory", bytes=1_612_808),
        record("prefill-parallel-bf16", 2048, 0.123, measure="prefill", tokens_per_second=12_345),
    ]
    text = printed(records)
    assert "12.3 ms" in text
    assert "1.61 MB" in text
    assert "full-recomputed (batch 1, 100000) skipped: 70 s a call or more." in text
    assert text.count("a tiny model") == 3
    assert "prefill-parallel-bf16" in text
    assert "…" not in text


def test_the_command_measures_prints_and_writes(tmp_path, monkeypatch):
    positions = dict.fromkeys(MEASURES, (4, 8))
    effort = Effort(seconds=0.01, max_repeats=2, longest_call=10.0, measure_seconds=60.0)
    monkeypatch.setattr(run, "QUICK", run.Plan(positions, {}, effort))
    config = tmp_path / "tiny.yaml"
    config.write_text("model:\n  d_model: 8\n  n_layers: 1\n  n_heads: 2\n")
    path = tmp_path / "out.json"
    arguments = [str(config), "--quick", "--device", "cpu", "--batch", "2", "--json", str(path)]
    result = CliRunner().invoke(benchmark, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert {r.measure for r in read_records(path)} == set(MEASURES)
    assert {r.batch for r in read_records(path)} == {1, 2}  # memory is per stream


def test_the_command_knows_all_measures():
    assert tuple(run.MEASURES) == MEASURES


def test_the_reference_configuration_is_the_reference_model():
    model = load_config(PROJECT / "configs" / "reference-12x512.yaml").model
    assert (model.n_layers, model.d_model, model.n_heads, model.d_ff) == (12, 512, 8, 2048)
