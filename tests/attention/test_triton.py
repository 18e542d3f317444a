"""The Triton kernels mean what the naive loop means, on a GPU and by Triton's interpreter.

A test that takes `device` states a property. It runs here where there is a GPU; without one it is
run by the interpreter, in a process of its own, because TRITON_INTERPRET acts on a whole process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from seqgen.attention import triton_form
from seqgen.attention.naive import position_loop
from seqgen.attention.triton_form import causal_linear

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cpu" if INTERPRETED else pytest.param("cuda", marks=[pytest.mark.gpu, NO_CUDA])
NAMES = ("out", "S", "Z", "dq", "dk", "dv", "dS", "dZ")


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [DEVICE])


def draw(B, T, H, K, V, *, device, dtype=torch.float32, scale=1.0, seed=0):
    """Draw q, k, v and a state, and a weight for each of out, S and Z to make a loss of them."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, k, v = normal(B, T, H, K).exp(), normal(B, T, H, K).exp(), normal(B, T, H, V)
    state = (normal(B, H, K, V), normal(B, H, K).exp())
    weights = (normal(B, T, H, V).to(dtype), normal(B, H, K, V), normal(B, H, K))
    inputs = [*((x * scale).to(dtype) for x in (q, k, v)), *state]
    return [x.to(device) for x in inputs], [x.to(device) for x in weights]


def run(attend, inputs, weights, *, with_state=True, used=(0, 1, 2), **options):
    """Give out, S, Z and the gradients of the inputs, for a loss of the `used` results."""
    inputs = [x.detach().requires_grad_() for x in (inputs if with_state else inputs[:3])]
    state = tuple(inputs[3:]) or None
    out, (S, Z) = attend(*inputs[:3], initial_state=state, **options)
    results = (out, S, Z)
    loss = sum((results[n].to(weights[n]) * weights[n]).sum() for n in used)
    return *results, *torch.autograd.grad(loss, inputs, materialize_grads=True)


def exact(inputs, weights, **options):
    double = [[x.double() for x in tensors] for tensors in (inputs, weights)]
    return run(position_loop, *double, **options)


def agree(expected, got, *, atol=5e-6, rtol=0.0, least=1.0):
    """Compare what `run` gives; `atol` is a share of each tensor's largest value.

    Of `least` when that is larger: a gradient can be small because its terms cancel.
    """
    assert len(expected) == len(got)
    for name, a, b in zip(NAMES, expected, got, strict=False):
        allowed = atol * a.abs().max().clamp(min=least) + rtol * a.abs()
        assert b.isfinite().all(), name
        excess = ((a - b).abs() - allowed).max()
        assert excess <= 0, f"{name} is off by {float(excess)} more than allowed"


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


@pytest.mark.parametrize("with_state", [True, False], ids=["resumed", "fresh"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_output_state_and_gradients_equal_the_loop(shape, with_state, device):
    data = draw(*shape, device=device)
    expected = exact(*data, with_state=with_state)
    agree(expected, run(causal_linear, *data, with_state=with_state))


@pytest.mark.parametrize("seed", [0, 4, 5])
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
    inputs, weights = draw(2, 40, 2, 5, 4, device=device)

    def strided(x):  # the same values, dimensions in reverse order in memory, every second element
        order = list(range(x.dim()))[::-1]
        return x.permute(order).repeat_interleave(2, dim=-1).permute(order)[::2]

    lengths = torch.tensor([40, 17], device=device)
    plain = run(causal_linear, inputs, weights, lengths=lengths)
    inputs, weights, (lengths,) = (
        [strided(x) for x in tensors] for tensors in (inputs, weights, [lengths])
    )
    assert not any(x.is_contiguous() for x in (*inputs, *weights, lengths))
    for a, b in zip(plain, run(causal_linear, inputs, weights, lengths=lengths), strict=True):
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


@pytest.mark.parametrize("cut", [1, 32, 45])
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
    data = draw(1, 70, 2, 8, 5, device=device, dtype=dtype)
    got = run(causal_linear, *data)
    expected = exact(*data)
    half, single = (0, 3, 4, 5), (1, 2, 6, 7)
    assert all(got[n].dtype == dtype for n in half)
    assert all(got[n].dtype == torch.float32 for n in single)
    agree([expected[n] for n in half], [got[n] for n in half], rtol=rounding)
    agree([expected[n] for n in single], [got[n] for n in single])


def test_values_of_another_dtype_keep_it(device):
    inputs, weights = draw(1, 20, 1, 5, 4, device=device)
    inputs[2], weights[0] = inputs[2].bfloat16(), weights[0].bfloat16()
    expected = exact(inputs, weights)
    got = run(causal_linear, inputs, weights)
    assert got[0].dtype == got[5].dtype == torch.bfloat16
    agree(expected, got, rtol=2**-7)
    agree(expected[1:5], got[1:5])


def test_every_property_holds_in_the_interpreter():
    tests = [__file__, "-k", "not interpreter", "-p", "no:cacheprovider"]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert "passed" in child.stdout
    assert "skipped" not in child.stdout


KERNELS = ("sum_chunks", "attend", "query_gradients", "key_value_gradients")
POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64"}


def compile_launch(kernel, args, kwargs):
    """Compile a launch for an A100: a compiler is part of Triton, a GPU is not needed."""
    kwargs = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
    options = {name: kwargs.pop(name) for name in set(kwargs) - set(kernel.arg_names)}
    signature, constants = {}, {}
    for parameter in kernel.params:
        value = kwargs[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
        else:
            signature[parameter.name] = "i32" if isinstance(value, int) else "fp32"
    source = ASTSource(kernel, signature, constants)
    return triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize(
    ("dtype", "precision", "resumed"),
    [(torch.float32, "ieee", False), (torch.bfloat16, "tf32x3", True)],
    ids=["float32", "bfloat16"],
)
def test_every_launch_compiles_outside_the_interpreter(
    dtype, precision, resumed, tmp_path, monkeypatch
):
    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *args, **kwargs: launches.append((self.kernel, args, kwargs))

    launches = []
    for name in KERNELS:
        recorder = Recorder(getattr(triton_form.kernels, name))
        monkeypatch.setattr(triton_form.kernels, name, recorder)
    monkeypatch.setattr(triton_form, "_precision", lambda x: precision)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)  # so that a CPU is let in
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    data = draw(1, 40, 2, 16, 16, device="cpu", dtype=dtype)
    lengths = torch.tensor([30]) if resumed else None
    run(causal_linear, *data, with_state=resumed, lengths=lengths)
    assert {kernel.__name__ for kernel, _, _ in launches} == set(KERNELS)
    for launch in launches:
        assert compile_launch(*launch).asm["cubin"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.ones(1, 6, 2, 3)}, r"q has shape \(1, 6, 2, 3\)"),
        ({"lengths": torch.ones(2)}, r"lengths has shape \(2,\)"),
        ({"initial_state": (torch.ones(1, 2, 4, 5), torch.ones(1, 2, 3))}, "Z has shape"),
        ({"v": torch.ones(1, 6, 2, 5, dtype=torch.float64)}, "v is torch.float64"),
    ],
    ids=["q", "lengths", "state", "dtype"],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    inputs = {"q": torch.ones(1, 6, 2, 4), "k": torch.ones(1, 6, 2, 4), "v": torch.ones(1, 6, 2, 5)}
    with pytest.raises(ValueError, match=message):
        causal_linear(**(inputs | change))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes any device")
def test_inputs_on_a_cpu_are_refused_without_the_interpreter():
    x = torch.ones(1, 6, 2, 4)
    with pytest.raises(ValueError, match="needs a CUDA device; the inputs are on cpu"):
        causal_linear(x, x, x)
