"""A step by Triton's kernels is the torch decoder's step, on a GPU and by Triton's interpreter.

A test that takes `device` states a property. It runs here where there is a GPU; without one it is
run by the interpreter, in a process of its own, because TRITON_INTERPRET acts on a whole process.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="Triton is not installed")

from making import random_tokens
from triton_launches import (
    INTERPRETED,
    check_in_interpreter,
    compile_launch,
    record_launches,
    resources,
)

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.decoding import cuda, fused, linear, triton_step
from seqgen.decoding.fused import TorchDecoder, TorchPool
from seqgen.decoding.linear import Plain
from seqgen.decoding.matrices import Norm
from seqgen.decoding.triton_step import TritonMixedPool, TritonPool, multiply

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
    "two rows, sizes that fill no block": (2, 20, 37, "gelu"),
    "more rows": (3, 20, 37, "gelu"),
    "several passes over inputs": (9, 700, 16, "relu"),
    "several blocks of rows": (70, 33, 17, "gelu"),
}


KERNELS = ("embed", "attend", "multiply_few", "multiply_some", "add_and_norm", "activate_all")


def plain(M, K, device):
    return Plain(torch.randn(M, K, device=device), torch.randn(M, device=device))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_matrix_with_all_around_it_is_what_torch_makes_of_it(case, device):
    B, K, M, activation = case
    x, residual = torch.randn(B, K, device=device) + 3, torch.randn(B, M, device=device)
    matrix = plain(M, K, device)
    norm, last = (Norm(torch.randn(K, device=device), torch.randn(K, device=device)) for _ in "ab")
    act = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}[activation]
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-5)
    same, y = multiply(x, matrix, activation=activation)
    assert same is x
    close(y, act(matrix(x)))
    normed, y = multiply(x, matrix, norm=norm, activation=activation, residual=residual)
    expected = fused.normalize(x, norm)
    close(normed, expected)
    close(y, act(matrix(expected)) + residual)
    close(multiply(x, matrix, norm=norm, last=last)[1], matrix(fused.normalize(expected, last)))


CHOICES = [
    ({"n_heads": 2, "d_ff": 32, "positions": "bars", "decay": "learned"}, 2),
    ({"feature_map": "relu", "activation": "relu", "d_model": 20, "d_ff": 36}, None),
    (
        {
            **{"positions": "learned", "max_positions": 2, "conv_width": 1, "n_layers": 1},
            **{"decay": "fixed", "heads_without_decay": 1},
        },
        None,
    ),
    # Its values are in two blocks.
    ({"n_heads": 1, "d_model": 136, "n_layers": 1, "d_ff": 32, "conv_width": 0}, 2),
    ({"positions": "axes", "d_model": 16, "n_layers": 1}, None),
]


@pytest.mark.parametrize(("choices", "decay_after"), CHOICES, ids=str)
def test_steps_equal_the_torch_decoders(tiny, toy_vocabulary, choices, decay_after, device):
    model = tiny(replace(toy_vocabulary, axes=(1, 2)), **choices).to(device)
    for parameter in model.parameters():
        if parameter.dim() == 1:  # so that no norm can be left out or taken for another
            torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    decoder = TorchDecoder(model, decay_after=decay_after)
    pools = [kind(decoder, 4) for kind in (TorchPool, TritonPool, TritonMixedPool)]
    pools[0].host_may_read = False  # so that all take the last learned position beyond the end
    tokens = random_tokens(toy_vocabulary, 3, 3).to(device)
    tokens[0, 1, 0] = 5  # an anchor
    for pool in pools:
        pool.write(torch.arange(4, device=device), decoder.initial_state(4))
    for t, slots in enumerate(([0], [3, 0, 2], [0, 1])):
        rows, slots = tokens[: len(slots), t], torch.tensor(slots, device=device)
        expected, *others = (torch.cat(pool.advance(slots, rows), 1) for pool in pools)
        for logits in others:
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    expected, *others = (pool.read(torch.arange(4, device=device)) for pool in pools)
    for state in others:
        torch.testing.assert_close(state.S, expected.S, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(state.Z, expected.Z, atol=1e-4, rtol=1e-4)
        for exact in ("recent", "position", "origin", "held"):
            assert torch.equal(getattr(state, exact), getattr(expected, exact))


def test_bf16_weights_are_those_of_the_torch_decoder(tiny, plain_vocabulary, device):
    decoder = TorchDecoder(tiny(plain_vocabulary, n_layers=1).to(device), "bf16")
    pools = [kind(decoder, 3) for kind in (TorchPool, TritonPool, TritonMixedPool)]
    for pool in pools:
        pool.write(torch.arange(3, device=device), decoder.initial_state(3))
    for tokens in random_tokens(plain_vocabulary, 5, 1).to(device).split([3, 2]):
        slots = torch.arange(len(tokens), device=device)
        expected, *others = (pool.advance(slots, tokens[:, 0])[0] for pool in pools)
        for logits in others:
            torch.testing.assert_close(
                logits, expected, atol=0.02 * float(expected.abs().max()), rtol=0
            )


def test_a_row_is_the_same_to_the_last_bit_beside_others(device):
    x, matrix = torch.randn(20, 40, device=device), plain(24, 40, device)
    for few, many in ((slice(1, 2), slice(0, 2)), (slice(1, 10), slice(0, 16))):
        some, all_of_them = (multiply(x[rows], matrix)[1] for rows in (few, many))
        assert torch.equal(some[0], all_of_them[1])


def test_the_kernels_are_taken_where_they_can_be(tiny, plain_vocabulary, monkeypatch, device):
    decoder = TorchDecoder(tiny(plain_vocabulary).to(device))
    assert list(cuda.step_kinds(decoder)) == ["torch", "triton", "mixed"]
    decoder = TorchDecoder(tiny(plain_vocabulary, feature_map="dpfp").to(device))
    assert list(cuda.step_kinds(decoder)) == ["torch"]


@pytest.mark.skipif(INTERPRETED, reason="nothing is launched")
@pytest.mark.parametrize(("kind", "expected"), [(TritonPool, 63), (TritonMixedPool, 49)])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_step_of_12_layers_takes_few_launches(
    tiny, toy_vocabulary, rows, kind, expected, monkeypatch
):
    launches = []
    monkeypatch.setattr(triton_step, "launch", lambda kernel, *_, **__: launches.append(kernel))
    decoder = TorchDecoder(tiny(toy_vocabulary, n_layers=12, conv_width=3))
    kind(decoder, rows).advance(torch.arange(rows), torch.ones(rows, 3, dtype=torch.int64))
    assert len(launches) == expected


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize(("capability", "weights", "rows"), [(80, "float32", 3), (90, "bf16", 1)])
def test_every_launch_compiles_outside_the_interpreter(
    tiny, plain_vocabulary, capability, weights, rows, tmp_path, monkeypatch
):
    launches = record_launches(monkeypatch, triton_step.kernels, KERNELS)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    model = tiny(plain_vocabulary, d_model=64, n_heads=2, d_ff=64)
    decoder = TorchDecoder(model, weights, decay_after=8)
    for kind in (TritonPool, TritonMixedPool):
        kind(decoder, rows).advance(torch.arange(rows), torch.ones(rows, 1, dtype=torch.int64))
    different = {
        (k.__name__, *(type(a) for a in args), *kw.values()): (k, args, kw)
        for k, args, kw in launches
    }
    for kernel, args, kwargs in different.values():
        if "PRECISION" in kwargs:  # as on such a GPU
            kwargs["PRECISION"] = "tf32" if weights == "bf16" else "tf32x3"
        if capability == 90:
            kwargs |= {"PDL": True, "launch_pdl": True}
        compiled = compile_launch(kernel, args, kwargs, capability=capability)
        registers, spilled = resources(compiled, tmp_path)
        assert 0 < registers <= 255
        assert not spilled
        assert ("griddepcontrol.wait" in compiled.asm["ptx"]) == (capability == 90)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize("name", ["embed", "attend"])
def test_no_thread_overwrites_what_another_one_has_yet_to_read(
    tiny, plain_vocabulary, name, tmp_path, monkeypatch
):
    launches = record_launches(monkeypatch, triton_step.kernels, KERNELS)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    decoder = TorchDecoder(tiny(plain_vocabulary, conv_width=0, positions="bars"))
    TritonPool(decoder, 1).advance(torch.arange(1), torch.ones(1, 1, dtype=torch.int64))
    kernel, args, kwargs = next(x for x in launches if x[0].__name__ == name)
    before, _, _ = compile_launch(kernel, args, kwargs).asm["ptx"].partition("st.global")
    assert "bar.sync" in before


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
def test_recent_embeddings_move_on_only_when_all_threads_have_read_them(
    tiny, plain_vocabulary, tmp_path, monkeypatch
):
    launches = record_launches(monkeypatch, triton_step.kernels, KERNELS)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    decoder = TorchDecoder(tiny(plain_vocabulary, conv_width=4, positions="none"))
    TritonPool(decoder, 1).advance(torch.arange(1), torch.ones(1, 1, dtype=torch.int64))
    ptx = compile_launch(*launches[0]).asm["ptx"]
    # One for each of the 3, one for each of the groups of marks, one for the position.
    assert ptx.count("bar.sync") == 3 + 2 + 1


def test_without_a_gpu_the_kernels_are_not_taken(tiny, plain_vocabulary):
    if INTERPRETED or torch.cuda.is_available():
        pytest.skip("they are")
    assert "run on a GPU, not on cpu" in triton_step.why_not(TorchDecoder(tiny(plain_vocabulary)))


@pytest.mark.parametrize("name", triton_step.MAPS)
def test_the_maps_of_the_kernels_are_known_by_name(name):
    assert name in FEATURE_MAPS


@pytest.mark.skipif(INTERPRETED, reason="it is this process")
@pytest.mark.slow
def test_every_property_holds_in_the_interpreter():
    check_in_interpreter(__file__, "cpu")
