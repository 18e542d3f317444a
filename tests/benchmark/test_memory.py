"""Bytes of streams, and how many of them fit."""

import pytest
from subjects import TWO_FIELDS, patient_clock, tiny_subject

from seqgen.benchmark.measures import memory
from seqgen.benchmark.subject import Subject

GIB = 2**30


def sizes(subject, clock, **place):
    return {r.variant: r for r in memory.measure(subject, clock, **place)}


def test_a_cache_in_bfloat16_is_half_as_large():
    records = sizes(tiny_subject(TWO_FIELDS), patient_clock(), batch=3, position=10)
    full, half = records["full-cached"], records["full-cached-bf16"]
    assert full.bytes == 3 * 10 * 2 * 4 * 2 * 16  # rows, tokens, layers, bytes, keys and values
    assert half.bytes * 2 == full.bytes
    assert (full.dtype, half.dtype) == ("float32", "bfloat16")


def test_a_cache_beyond_memory_is_a_row_that_says_so(monkeypatch):
    subject = tiny_subject(TWO_FIELDS)
    monkeypatch.setattr(Subject, "too_large", lambda self, size: "skipped: needs more")
    records = sizes(subject, patient_clock(), batch=1, position=10)
    for name in memory.CACHES:
        assert (records[name].bytes, records[name].note) == (None, "skipped: needs more")
    assert records["recurrent"].bytes


def test_passes_that_take_too_long_are_rows_that_say_so(monkeypatch):
    monkeypatch.setattr(memory, "LONGEST_PASS", 9)
    records = sizes(tiny_subject(TWO_FIELDS), patient_clock(), batch=1, position=10)
    assert "9 positions" in records["training-full"].note
    assert records["recurrent"].bytes
    assert records["full-cached"].bytes


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
