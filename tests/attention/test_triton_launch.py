"""What the Triton form launches compiles, and what it cannot take is refused or goes elsewhere."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

import triton
from triton_cases import draw, run
from triton_launches import INTERPRETED, compile_launch, record_launches

from seqgen.attention import operator, triton_form
from seqgen.attention.naive import position_loop
from seqgen.attention.triton_form import causal_linear

FORWARD = ["sum_chunks", "scan_chunks", "attend"]
BACKWARD = ["query_gradients", "scan_chunks", "key_value_gradients"]


@pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
@pytest.mark.parametrize(
    ("dtype", "capability", "resumed", "with_boundaries"),
    [(torch.float32, 80, False, False), (torch.bfloat16, 90, True, True)],
    ids=["float32, one segment", "bfloat16, boundaries"],
)
@pytest.mark.slow
def test_every_launch_compiles_outside_the_interpreter(
    with_boundaries, dtype, capability, resumed, tmp_path, monkeypatch
):
    launches = record_launches(monkeypatch, triton_form.kernels, {*FORWARD, *BACKWARD})
    monkeypatch.setattr(triton_form, "capability", lambda _: divmod(capability, 10))
    monkeypatch.setattr(triton_form, "_options", triton_form._options.__wrapped__)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)  # so that a CPU is let in
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    data = draw(1, 40, 2, 16, 16, device="cpu", dtype=dtype)
    lengths = torch.tensor([30]) if resumed else None
    boundaries = torch.zeros(1, 40, dtype=torch.bool) if with_boundaries else None
    decay = torch.ones(2, requires_grad=True) if resumed else None
    rows = {"lengths": lengths, "boundaries": boundaries, "decay": decay}
    run(causal_linear, *data, with_state=resumed, **rows)
    assert [kernel.__name__ for kernel, _, _ in launches] == FORWARD + BACKWARD
    for kernel, args, kwargs in launches:
        segment = args[kernel.arg_names.index("segment")]
        assert (segment is not None) == with_boundaries
        assert compile_launch(kernel, args, kwargs, capability=capability).asm["cubin"]


def test_inputs_of_another_dtype_are_refused():
    x = torch.ones(1, 6, 2, 4)
    with pytest.raises(ValueError, match=r"v is torch\.float64"):
        causal_linear(x, x, x.double())


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes any device")
def test_inputs_on_a_cpu_are_refused_without_the_interpreter():
    x = torch.ones(1, 6, 2, 4)
    with pytest.raises(ValueError, match="needs a CUDA device; the inputs are on cpu"):
        causal_linear(x, x, x)


def test_auto_takes_triton_on_a_gpu_but_not_for_float64():
    cuda = torch.device("cuda")
    assert operator.choose_kernel("auto", cuda) == "triton"
    assert operator.choose_kernel("auto", cuda, torch.bfloat16) == "triton"
    assert operator.choose_kernel("auto", cuda, torch.float64) == "chunked"
    with pytest.raises(ValueError, match="do not support float64"):
        operator.choose_kernel("triton", cuda, torch.float64)


def test_the_operator_asks_for_the_dtype_of_its_inputs(monkeypatch):
    why_not = operator._why_not_triton
    monkeypatch.setattr(operator, "_why_not_triton", lambda _, *dtype: why_not("cuda", *dtype))
    monkeypatch.setattr(operator, "_why_not_native", lambda _: "this CPU stands for a GPU")
    (q, k, v, *_), _ = draw(1, 40, 1, 5, 4, device="cpu", dtype=torch.float64)
    got, _ = operator.causal_linear_attention(q, k, v)
    assert (got - position_loop(q, k, v)[0]).abs().max() < 1e-10
