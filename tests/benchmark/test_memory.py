"""Bytes of streams, and how many of them fit."""

import pytest
from tiny_models import TWO_FIELDS, patient_timer, tiny_model

from seqgen.benchmark.measures import memory
from seqgen.benchmark.records import Place

GIB = 2**30


def sizes(model, *, batch, position):
    return {
        r.variant: r
        for r in memory.measure(model, patient_timer(), Place("memory", batch, position))
    }


def test_a_cache_in_bfloat16_is_half_as_large():
    records = sizes(tiny_model(TWO_FIELDS), batch=3, position=10)
    full, half = records["softmax-cache"], records["softmax-cache-bf16"]
    assert full.bytes == 3 * 10 * 2 * 4 * 2 * 16  # rows, tokens, layers, bytes, keys and values
    assert half.bytes * 2 == full.bytes
    assert (full.dtype, half.dtype) == ("float32", "bfloat16")


def test_passes_that_take_too_long_are_rows_that_say_so(monkeypatch):
    monkeypatch.setitem(memory.LONGEST_PASS, False, 9)
    records = sizes(tiny_model(TWO_FIELDS), batch=1, position=10)
    assert (
        records["training-softmax"].note == "left out: no pass over more than 9 positions is made"
    )
    assert records["recurrent"].bytes
    assert records["softmax-cache"].bytes


def test_the_state_keeps_its_size_while_the_cache_and_training_grow(model):
    near, far = (sizes(model, batch=2, position=position) for position in (5, 10))
    assert near["recurrent"].bytes == far["recurrent"].bytes == model.state_at(10, 2).nbytes
    assert 2 * near["softmax-cache"].bytes == far["softmax-cache"].bytes
    assert near["training"].bytes < far["training"].bytes
    assert 0 < far["training-recomputed"].bytes < far["training"].bytes / 2


@pytest.mark.parametrize(
    ("gib", "n_streams"), [(8, (8 * GIB - 151_000_000) // 1_600_000), (0.1, 0), (0.2, 39)]
)
def test_streams_fit_beside_the_weights(gib, n_streams):
    fit = memory.streams_that_fit(gib * GIB, weight_bytes=151_000_000, stream_bytes=1_600_000)
    assert fit == n_streams


def test_what_fits_fits_and_one_more_does_not():
    weights, stream = 1000, 70
    fit = memory.streams_that_fit(5000, weight_bytes=weights, stream_bytes=stream)
    assert weights + fit * stream <= 5000 < weights + (fit + 1) * stream
