"""Sums that fade are the formula, in every kernel and in both forms."""

import pytest
import torch

from seqgen.attention.fading import (
    WINDOWS_PER_PASS,
    fade,
    fading_attention,
    longest_pass,
    retained,
    window_after,
)
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.kinds import check_window
from seqgen.errors import UserError

B, H, K, V = 3, 2, 5, 4
ELU = FEATURE_MAPS["elu+1"]


def by_loop(q, k, v, *, positions, window, state, boundaries, lengths):
    """The formula, position by position, in float64."""
    S, Z = (x.double() for x in state)
    q, k, v = ELU(q.double()), ELU(k.double()), v.double()
    outputs = []
    for t in range(q.shape[1]):
        here = (t < lengths).double()[:, None, None]
        gamma = torch.where(positions[:, t] >= window, 1 - 1 / window, 1.0)[:, None, None]
        gamma = torch.where(here > 0, gamma, 1.0)
        gamma = gamma * ~boundaries[:, t, None, None]
        S = gamma[..., None] * S + here[..., None] * k[:, t, :, :, None] * v[:, t, :, None]
        Z = gamma * Z + here * k[:, t]
        norm = (q[:, t] * Z).sum(-1, keepdim=True) + 1e-6
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S) / norm)
    return torch.stack(outputs, dim=1), (S, Z)


@pytest.mark.parametrize("kernel", ["naive", "chunked", "native"])
@pytest.mark.parametrize("window", [2, 7, 40, 1000])
def test_a_pass_equals_the_formula(kernel, window):
    T = min(longest_pass(window), 150)
    q, k, v = torch.randn(B, T, H, K), torch.randn(B, T, H, K), torch.randn(B, T, H, V)
    state = torch.rand(B, H, K, V) * 50, torch.rand(B, H, K) * 50
    boundaries = torch.zeros(B, T, dtype=torch.bool)
    boundaries[2, T // 3] = True
    first = torch.tensor([0, 3 * window, window - 2])
    positions = torch.arange(T) + first[:, None]
    positions[2, T // 3 :] = torch.arange(T - T // 3)
    lengths = torch.tensor([T, T - 3, T])
    wanted, end = by_loop(
        *(q, k, v),
        **{"positions": positions, "window": window, "state": state},
        **{"boundaries": boundaries, "lengths": lengths},
    )
    try:
        got, last = fading_attention(
            *(q, k, v),
            retained=retained(positions, window, lengths),
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


def test_the_sums_weigh_for_ever_what_they_weigh_after_a_window():
    window, mass = 10, torch.zeros(())
    weights = []
    for position in range(200):
        mass = fade(torch.tensor(position), window) * mass + 1
        weights.append(float(mass))
    assert weights[: window - 1] == list(range(1, window))
    assert weights[window - 1 :] == pytest.approx([window] * 191, rel=1e-5)


def test_no_pass_is_so_long_that_features_overflow():
    for window in (2, 3, 64):
        T = longest_pass(window)
        late = torch.arange(T)[None] + window
        assert retained(late, window).min() > 1e-5
        with pytest.raises(ValueError, match=f"at most {WINDOWS_PER_PASS * window} positions"):
            retained(torch.arange(T + 1)[None], window)


def test_the_window_without_an_end_is_a_quarter_of_the_context():
    assert [window_after(T) for T in (256, 1022, 2)] == [64, 255, 2]


def test_what_cannot_fade_has_no_window():
    check_window("causal-linear", 2)
    check_window("full", None)
    with pytest.raises(UserError, match=r"a window of 64 positions .* model.attention=full"):
        check_window("full", 64)
    with pytest.raises(UserError, match="a window of 1 positions is too short: 2 or more"):
        check_window("causal-linear", 1)
