"""The check before timing fails when it should."""

import pytest
import torch
from subjects import patient_clock, tiny_subject

from seqgen.benchmark.equality import OutputsDiffer, check_equal
from seqgen.benchmark.measures import attention, decode, prefill, training
from seqgen.benchmark.peers import full
from seqgen.benchmark.plans import Plan
from seqgen.benchmark.run import run_benchmark
from seqgen.benchmark.subject import DECODERS, Subject
from seqgen.benchmark.timing import Effort
from seqgen.model.sequence_model import SequenceModel

PATIENT = patient_clock()


@pytest.fixture
def subject():
    return tiny_subject()


@pytest.fixture
def other(subject):
    return Subject(SequenceModel(subject.config, subject.model.vocabulary), weights="others")


@pytest.mark.parametrize("measure", [decode, prefill, attention, training])
def test_forms_of_one_model_pass(subject, measure):
    measure.check(subject, PATIENT, batch=2, position=70)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "bars"])
def test_forms_of_one_model_pass_with_positions(positions):
    subject = tiny_subject(positions=positions, max_positions=40)
    for measure in (decode, prefill):
        measure.check(subject, PATIENT, batch=2, position=39)


def test_a_wrong_library_stack_is_found(subject, other):
    subject.library_recurrent = other.library_recurrent
    for measure in (decode, prefill):
        with pytest.raises(OutputsDiffer, match="library"):
            measure.check(subject, PATIENT, batch=1, position=6)


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "recurrent"])
def test_a_decoder_of_other_weights_is_found(subject, other, name):
    if reason := other.why_not(name):
        pytest.skip(reason)
    subject.decoders[name] = other.decoder(name)
    with pytest.raises(OutputsDiffer, match=f"{name} and the parallel form"):
        decode.check(subject, PATIENT, batch=3, position=6)


def test_a_decoder_that_carries_on_something_else_is_found(subject, monkeypatch):
    pool = type(subject.decoder("torch").open(1))
    read = pool.read

    def wrong(self, slots):
        state = read(self, slots)
        state.Z.mul_(1.01)
        return state

    monkeypatch.setattr(pool, "read", wrong)
    with pytest.raises(OutputsDiffer, match=r"the state of torch \(Z\)"):
        decode.check(subject, PATIENT, batch=3, position=6)


def test_a_position_that_is_off_by_one_is_found_beside_rounded_weights(subject, monkeypatch):
    pool = type(subject.decoder("torch-int8").open(1))
    read = pool.read

    def wrong(self, slots):
        state = read(self, slots)
        if self.decoder.weights == "int8":
            state.position.add_(1)
        return state

    monkeypatch.setattr(pool, "read", wrong)
    with pytest.raises(OutputsDiffer, match=r"the state of torch-int8 \(position\)"):
        decode.check(subject, PATIENT, batch=3, position=6)


def test_a_wrong_cache_of_the_library_is_found(subject, other):
    subject.full_recurrent = other.full_recurrent
    with pytest.raises(OutputsDiffer, match="full-cached and full-recomputed"):
        decode.check(subject, PATIENT, batch=1, position=6)


@torch.no_grad()
@pytest.mark.parametrize("name", full.CACHED)
def test_a_wrong_cache_allocated_ahead_is_found(subject, other, name):
    tokens = subject.random_tokens(1, 7)
    _, state = subject.recurrent.prefill(tokens[:, :-1], torch.tensor([6]))
    full.check(subject, tokens, state, patient=True)
    matrices = full.CACHED[name][0]
    subject.decoders[matrices] = other.decoder(matrices)
    with pytest.raises(OutputsDiffer, match=f"{name} and full-recomputed"):
        full.check(subject, tokens, state, patient=True)


def test_a_wrong_prefill_of_softmax_attention_is_found(subject, other):
    subject.full_preallocated = other.full_preallocated
    with pytest.raises(OutputsDiffer, match="full-parallel and full-recomputed"):
        prefill.check(subject, PATIENT, batch=1, position=6)


def test_a_wrong_prefill_in_bfloat16_is_found(subject, other):
    subject.rounded = other.rounded
    with pytest.raises(OutputsDiffer, match="prefill-parallel-bf16 and prefill-parallel"):
        prefill.check(subject, PATIENT, batch=1, position=6)


@pytest.mark.parametrize("kernel", ["chunked", "native"])
def test_wrong_attention_is_found(subject, monkeypatch, kernel):
    if reason := attention._why_not(kernel, subject.device):  # without a compiler
        pytest.skip(reason)
    right = attention.causal_linear_attention

    def wrong(*inputs, kernel, **options):
        out, state = right(*inputs, kernel=kernel, **options)
        return out * (1.01 if kernel == wrong_kernel else 1), state

    wrong_kernel = kernel
    monkeypatch.setattr(attention, "causal_linear_attention", wrong)
    with pytest.raises(OutputsDiffer, match=f"{kernel} attention"):
        attention.check(subject, PATIENT, batch=1, position=6)


def test_nothing_is_timed_after_a_failed_check(subject, other, monkeypatch):
    subject.decoders["recurrent"] = other.decoder("recurrent")
    monkeypatch.setattr(decode, "measure", lambda *_, **__: pytest.fail("timed"))
    plan = Plan({"decode": (4,)}, {}, Effort(seconds=0.01, max_repeats=1, longest_call=1.0))
    with pytest.raises(OutputsDiffer):
        run_benchmark(subject, plan, only=["decode"])


@pytest.mark.parametrize(
    "ours", [torch.tensor([1.0, 2.1]), torch.tensor([1.0, torch.nan]), torch.tensor([1.0])]
)
def test_other_values_nan_and_other_shapes_differ(ours):
    with pytest.raises(OutputsDiffer):
        check_equal("ours", [ours], "theirs", [torch.tensor([1.0, 2.0])])


def test_rounding_does_not_differ():
    check_equal("ours", [torch.tensor([1.0, 2.00001])], "theirs", [torch.tensor([1.0, 2.0])])
