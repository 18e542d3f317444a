"""Feature maps: the positive functions φ of queries and keys that stand for the softmax.

Each is deterministic: a random one would be drawn anew in each form, and the two would differ.
Legend: d width of a head, K width of its features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RELU_SHIFT = 1e-3  # as in Performer's code for generalised attention


@dataclass(frozen=True)
class FeatureMap:
    """A named map from a head's queries or keys [..., d] to features [..., K].

    Attributes:
        name: as in `model.feature_map`.
        function: the map itself, on tensors.
        expansion: K / d.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    expansion: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Map x [..., d] to features [..., K], none of them negative."""
        return self.function(x)

    def width(self, d: int) -> int:
        """Features K of a head of width d."""
        return d * self.expansion


class _EluPlusOne(torch.autograd.Function):
    """e^x below 0 and x + 1 above, with its slope read off the value.

    elu(x) + 1 is the same, but rounds small features to multiples of 6e-8. The formula in single
    differentiable steps takes four times as long.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        features = x.clamp(max=0).exp_().add_(x.relu())
        ctx.save_for_backward(features)
        return features

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        return gradient * features.clamp(max=1)


def _relu(x: Tensor) -> Tensor:
    return x.relu() + RELU_SHIFT


def _dpfp(x: Tensor) -> Tensor:
    both = torch.cat([x, -x], dim=-1).relu()
    return both * both.roll(1, dims=-1)


def _hedgehog(x: Tensor) -> Tensor:
    return torch.cat([x.softmax(-1), (-x).softmax(-1)], dim=-1)


# In the order in which native/step.h numbers them.
FEATURE_MAPS = {
    feature_map.name: feature_map
    for feature_map in (
        # Katharopoulos et al. 2020, "Transformers are RNNs", equation 7
        FeatureMap("elu+1", _EluPlusOne.apply),
        # Choromanski et al. 2021, "Rethinking attention with Performers", section 4: the ReLU
        # kernel, here without a random projection
        FeatureMap("relu", _relu),
        # Schlag et al. 2021, "Linear Transformers are secretly fast weight programmers", equation
        # 37 with ν = 1
        FeatureMap("dpfp", _dpfp, expansion=2),
        # Zhang et al. 2024, "The Hedgehog and the Porcupine", section 4.1: softmax over features of
        # x and -x; its learned matrix is that of the query and key projections here
        FeatureMap("hedgehog", _hedgehog, expansion=2),
    )
}
