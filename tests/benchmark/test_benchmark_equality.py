"""The check before timing fails when it should."""

import pytest
import torch

from seqgen.benchmark import attention, decode, prefill, training
from seqgen.benchmark.equality import OutputsDiffer, check_equal
from seqgen.benchmark.run import Plan, run_benchmark
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Effort
from seqgen.config import ModelConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary


@pytest.fixture
def subject():
    config = ModelConfig(d_model=16, n_layers=2, n_heads=2, dropout=0.0)
    vocabulary = Vocabulary((Field("token", 11),), bos_id=1, eos_id=2, pad_id=0)
    return Subject(SequenceModel(config, vocabulary), weights="random weights")


@pytest.fixture
def other(subject):
    return Subject(SequenceModel(subject.config, subject.model.vocabulary), weights="others")


@pytest.mark.parametrize("measure", [decode, prefill, attention, training])
def test_forms_of_one_model_pass(subject, measure):
    measure.check(subject, batch=2, position=70)


def test_a_wrong_library_stack_is_found(subject, other):
    subject.library_recurrent = other.library_recurrent
    for measure in (decode, prefill):
        with pytest.raises(OutputsDiffer, match="library"):
            measure.check(subject, batch=1, position=6)


def test_a_wrong_recurrent_form_is_found(subject, other):
    subject.recurrent = other.recurrent
    with pytest.raises(OutputsDiffer, match="recurrent and the parallel form"):
        decode.check(subject, batch=1, position=6)


def test_a_wrong_cached_form_is_found(subject, other):
    subject.full_recurrent = other.full_recurrent
    with pytest.raises(OutputsDiffer, match="full-cached and full-recomputed"):
        decode.check(subject, batch=1, position=6)


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
        attention.check(subject, batch=1, position=6)


def test_nothing_is_timed_after_a_failed_check(subject, other, monkeypatch):
    subject.recurrent = other.recurrent
    monkeypatch.setattr(decode, "measure", lambda *_, **__: pytest.fail("timed"))
    plan = Plan({"decode": (4,)}, (1,), Effort(seconds=0.01, max_repeats=1, longest_call=1.0))
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


def test_made_caches_and_states_look_like_real_ones(subject):
    tokens = subject.random_tokens(2, 100)
    with torch.no_grad():
        real, made = subject.cache_after(tokens), subject.cache_at(100, 2)
        _, state = subject.recurrent.prefill(tokens, torch.tensor([100, 100]))
    assert [[x.shape for x in kv] for kv in made] == [[x.shape for x in kv] for kv in real]
    alike = subject.state_at(100, 2)
    for name in ("S", "Z", "recent", "position"):
        ours, theirs = getattr(alike, name), getattr(state, name)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert torch.allclose(alike.Z.sum(), state.Z.sum(), rtol=0.2)
    assert alike.position.tolist() == [100, 100]
