"""The check before timing fails when it should."""

import pytest
import torch
from tiny_models import patient_timer, tiny_model

from seqgen.benchmark import softmax
from seqgen.benchmark.equality import OutputsDiffer, check_equal
from seqgen.benchmark.measures import attention, decode, prefill, training
from seqgen.benchmark.model import DECODERS, BenchmarkModel
from seqgen.benchmark.records import Place
from seqgen.benchmark.run import BenchmarkPlan, run_benchmark
from seqgen.benchmark.timing import Effort
from seqgen.model.sequence_model import SequenceModel


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def other(model):
    return BenchmarkModel(SequenceModel(model.config, model.model.vocabulary), weights="others")


@pytest.mark.parametrize("measure", [decode, prefill, attention, training])
def test_forms_of_one_model_pass(model, measure):
    measure.check(model, batch=2, position=70)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "bars"])
def test_forms_of_one_model_pass_with_positions(positions):
    model = tiny_model(positions=positions, max_positions=40)
    for measure in (decode, prefill):
        measure.check(model, batch=2, position=39)


def test_a_wrong_library_stack_is_found(model, other):
    model.library_recurrent = other.library_recurrent
    for measure in (decode, prefill):
        with pytest.raises(OutputsDiffer, match="library"):
            measure.check(model, batch=1, position=6)


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "recurrent"])
def test_a_decoder_of_other_weights_is_found(model, other, name):
    if reason := other.why_not(name):
        pytest.skip(reason)
    model.decoders[name] = other.decoder(name)
    with pytest.raises(OutputsDiffer, match=f"{name} and the parallel form"):
        decode.check(model, batch=3, position=6)


def test_a_decoder_that_carries_on_something_else_is_found(model, monkeypatch):
    pool = type(model.decoder("torch").open(1))
    read = pool.read

    def wrong(self, slots):
        state = read(self, slots)
        state.Z.mul_(1.01)
        return state

    monkeypatch.setattr(pool, "read", wrong)
    with pytest.raises(OutputsDiffer, match=r"the state of torch \(Z\)"):
        decode.check(model, batch=3, position=6)


def test_a_position_that_is_off_by_one_is_found_beside_rounded_weights(model, monkeypatch):
    pool = type(model.decoder("torch-int8").open(1))
    read = pool.read

    def wrong(self, slots):
        state = read(self, slots)
        if self.decoder.weights == "int8":
            state.position.add_(1)
        return state

    monkeypatch.setattr(pool, "read", wrong)
    with pytest.raises(OutputsDiffer, match=r"the state of torch-int8 \(position\)"):
        decode.check(model, batch=3, position=6)


@torch.no_grad()
@pytest.mark.parametrize("name", softmax.STATIC)
def test_a_wrong_cache_allocated_ahead_is_found(model, other, name):
    if name not in softmax.static_names(model):
        pytest.skip("this CPU has no bfloat16 instructions")
    tokens = model.random_tokens(1, 7)
    softmax.check(model, tokens)
    matrices = softmax.STATIC[name][0]
    model.decoders[matrices] = other.decoder(matrices)
    with pytest.raises(OutputsDiffer, match=f"{name} and softmax-recomputed"):
        softmax.check(model, tokens)


def test_a_wrong_prefill_of_softmax_attention_is_found(model, other):
    model.softmax_twin = other.softmax_twin
    with pytest.raises(OutputsDiffer, match="softmax-parallel and softmax-recomputed"):
        prefill.check(model, batch=1, position=6)


def test_a_wrong_prefill_in_bfloat16_is_found(model, other, monkeypatch):
    monkeypatch.setattr(BenchmarkModel, "has_bfloat16", True)
    model.bf16_prefill = other.bf16_prefill
    with pytest.raises(OutputsDiffer, match="parallel-bf16 and parallel"):
        prefill.check(model, batch=1, position=6)


@pytest.mark.parametrize("kernel", ["chunked", "native"])
def test_wrong_attention_is_found(model, monkeypatch, kernel):
    if kernel not in attention.implementations(model):
        pytest.skip("there is no compiler")
    right = attention.causal_linear_attention

    def wrong(*inputs, kernel, **options):
        out, state = right(*inputs, kernel=kernel, **options)
        return out * (1.01 if kernel == wrong_kernel else 1), state

    wrong_kernel = kernel
    monkeypatch.setattr(attention, "causal_linear_attention", wrong)
    with pytest.raises(OutputsDiffer, match=f"{kernel} attention"):
        attention.check(model, batch=1, position=6)


def test_nothing_is_timed_after_a_failed_check(model, other, monkeypatch):
    model.decoders["recurrent"] = other.decoder("recurrent")
    monkeypatch.setattr(decode, "measure", lambda *_, **__: pytest.fail("timed"))
    plan = BenchmarkPlan(
        {"decode": (4,)}, {}, Effort(seconds=0.01, max_repeats=1, longest_call=1.0)
    )
    with pytest.raises(OutputsDiffer):
        run_benchmark(model, plan, only=["decode"])


@pytest.mark.parametrize(
    "ours", [torch.tensor([1.0, 2.1]), torch.tensor([1.0, torch.nan]), torch.tensor([1.0])]
)
def test_other_values_nan_and_other_shapes_differ(ours):
    with pytest.raises(OutputsDiffer):
        check_equal("ours", [ours], "theirs", [torch.tensor([1.0, 2.0])])


def test_rounding_does_not_differ():
    check_equal("ours", [torch.tensor([1.0, 2.00001])], "theirs", [torch.tensor([1.0, 2.0])])


@pytest.mark.parametrize("measure", [attention, prefill, training])
def test_variants_in_bfloat16_are_checked_and_timed_where_the_device_has_it(measure, monkeypatch):
    monkeypatch.setattr(BenchmarkModel, "has_bfloat16", True)
    model = tiny_model(quick=True)
    measure.check(model, batch=2, position=9)
    records = measure.measure(model, patient_timer(), Place("any", 2, 9))
    assert any(r.repeats and r.variant.endswith("-bf16") for r in records)
