"""Sums that decay are the formula, in every kernel and in both forms."""

import pytest
import torch

from seqgen.attention.decay import (
    MAX_PASS_RATIO,
    decay_factor,
    decay_products,
    decaying_attention,
    default_decay_after,
    longest_pass,
)
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.kinds import check_decay
from seqgen.errors import UserError

B, H, K, V = 3, 2, 5, 4
ELU = FEATURE_MAPS["elu+1"]


def by_loop(q, k, v, *, positions, decay_after, state, boundaries, lengths):
    """The formula, position by position, in float64."""
    S, Z = (x.double() for x in state)
    q, k, v = ELU(q.double()), ELU(k.double()), v.double()
    outputs = []
    for t in range(q.shape[1]):
        here = (t < lengths).double()[:, None, None]
        gamma = torch.where(positions[:, t] >= decay_after, 1 - 1 / decay_after, 1.0)[:, None, None]
        gamma = torch.where(here > 0, gamma, 1.0)
        gamma = gamma * ~boundaries[:, t, None, None]
        S = gamma[..., None] * S + here[..., None] * k[:, t, :, :, None] * v[:, t, :, None]
        Z = gamma * Z + here * k[:, t]
        norm = (q[:, t] * Z).sum(-1, keepdim=True) + 1e-6
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S) / norm)
    return torch.stack(outputs, dim=1), (S, Z)


@pytest.mark.parametrize("kernel", ["naive", "chunked", "native"])
@pytest.mark.parametrize("decay_after", [2, 7, 40, 1000])
def test_a_pass_equals_the_formula(kernel, decay_after):
    T = min(longest_pass(decay_after), 150)
    q, k, v = torch.randn(B, T, H, K), torch.randn(B, T, H, K), torch.randn(B, T, H, V)
    state = torch.rand(B, H, K, V) * 50, torch.rand(B, H, K) * 50
    boundaries = torch.zeros(B, T, dtype=torch.bool)
    boundaries[2, T // 3] = True
    first = torch.tensor([0, 3 * decay_after, decay_after - 2])
    positions = torch.arange(T) + first[:, None]
    positions[2, T // 3 :] = torch.arange(T - T // 3)
    lengths = torch.tensor([T, T - 3, T])
    wanted, end = by_loop(
        *(q, k, v),
        **{"positions": positions, "decay_after": decay_after, "state": state},
        **{"boundaries": boundaries, "lengths": lengths},
    )
    try:
        got, last = decaying_attention(
            *(q, k, v),
            products=decay_products(positions, decay_after, lengths),
            feature_map=ELU,
            lengths=lengths,
            boundaries=boundaries,
            initial_state=state,
            kernel=kernel,
        )
    except ValueError as reason:
        pytest.skip(str(reason))
    valid = torch.arange(T) < lengths[:, None]
    assert (got - wanted)[valid].abs().max() < 1e-5
    for a, b in zip(last, end, strict=True):
        assert ((a - b).abs() / b.abs().clamp(min=1)).max() < 1e-5


def test_the_weight_of_the_sums_stays_what_it_is_where_the_decay_begins():
    decay_after, mass = 10, torch.zeros(())
    weights = []
    for position in range(200):
        mass = decay_factor(torch.tensor(position), decay_after) * mass + 1
        weights.append(float(mass))
    assert weights[: decay_after - 1] == list(range(1, decay_after))
    assert weights[decay_after - 1 :] == pytest.approx([decay_after] * 191, rel=1e-5)


def test_no_pass_is_so_long_that_features_overflow():
    for decay_after in (2, 3, 64):
        T = longest_pass(decay_after)
        late = torch.arange(T)[None] + decay_after
        assert decay_products(late, decay_after).min() > 1e-5
        with pytest.raises(ValueError, match=f"at most {MAX_PASS_RATIO * decay_after} positions"):
            decay_products(torch.arange(T + 1)[None], decay_after)


def test_endless_streams_decay_after_a_quarter_of_the_context():
    assert [default_decay_after(T) for T in (256, 1022, 2)] == [64, 255, 2]


def test_a_decay_that_is_not_supported_is_refused():
    check_decay("causal-linear", 2)
    check_decay("softmax", None)
    with pytest.raises(
        UserError, match=r"decay_after = 64: model.attention=softmax does not support decay"
    ):
        check_decay("softmax", 64)
    with pytest.raises(UserError, match="decay_after = 1: must be 2 or more"):
        check_decay("causal-linear", 1)
