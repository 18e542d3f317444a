"""Cheap dropout is still dropout."""

import torch

from seqgen.model.dropout import ByteDropout


def test_the_share_of_zeros_and_the_mean_are_right():
    x = torch.ones(1_000_003)
    y = ByteDropout(0.25).train()(x)
    assert abs(float((y == 0).float().mean()) - 0.25) < 2e-3
    assert abs(float(y.mean()) - 1) < 4e-3


def test_every_place_in_a_word_is_dropped_as_often():
    zeros = (ByteDropout(0.5).train()(torch.ones(80_000)) == 0).view(-1, 8).float().mean(0)
    assert (zeros - 0.5).abs().max() < 0.02


def test_the_gradient_passes_where_the_value_does():
    x = torch.ones(1000, requires_grad=True)
    y = ByteDropout(0.3).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_evaluation_and_probability_zero_change_nothing():
    x = torch.randn(50)
    assert torch.equal(ByteDropout(0.5).eval()(x), x)
    assert torch.equal(ByteDropout(0.0).train()(x), x)


def test_the_same_seed_gives_the_same_mask():
    x, dropout = torch.ones(500), ByteDropout(0.5).train()
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x))
    assert not torch.equal(first, dropout(x))
