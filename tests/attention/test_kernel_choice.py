"""Which kernel the operator takes, and what it refuses."""

import pytest
import torch

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention, choose_kernel, describe_kernel
from seqgen.native import why_missing

CPU = torch.device("cpu")
needs_native = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "built")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": (2, 9, 2, 4)}, "k has shape"),
        ({"v": (2, 10, 3, 4)}, "v has shape"),
        ({"lengths": (3,)}, "lengths has shape"),
        ({"boundaries": (2, 9)}, "boundaries has shape"),
        ({"initial_state": None}, "initial S has shape"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, message):
    arguments = {name: torch.ones(2, 10, 2, 4) for name in ("q", "k", "v")}
    for name, shape in change.items():
        if shape is None:
            arguments[name] = (torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4))
        else:
            arguments[name] = torch.ones(*shape)
    with pytest.raises(ValueError, match=message):
        causal_linear_attention(**arguments)


@pytest.mark.parametrize("kernel", ["naive", "chunked"])
def test_a_state_must_be_as_wide_as_the_features(kernel):
    q, k, v = (torch.ones(2, 10, 2, 4) for _ in range(3))
    dpfp = FEATURE_MAPS["dpfp"]  # twice as wide as the keys

    def attend(width):
        state = torch.ones(2, 2, width, 4), torch.ones(2, 2, width)
        return causal_linear_attention(
            q, k, v, initial_state=state, feature_map=dpfp, kernel=kernel
        )

    assert attend(8)[1][0].shape == (2, 2, 8, 4)
    with pytest.raises(ValueError, match=r"initial S has shape \[2, 2, 4, 4\]"):
        attend(4)


def test_unknown_and_unusable_kernels_are_refused():
    with pytest.raises(ValueError, match="known are auto, naive"):
        choose_kernel("fastest", CPU)
    with pytest.raises(ValueError, match="run on a GPU"):
        choose_kernel("triton", CPU)
    with pytest.raises(ValueError, match="run on a CPU"):
        choose_kernel("native", torch.device("cuda"))


@needs_native
def test_auto_takes_the_native_kernel_on_a_cpu():
    assert choose_kernel("auto", CPU) == "native"
    assert describe_kernel("auto", CPU).startswith("native (C++, ")
    assert describe_kernel("chunked", CPU) == "chunked"


def test_without_the_native_kernel_auto_is_chunked_and_says_why(monkeypatch):
    monkeypatch.setattr("seqgen.attention.operator.why_missing", lambda: "not built here")
    assert choose_kernel("auto", CPU) == "chunked"
    assert describe_kernel("auto", CPU) == "chunked (plain torch: not built here)"
