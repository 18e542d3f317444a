"""The Triton kernels mean what the naive loop means, on a GPU and by Triton's interpreter.

A test that takes `device` states a property. It runs here where there is a GPU; without one it is
run by the interpreter, in a process of its own, because TRITON_INTERPRET acts on a whole process.
"""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from triton_cases import agree, draw, exact, run
from triton_launches import INTERPRETED, check_in_interpreter

from seqgen.attention import operator
from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.naive import position_loop
from seqgen.attention.triton_form import causal_linear

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cpu" if INTERPRETED else pytest.param("cuda", marks=[pytest.mark.gpu, NO_CUDA])


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [DEVICE])


# The interpreter is slow.
SOME_BORDERS = [(33,), (0, 31, 63, 69)]
BORDERS = [*SOME_BORDERS, (), (0,), (31,), (32,), (32, 64), range(70)]


def boundaries_at(T, *positions, device):
    """Booleans [1, T], true at the positions."""
    boundaries = torch.zeros(1, T, dtype=torch.bool)
    boundaries[:, list(positions)] = True
    return boundaries.to(device)


SHAPES = {
    "one position": (2, 1, 2, 3, 5),
    "one short of a chunk": (1, 31, 1, 16, 4),
    "one chunk": (1, 32, 1, 4, 16),
    "one past a chunk": (1, 33, 1, 4, 4),
    "widths of one": (2, 40, 1, 1, 1),
    "many keys, few values": (1, 35, 2, 65, 3),
    "few keys, two value blocks": (1, 35, 1, 3, 33),
    "three chunks": (2, 70, 2, 7, 6),
}
if not INTERPRETED:
    SHAPES |= {"a training shape": (2, 500, 4, 64, 64), "wide": (1, 200, 2, 128, 100)}


# The interpreter is slow: there, one shape begins without a state.
FRESH = ["one past a chunk"] if INTERPRETED else SHAPES


@pytest.mark.parametrize(
    ("shape", "with_state"),
    [(name, True) for name in SHAPES] + [(name, False) for name in FRESH],
    ids=[f"{name}-resumed" for name in SHAPES] + [f"{name}-fresh" for name in FRESH],
)
def test_output_state_and_gradients_equal_the_loop(shape, with_state, device):
    data = draw(*SHAPES[shape], device=device)
    expected = exact(*data, with_state=with_state)
    agree(expected, run(causal_linear, *data, with_state=with_state))


@pytest.mark.parametrize("seed", [0] if INTERPRETED else [0, 4, 5])
def test_rows_of_drawn_lengths_equal_the_loop(seed, device):
    generator = torch.Generator().manual_seed(seed)
    B, T, H, K, V = (
        int(torch.randint(1, most + 1, (), generator=generator)) for most in (3, 75, 2, 20, 20)
    )
    lengths = torch.randint(0, T + 1, (B,), generator=generator)
    lengths[-1] = 0
    data = draw(B, T, H, K, V, device=device, seed=seed)
    lengths = lengths.to(device)
    agree(exact(*data, lengths=lengths), run(causal_linear, *data, lengths=lengths))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_large_and_small_magnitudes_equal_the_loop(scale, device):
    data = draw(1, 40, 1, 5, 4, device=device, scale=scale)
    agree(exact(*data), run(causal_linear, *data), least=0.0)


@pytest.mark.parametrize("used", [(0,), (1,), (2,)], ids=["out", "S", "Z"])
def test_gradients_of_one_result_alone_equal_the_loop(used, device):
    data = draw(1, 40, 1, 5, 4, device=device)
    agree(exact(*data, used=used), run(causal_linear, *data, used=used))


def test_strides_do_not_matter(device):
    inputs, weights = draw(2, 20, 2, 5, 4, device=device)

    def strided(x):  # the same values, dimensions in reverse order in memory, every second element
        order = list(range(x.dim()))[::-1]
        return x.permute(order).repeat_interleave(2, dim=-1).permute(order)[::2]

    rows = {
        "lengths": torch.tensor([20, 9], device=device),
        "boundaries": boundaries_at(20, 5, 13, device=device).expand(2, 20).clone(),
    }
    rows["boundaries"][1] = False
    plain = run(causal_linear, inputs, weights, **rows)
    inputs, weights = ([strided(x) for x in tensors] for tensors in (inputs, weights))
    rows = {name: strided(x) for name, x in rows.items()}
    assert not any(x.is_contiguous() for x in (*inputs, *weights, *rows.values()))
    for a, b in zip(plain, run(causal_linear, inputs, weights, **rows), strict=True):
        assert torch.equal(a, b)


def test_inputs_that_share_their_memory_are_read_where_they_lie(device, monkeypatch):
    inputs, weights = draw(2, 20, 2, 8, 8, device=device)
    plain = run(causal_linear, inputs, weights)
    shared = torch.cat([x.flatten(2) for x in inputs[:3]], dim=-1)  # [B, T, 3 H K]
    inputs[:3] = (x.unflatten(2, (2, 8)) for x in shared.split(16, dim=-1))

    def contiguous(x):
        assert x.is_contiguous()
        return x

    monkeypatch.setattr(torch.Tensor, "contiguous", contiguous)
    for a, b in zip(plain, run(causal_linear, inputs, weights), strict=True):
        assert torch.equal(a, b)


def test_a_gradient_of_stride_zero_equals_the_loop(device):
    (q, k, v, *_), _ = draw(1, 40, 1, 5, 4, device=device)
    gradients = []
    for attend, dtype in ((position_loop, torch.float64), (causal_linear, torch.float32)):
        inputs = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        gradients.append(torch.autograd.grad(attend(*inputs)[0].sum(), inputs))
    agree(*gradients)


def test_what_lies_past_the_length_is_not_read(device):
    inputs, weights = draw(2, 40, 1, 5, 4, device=device)
    lengths = torch.tensor([40, 13], device=device)
    results = []
    for filler in (0.0, float("nan")):
        for x in inputs[1:3]:
            x[1, 13:] = filler
        results.append(run(causal_linear, inputs, weights, lengths=lengths))
    agree(results[0], results[1], atol=0.0)
    for gradient in results[1][4:6]:
        assert (gradient[1, 13:] == 0).all()
        assert (gradient[1, :13] != 0).all()


@pytest.mark.parametrize("cut", [45] if INTERPRETED else [1, 32, 45])
def test_a_sequence_split_in_two_equals_one_pass(cut, device):
    def resumed(q, k, v, *, initial_state):
        first, state = causal_linear(
            q[:, :cut], k[:, :cut], v[:, :cut], initial_state=initial_state
        )
        second, state = causal_linear(q[:, cut:], k[:, cut:], v[:, cut:], initial_state=state)
        return torch.cat([first, second], dim=1), state

    data = draw(1, 50, 1, 5, 4, device=device)
    agree(run(causal_linear, *data), run(resumed, *data))


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)], ids=str
)
def test_half_inputs_are_rounded_once_at_the_end(dtype, rounding, device):
    data = draw(1, 40, 1, 8, 5, device=device, dtype=dtype)
    got = run(causal_linear, *data)
    expected = exact(*data)
    half, single = (0, 3, 4, 5), (1, 2, 6, 7)
    assert all(got[n].dtype == dtype for n in half)
    assert all(got[n].dtype == torch.float32 for n in single)
    # On a GPU operands that are not bfloat16 keep 16 bits.
    agree([expected[n] for n in half], [got[n] for n in half], atol=2e-5, rtol=rounding)
    agree([expected[n] for n in single], [got[n] for n in single], atol=2e-5)


def test_values_of_another_dtype_keep_it(device):
    inputs, weights = draw(1, 20, 1, 5, 4, device=device)
    inputs[2], weights[0] = inputs[2].bfloat16(), weights[0].bfloat16()
    expected = exact(inputs, weights)
    got = run(causal_linear, inputs, weights)
    assert got[0].dtype == got[5].dtype == torch.bfloat16
    agree(expected, got, rtol=2**-7)
    agree(expected[1:5], got[1:5])


@pytest.mark.parametrize(
    ("share", "T", "K", "with_state"),
    [(0.02, 75, 5, True), (0.1, 75, 5, False), (0.5, 75, 5, True), (0.1, 40, 65, True)],
    ids=["few", "fresh", "many", "in chunks of 16"],
)
def test_drawn_starts_equal_the_loop(share, T, K, with_state, device):
    generator = torch.Generator().manual_seed(0)
    boundaries = (torch.rand(3, T, generator=generator) < share).to(device)
    lengths = torch.tensor([T, T // 2 + 1, 0], device=device)
    options = {"boundaries": boundaries, "lengths": lengths, "with_state": with_state}
    data = draw(3, T, 1, K, 4, device=device)
    agree(exact(*data, **options), run(causal_linear, *data, **options))


@pytest.mark.parametrize("at", SOME_BORDERS if INTERPRETED else BORDERS, ids=str)
def test_starts_at_the_borders_of_chunks_equal_the_loop(at, device):
    data = draw(1, 70, 1, 5, 4, device=device)
    boundaries = boundaries_at(70, *at, device=device)
    agree(exact(*data, boundaries=boundaries), run(causal_linear, *data, boundaries=boundaries))


@pytest.mark.parametrize("filler", [float("nan")] if INTERPRETED else [1e15, float("nan")])
@pytest.mark.parametrize(
    ("filled", "clean"),  # never of one chunk: its tiles are multiplied as a whole
    [
        (range(64, 100), range(45)),
        (range(45, 100), range(32)),
        (range(32), range(45, 100)),
        (range(45), range(64, 100)),
    ],
    ids=["first, far", "first, near", "second, far", "second, near"],
)
def test_a_piece_equals_itself_alone_whatever_the_other_holds(filled, clean, filler, device):
    inputs, weights = draw(1, 100, 1, 5, 4, device=device)
    first = clean.start == 0
    piece = slice(45) if first else slice(45, None)
    used = (0,) if first else (0, 1, 2)  # the last sums are the second piece's
    own = [*(x[:, piece] for x in inputs[:3]), *inputs[3:]]
    alone = run(
        causal_linear, own, [weights[0][:, piece], *weights[1:]], with_state=first, used=used
    )
    near = 45 in (filled.start, filled.stop)
    for x in inputs[1:2] if near else inputs[1:3]:  # values do spoil the rest of their chunk
        x[:, list(filled)] = filler
    if not first:
        inputs[3:] = [torch.full_like(x, filler) for x in inputs[3:]]
    boundaries = boundaries_at(100, 45, device=device)
    whole = run(causal_linear, inputs, weights, boundaries=boundaries, used=used)
    for n in (0, 3, 4, 5):  # out, dq, dk, dv
        at = [t - (piece.start or 0) for t in clean]
        agree([alone[n][:, at]], [whole[n][:, list(clean)]])
    others = slice(6, 8) if first else slice(1, 3)  # dS, dZ or S, Z
    agree(alone[others], whole[others])


def test_a_start_at_the_first_position_forgets_the_state(device):
    inputs, weights = draw(1, 40, 1, 5, 4, device=device)
    fresh = run(causal_linear, inputs, weights, with_state=False)
    inputs[3:] = [torch.full_like(x, float("nan")) for x in inputs[3:]]
    *got, dS, dZ = run(
        causal_linear, inputs, weights, boundaries=boundaries_at(40, 0, device=device)
    )
    # Without boundaries it is another compiled kernel, whose sums may be rounded in another order.
    agree(fresh, got)
    assert not dS.any()
    assert not dZ.any()


def test_gradients_of_the_last_sums_reach_the_last_part_only(device):
    data = draw(1, 80, 1, 5, 4, device=device)
    boundaries = boundaries_at(80, 20, 45, device=device)
    *_, dq, dk, dv, dS, dZ = run(causal_linear, *data, boundaries=boundaries, used=(1, 2))
    for unreached in (dq, dk[:, :45], dv[:, :45], dS, dZ):
        assert not unreached.any()
    assert dk[:, 45:].all()
    assert dv[:, 45:].all()


@pytest.mark.parametrize("name", ["elu+1", "relu", "dpfp"])
def test_the_operator_with_any_feature_map_equals_the_loop(name, device, monkeypatch):
    monkeypatch.setattr(operator, "_why_not_triton", lambda *_: "")
    inputs, weights = draw(2, 40, 1, 5, 4, device=device)
    feature_map = FEATURE_MAPS[name]
    inputs[:2] = (x.log() for x in inputs[:2])
    rows = {
        "lengths": torch.tensor([40, 35], device=device),
        "boundaries": boundaries_at(40, 20, device=device).expand(2, 40),
    }

    def loop(q, k, v, **options):
        return position_loop(feature_map(q), feature_map(k), v, **options)

    def attend(q, k, v, **options):
        return operator.causal_linear_attention(
            q, k, v, feature_map=feature_map, kernel="triton", **options
        )

    fresh = {"with_state": False, **rows}
    double = [[x.double() for x in tensors] for tensors in (inputs, weights)]
    if feature_map.expansion > 1:
        weights[1:] = double[1][1:] = [x.repeat_interleave(2, 2) for x in weights[1:]]
    agree(run(loop, *double, **fresh), run(attend, inputs, weights, **fresh))


@pytest.mark.parametrize("learned", [True, False], ids=["learned", "fixed"])
def test_sums_that_decay_equal_the_loop(learned, device):
    T = 70 if learned else 40
    boundaries = torch.zeros(2, T, dtype=torch.bool, device=device)
    boundaries[0, [35, T - 6]] = True
    options = {"lengths": torch.tensor([T, 38], device=device), "boundaries": boundaries}
    options["decay"] = torch.tensor([1e-4, 0.97], device=device, requires_grad=learned)
    data = draw(2, T, 2, 5, 4, device=device)
    agree(exact(*data, **options), run(causal_linear, *data, **options))


@pytest.mark.slow
def test_every_property_holds_in_the_interpreter():
    # It is slow: of the shapes, those that begin with a state, which is the longer way.
    check_in_interpreter(__file__, "not interpreter and not fresh")
