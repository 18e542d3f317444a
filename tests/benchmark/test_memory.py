"""Bytes of streams, and of what training keeps."""

from tiny_models import TWO_FIELDS, patient_timer, tiny_model

from seqgen.benchmark.measures import memory
from seqgen.benchmark.records import Place


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
