"""Peaks of memory, against computations whose bytes are known."""

import os

import pytest
import torch
from tiny_models import tiny_model

from seqgen.benchmark.measures.training import OURS, WAYS, Trainee
from seqgen.benchmark.peak import kept_bytes, peak_bytes

CPU = torch.device("cpu")
KILO = 1024  # floats of a tensor of 4 KiB


def test_the_peak_is_what_was_held_at_once():
    def run():
        a = torch.empty(10 * KILO)
        del a
        b = torch.empty(3 * KILO)
        c = torch.empty(4 * KILO)
        del b, c
        return torch.empty(2 * KILO)

    assert peak_bytes(run, CPU) == 4 * 10 * KILO


def test_two_tensors_at_once_count_together():
    def run():
        a = torch.empty(10 * KILO)
        b = torch.empty(3 * KILO)
        del a, b

    assert peak_bytes(run, CPU) == 4 * 13 * KILO


def test_what_was_there_before_does_not_count_and_nothing_is_nothing():
    before = [torch.empty(100 * KILO)]
    assert peak_bytes(before.clear, CPU) == 0


def test_a_backward_pass_holds_its_gradient():
    x = torch.ones(8 * KILO, requires_grad=True)
    peak = peak_bytes(lambda: (x * x).sum().backward(), CPU)
    assert 4 * 8 * KILO * 2 <= peak <= 4 * 8 * KILO * 4  # the product, the gradient, a factor


def test_an_error_comes_through_and_standard_error_is_back(capfd):
    def fail():
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        peak_bytes(fail, CPU)
    os.write(2, b"still here")
    assert capfd.readouterr().err.endswith("still here")


def test_what_is_kept_counts_each_storage_once_and_no_parameter():
    weight = torch.ones(KILO, requires_grad=True)
    x = torch.ones(KILO)
    # The product keeps both factors, the square keeps the product twice.
    kept = kept_bytes(lambda: (weight * x).mul(2).pow(2), [weight])
    assert kept == 2 * 4 * KILO


@pytest.fixture(scope="module")
def trainee():
    model = tiny_model(d_model=32)
    made = Trainee(model)
    made.step(model.random_tokens(1, 9), WAYS[OURS])  # AdamW has its moments now
    return made, model


def test_a_training_step_holds_weights_moments_gradients_and_activations(trainee):
    made, model = trainee
    weights = sum(x.nbytes for x in made.model.parameters())
    assert 3 * weights <= made.nbytes < 3.1 * weights
    short, long = (made.peak(model.random_tokens(2, n), WAYS[OURS]) for n in (101, 401))
    assert 4 * weights <= short < long


def test_a_step_is_estimated_to_need_about_what_it_needs(trainee):
    made, model = trainee
    tokens = model.random_tokens(2, 801)
    needed = made.peak(tokens, WAYS[OURS]) - made.nbytes
    assert 0.5 < made.estimate(tokens, WAYS[OURS]) / needed < 2
