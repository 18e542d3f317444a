"""A step by Triton's kernels is the torch decoder's step, on a GPU and by Triton's interpreter.

A test that takes `device` states a property. It runs here where there is a GPU; without one it is
run by the interpreter, in a process of its own, because TRITON_INTERPRET acts on a whole process.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from making import random_tokens
from triton_launches import INTERPRETED, check_in_interpreter, compile_launch, record_launches

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.decoding import cuda, fused, linear, triton_step
from seqgen.decoding.fused import TorchDecoder, TorchPool
from seqgen.decoding.linear import Plain
from seqgen.decoding.matrices import Norm
from seqgen.decoding.triton_step import Rows, TritonPool, multiply

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cpu" if INTERPRETED else pytest.param("cuda", marks=[pytest.mark.gpu, NO_CUDA])


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [DEVICE])


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Matrices are plain there; the interpreter takes long for many programs."""
    if INTERPRETED:
        monkeypatch.setattr(triton_step, "MULTIPROCESSORS", 2)
    monkeypatch.setattr(linear, "_can_pack", lambda dtype: False)
    monkeypatch.setattr(linear, "has_fbgemm", lambda: False)


CASES = {  # B, K, M and what follows
    "one row": (1, 32, 32, "none"),
    "few rows, sizes that fill no block": (3, 20, 37, "gelu"),
    "rows in tiles": (9, 20, 37, "gelu"),
    "several blocks of inputs": (9, 200, 16, "relu"),
    "several blocks of rows": (70, 33, 17, "gelu"),
}


def plain(M, K, device):
    return Plain(torch.randn(M, K, device=device), torch.randn(M, device=device))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_matrix_with_all_around_it_is_what_torch_makes_of_it(case, device):
    B, K, M, activation = case
    x, residual = torch.randn(B, 8, device=device), torch.randn(B, M, device=device)
    first, matrix = plain(K, 8, device), plain(M, K, device)
    norm, last = (Norm(torch.randn(K, device=device), torch.randn(K, device=device)) for _ in "ab")
    act = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}[activation]
    same, rows = multiply(Rows(x), first, with_parts=True)
    assert same is x
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-5)
    close(rows.x, first(x))
    for given in (rows._replace(norm=norm), Rows(rows.x, norm)):
        normed, y = multiply(given, matrix, activation=activation, residual=residual)
        expected = fused.normalize(rows.x, norm)
        close(normed, expected)
        close(y.x, act(matrix(expected)) + residual)
        _, y = multiply(given, matrix, last=last)
        close(y.x, matrix(fused.normalize(expected, last)))


CHOICES = [
    ({"n_heads": 2, "d_ff": 32, "positions": "bars"}, 2),
    ({"feature_map": "relu", "activation": "relu", "d_model": 20, "d_ff": 36}, None),
    ({"positions": "learned", "max_positions": 2, "conv_width": 1, "n_layers": 1}, None),
    ({"n_heads": 1, "d_model": 136, "n_layers": 1, "d_ff": 32, "conv_width": 0}, 2),
]  # the last one's values are in two blocks


@pytest.mark.parametrize(("choices", "decay_after"), CHOICES, ids=str)
def test_steps_equal_the_torch_decoders(tiny, toy_vocabulary, choices, decay_after, device):
    model = tiny(toy_vocabulary, **choices).to(device)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # so that no norm can be left out or taken for another
            torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    decoder = TorchDecoder(model, decay_after=decay_after)
    pools = TorchPool(decoder, 4), TritonPool(decoder, 4)
    pools[0].host_may_read = False  # so that both take the last learned position beyond the end
    tokens = random_tokens(toy_vocabulary, 2, 3).to(device)
    tokens[0, 1, 0] = 5  # an anchor
    for pool in pools:
        pool.write(torch.arange(4, device=device), decoder.initial_state(4))
    for t, slots in enumerate(([0, 1], [3, 0], [0, 1])):
        slots = torch.tensor(slots, device=device)
        expected, logits = (torch.cat(p.advance(slots, tokens[:, t]), 1) for p in pools)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    states = [pool.read(torch.arange(4, device=device)) for pool in pools]
    torch.testing.assert_close(states[1].S, states[0].S, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states[1].Z, states[0].Z, atol=1e-4, rtol=1e-4)
    assert torch.equal(states[1].recent, states[0].recent)
    assert torch.equal(states[1].position, states[0].position)
    assert torch.equal(states[1].origin, states[0].origin)


def test_bf16_weights_are_those_of_the_torch_decoder(tiny, plain_vocabulary, device):
    decoder = TorchDecoder(tiny(plain_vocabulary, n_layers=1).to(device), "bf16")
    pools = TorchPool(decoder, 2), TritonPool(decoder, 2)
    slots = torch.arange(2, device=device)
    for pool in pools:
        pool.write(slots, decoder.initial_state(2))
    for tokens in random_tokens(plain_vocabulary, 4, 2).to(device).split(2):
        expected, logits = (pool.advance(slots, tokens[:, 0])[0] for pool in pools)
        torch.testing.assert_close(
            logits, expected, atol=0.02 * float(expected.abs().max()), rtol=0
        )


def test_a_row_is_the_same_to_the_last_bit_beside_others(device):
    x, matrix = torch.randn(20, 40, device=device), plain(24, 40, device)
    for few, many in ((slice(3, 4), slice(0, 8)), (slice(3, 12), slice(0, 16))):
        some, all_of_them = (multiply(Rows(x[rows]), matrix)[1].x for rows in (few, many))
        assert torch.equal(some[0], all_of_them[3])


def test_the_kernels_are_taken_where_they_can_be(tiny, plain_vocabulary, monkeypatch, device):
    decoder = TorchDecoder(tiny(plain_vocabulary).to(device))
    assert list(cuda.step_kinds(decoder)) == ["torch", "triton", "mixed"]
    decoder = TorchDecoder(tiny(plain_vocabulary, feature_map="dpfp").to(device))
    assert list(cuda.step_kinds(decoder)) == ["torch"]


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize(("capability", "weights", "rows"), [(80, "float32", 1), (90, "bf16", 40)])
def test_every_launch_compiles_outside_the_interpreter(
    tiny, plain_vocabulary, capability, weights, rows, tmp_path, monkeypatch
):
    launches = record_launches(monkeypatch, triton_step.kernels, ("multiply", "attend"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    model = tiny(plain_vocabulary, d_model=64, n_heads=2, d_ff=64)
    decoder = TorchDecoder(model, weights, decay_after=8)
    pool, slots = TritonPool(decoder, rows), torch.arange(rows)
    pool.advance(slots, torch.ones(rows, 1, dtype=torch.int64))
    assert len(launches) == 10
    different = {
        (k.__name__, *(type(a) for a in args), *kw.values()): (k, args, kw)
        for k, args, kw in launches
    }
    for kernel, args, kwargs in different.values():
        if "PRECISION" in kwargs and weights == "bf16":
            kwargs["PRECISION"] = "tf32"  # as on a GPU
        assert compile_launch(kernel, args, kwargs, capability=capability).asm["cubin"]


def test_without_a_gpu_the_kernels_are_not_taken(tiny, plain_vocabulary):
    if INTERPRETED or torch.cuda.is_available():
        pytest.skip("they are")
    assert "run on a GPU, not on cpu" in triton_step.why_not(TorchDecoder(tiny(plain_vocabulary)))


@pytest.mark.parametrize("name", triton_step.MAPS)
def test_the_maps_of_the_kernels_are_known_by_name(name):
    assert name in FEATURE_MAPS


@pytest.mark.skipif(INTERPRETED, reason="it is this process")
def test_every_property_holds_in_the_interpreter():
    check_in_interpreter(__file__, "cpu")
