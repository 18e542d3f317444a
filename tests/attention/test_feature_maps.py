"""Feature maps: what they give, and that every kernel sees the same slope."""

import pytest
import torch

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_features_are_never_negative_and_as_wide_as_they_say(name):
    features = FEATURE_MAPS[name](torch.randn(5, 12) * 10)
    assert features.shape == (5, FEATURE_MAPS[name].width(12))
    assert features.min() >= 0
    assert features.max() > 0


def test_small_features_of_elu_are_not_rounded_away():
    features = FEATURE_MAPS["elu+1"](torch.tensor([-20.0, -40.0]))
    assert torch.allclose(features, torch.tensor([-20.0, -40.0]).exp(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_the_slope_of_a_feature_map_at_zero_is_the_same_with_every_kernel(name):
    gradients = []
    for kernel in ("naive", "auto"):
        q, k = (torch.zeros(1, 9, 1, 8, requires_grad=True) for _ in range(2))
        v = torch.arange(72.0).view(1, 9, 1, 8).sin()
        out, _ = causal_linear_attention(q, k, v, feature_map=FEATURE_MAPS[name], kernel=kernel)
        gradients.append(torch.autograd.grad(out.square().sum(), (q, k)))
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() < 1e-5
