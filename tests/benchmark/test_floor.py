"""The machine's floor, and steps as a share of it."""

from dataclasses import replace

import pytest
from tiny_models import TWO_FIELDS, tiny_model

from seqgen.benchmark import timing
from seqgen.benchmark.measures import floor
from seqgen.benchmark.measures.floor import (
    floor_seconds,
    matrix_bytes,
    step_bytes,
    with_shares,
)
from seqgen.benchmark.records import Place, Record
from seqgen.benchmark.timing import Effort, Timer
from seqgen.decoding.matrices import read_weights

QUICKEST = Effort(seconds=0.01, max_repeats=3, longest_call=10.0, measure_seconds=60.0)


@pytest.fixture(scope="module")
def model():
    return tiny_model(TWO_FIELDS)


def a_step(variant="torch", **values):
    place = {"measure": "decode", "dtype": "float32", "batch": 3, "position": 10, "threads": 1}
    return Record(**place | {"variant": variant, "median_seconds": 0.5} | values)


def read(size, rate):
    return a_step("read", measure="floor", bytes=size, rate=rate)


@pytest.fixture
def measured(model, monkeypatch):
    monkeypatch.setattr(floor, "LARGE_BYTES", 2**20)
    monkeypatch.setitem(floor.CALL_BYTES, "cpu", 2**18)
    timer = Timer(QUICKEST, device=model.device)
    return {r.variant: r for r in floor.measure(model, timer, Place("floor", 1, 1))}


def test_rates_and_seconds_are_those_of_one_pass(model, measured):
    assert tuple(measured) == tuple(floor.READS)
    for record in measured.values():
        assert record.rate * min(record.samples) == pytest.approx(record.bytes)
        assert min(record.samples) <= record.median_seconds <= max(record.samples)
    assert measured["read-large"].bytes == 2**20
    assert measured["read-float32"].bytes == matrix_bytes(model.model, "float32")


def test_a_working_set_beyond_memory_is_a_row_that_says_so(model, monkeypatch):
    monkeypatch.setattr(timing, "free_bytes", lambda device: 2**31)
    records = {r.variant: r for r in floor.reads_of([], model)}
    assert records["read-large"].note.startswith("left out: would need 1.1 GB, a quarter")
    assert records["read-int8"].rate


def test_matrices_are_counted_without_embedding_tables(model):
    weights = read_weights(model.model)
    layers = [m for x in weights.layers for m in (x.qkv, x.out, x.up, x.down)]
    matrices = [*layers, weights.short_convolution, weights.lm_head]
    norms = [n for x in weights.layers for n in (x.attention_norm, x.feed_forward_norm)]
    vectors = sum(m.bias.numel() for m in matrices)
    vectors += sum(2 * n.weight.numel() for n in [*norms, weights.norm])
    n = sum(m.weight.numel() for m in matrices)
    assert matrix_bytes(model.model, "float32") == 4 * n + 4 * vectors
    assert matrix_bytes(model.model, "bf16") == 2 * n + 4 * vectors
    n_outputs = sum(len(m.weight) for m in matrices)
    assert matrix_bytes(model.model, "w8a8") == n + 4 * n_outputs + 4 * vectors


def test_a_recurrent_step_reads_weights_once_and_reads_and_writes_the_state_of_each_row(model):
    weights, state = matrix_bytes(model.model, "w8a8"), model.state_at(5, 1).nbytes
    counted = step_bytes(a_step("native-w8a8", dtype="w8a8"), model)
    assert counted == (weights + 3 * state, weights + 6 * state)
    longer = step_bytes(a_step("native-w8a8", dtype="w8a8", position=1000), model)
    assert longer == counted


def test_a_cached_step_reads_keys_and_values_of_all_tokens(model):
    weights = matrix_bytes(model.model, "float32")
    counted = step_bytes(a_step("softmax-preallocated"), model)
    assert counted == (weights + 3 * 10 * 2 * 4 * 2 * 16,) * 2
    half = step_bytes(a_step("softmax-preallocated-bf16", dtype="bf16"), model)
    assert half[1] - matrix_bytes(model.model, "bf16") == (counted[1] - weights) / 2


def test_the_bandwidth_is_that_of_a_working_set_of_the_size():
    reads = [(100, 50.0), (10_000, 10.0)]
    assert floor_seconds(100, 100, reads) == pytest.approx(100 / 50)
    assert floor_seconds(1000, 2000, reads) == pytest.approx(2000 / 30)
    assert floor_seconds(10**6, 10**6, reads) == pytest.approx(10**6 / 10)
    assert floor_seconds(1, 1, reads) == pytest.approx(1 / 50)


def test_shares_stand_with_steps_alone(model):
    _, moved = step_bytes(a_step(), model)
    others = [
        a_step(median_seconds=None, note="left out"),
        a_step(measure="prefill"),
        a_step("softmax-recomputed"),
        read(10, 100.0),
    ]
    first, *rest = with_shares([a_step(), *others], model, floor=[read(10, 100.0)])
    assert first.share_of_floor == pytest.approx(moved / 100 / 0.5)
    assert rest == others
    assert first == replace(a_step(), share_of_floor=first.share_of_floor)
    assert with_shares([a_step()], model, floor=[]) == [a_step()]
