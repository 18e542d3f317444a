"""The machine's floor, and steps as a share of it."""

from dataclasses import replace

import pytest
import torch
from subjects import TWO_FIELDS, tiny_subject

from seqgen.benchmark.floor import StepBytes, floor_seconds, matrix_bytes, step_bytes, with_shares
from seqgen.benchmark.measures import floor
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock, Effort
from seqgen.decoding.matrices import read_weights

QUICKEST = Effort(seconds=0.01, max_repeats=3, longest_call=10.0, measure_seconds=60.0)


@pytest.fixture(scope="module")
def subject():
    return tiny_subject(TWO_FIELDS)


def a_step(variant="torch", **values):
    place = {"measure": "decode", "dtype": "float32", "batch": 3, "position": 10, "threads": 1}
    return Record(**place | {"variant": variant, "median_seconds": 0.5} | values)


def read(size, rate):
    return a_step("read", measure="floor", bytes=size, rate=rate)


@pytest.fixture
def measured(subject, monkeypatch):
    monkeypatch.setattr(floor, "LARGE_BYTES", 2**20)
    monkeypatch.setitem(floor.CALL_BYTES, "cpu", 2**18)
    monkeypatch.setitem(floor.WIDTHS, "cpu", 64)
    clock = Clock(QUICKEST, device=subject.device)
    return {r.variant: r for r in floor.measure(subject, clock, batch=1, position=1)}


def test_every_variant_has_a_rate_or_a_reason(measured):
    assert tuple(measured) == floor.VARIANTS
    assert all((record.rate is None) == bool(record.note) for record in measured.values())


def test_seconds_are_those_of_one_pass(subject, measured):
    for name, record in measured.items():
        if name.startswith("read"):
            assert record.rate * min(record.samples) == pytest.approx(record.bytes)
    assert measured["read-large"].bytes == 2**20
    assert measured["read-float32"].bytes == matrix_bytes(subject.model, "float32")
    of_call = a_step(median_seconds=3.0, p95_seconds=4.0, p99_seconds=5.0, samples=(2.0, 4.0))
    of_pass = floor._of_one_pass(of_call, 2)
    assert (of_pass.median_seconds, of_pass.p95_seconds, of_pass.samples) == (1.5, 2.0, (1.0, 2.0))


def test_a_working_set_beyond_memory_is_a_row_that_says_so(subject, monkeypatch):
    monkeypatch.setattr(Subject, "too_large", lambda self, size: "skipped: needs more")
    clock = Clock(QUICKEST, device=subject.device)
    monkeypatch.setitem(floor.WIDTHS, "cpu", 64)
    records = floor.measure(subject, clock, batch=1, position=1)
    assert {r.note for r in records if r.variant.startswith("read")} == {"skipped: needs more"}


def test_matrices_are_counted_without_embedding_tables(subject):
    weights = read_weights(subject.model)
    layers = [m for x in weights.layers for m in (x.qkv, x.out, x.up, x.down)]
    matrices = [*layers, weights.window, weights.heads]
    norms = [n for x in weights.layers for n in (x.attention_norm, x.feed_forward_norm)]
    vectors = sum(m.bias.numel() for m in matrices)
    vectors += sum(2 * n.weight.numel() for n in [*norms, weights.norm])
    n = sum(m.weight.numel() for m in matrices)
    assert matrix_bytes(subject.model, "float32") == 4 * n + 4 * vectors
    assert matrix_bytes(subject.model, "bf16") == 2 * n + 4 * vectors
    n_outputs = sum(len(m.weight) for m in matrices)
    assert matrix_bytes(subject.model, "w8a8") == n + 4 * n_outputs + 4 * vectors


def test_a_recurrent_step_reads_weights_once_and_reads_and_writes_the_state_of_each_row(subject):
    weights, state = matrix_bytes(subject.model, "w8a8"), subject.state_at(5, 1).nbytes
    counted = step_bytes(a_step("native-w8a8", dtype="w8a8"), subject)
    assert counted == StepBytes(weights + 3 * state, weights + 6 * state)
    longer = step_bytes(a_step("native-w8a8", dtype="w8a8", position=1000), subject)
    assert longer == counted


def test_a_cached_step_reads_keys_and_values_of_all_tokens(subject):
    weights = matrix_bytes(subject.model, "float32")
    counted = step_bytes(a_step("full-preallocated"), subject)
    assert counted == StepBytes(*[weights + 3 * 10 * 2 * 4 * 2 * 16] * 2)
    half = step_bytes(a_step("full-preallocated-bf16", dtype="bf16"), subject)
    assert half.moved - matrix_bytes(subject.model, "bf16") == (counted.moved - weights) / 2


def test_the_bandwidth_is_that_of_a_working_set_of_the_size():
    reads = [(100, 50.0), (10_000, 10.0)]
    assert floor_seconds(StepBytes(100, 100), reads) == pytest.approx(100 / 50)
    assert floor_seconds(StepBytes(1000, 2000), reads) == pytest.approx(2000 / 30)
    assert floor_seconds(StepBytes(10**6, 10**6), reads) == pytest.approx(10**6 / 10)
    assert floor_seconds(StepBytes(1, 1), reads) == pytest.approx(1 / 50)


def test_shares_stand_with_steps_alone(subject):
    moved = step_bytes(a_step(), subject).moved
    others = [
        a_step(median_seconds=None, note="skipped"),
        a_step(measure="prefill"),
        a_step("full-recomputed"),
        read(10, 100.0),
    ]
    first, *rest = with_shares([a_step(), *others], subject, floor=[read(10, 100.0)])
    assert first.share_of_floor == pytest.approx(moved / 100 / 0.5)
    assert rest == others
    assert first == replace(a_step(), share_of_floor=first.share_of_floor)
    assert with_shares([a_step()], subject, floor=[]) == [a_step()]


def test_bf16_matrices_are_multiplied_in_bf16(subject):
    variant = floor._multiply(subject, "matrix-bf16", 8)
    assert variant.note or variant.run(None).dtype == torch.bfloat16
