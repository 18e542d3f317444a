"""The compiled operator as PyTorch sees it: registered whole, and the same on every processor."""

import os
import subprocess
import sys

import pytest
import torch

from seqgen.attention.native import native
from seqgen.native import instructions, why_missing

pytestmark = pytest.mark.skipif(bool(why_missing()), reason=why_missing() or "built")


def arguments(**options):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2, 40, 2, 8, generator=generator).abs().requires_grad_() for _ in range(3)
    )
    state = torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8)
    given = (options.get(name) for name in ("lengths", "boundaries"))
    return q, k, v, *given, *state, options.get("decay"), 1e-6, 0


def test_the_operator_is_registered_as_torch_wants_it():
    """Schema, fake shapes, gradients, and tracing, by PyTorch's own checks."""
    native(*arguments()[:3])
    decay = torch.tensor([0.5, 0.99], dtype=torch.float64)
    every = ["test_schema", "test_autograd_registration", "test_faketensor"]
    traced = [*every, "test_aot_dispatch_dynamic"]  # which takes longest
    for given, checks in ((None, traced), (decay, every), (decay.clone().requires_grad_(), traced)):
        torch.library.opcheck(
            torch.ops.seqgen.causal_linear.default,
            arguments(
                lengths=torch.tensor([40, 7]), boundaries=torch.rand(2, 40) < 0.1, decay=given
            ),
            test_utils=checks,
        )


def test_compile_and_export_pass_through_without_a_break():
    class Layer(torch.nn.Module):
        def forward(self, q, k, v):
            out, (S, Z) = native(q * 2, k, v, feature_map="elu+1")
            return out + 1, S, Z

    inputs = tuple(x.detach() for x in arguments()[:3])
    wanted = Layer()(*inputs)
    compiled = torch.compile(Layer(), fullgraph=True, backend="aot_eager")(*inputs)
    exported = torch.export.export(Layer(), inputs).module()(*inputs)
    for results in (compiled, exported):
        for a, b in zip(results, wanted, strict=True):
            assert torch.equal(a, b)


def test_wrong_dtypes_and_shapes_are_errors_not_crashes():
    q, k, v, *_ = arguments()
    for bad in ((q.half(), k, v), (q, k.double(), v), (q, k[:, :5], v), (q[0], k, v)):
        with pytest.raises(RuntimeError, match="causal_linear"):
            native(*bad)
    with pytest.raises(RuntimeError, match="lengths has another dtype"):
        native(q, k, v, lengths=torch.tensor([1, 2], dtype=torch.int32))


def test_the_same_on_one_thread_and_on_many():
    q, k, v = (x.detach() for x in arguments()[:3])
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(native(q, k, v)[0])
    torch.set_num_threads(1)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.slow
def test_lesser_instructions_give_the_same_within_rounding(tmp_path):
    """Each choice in a process of its own: it is made once."""
    program = (
        "import sys, torch; from seqgen.attention.native import native\n"
        "from seqgen.native import instructions, why_missing\n"
        "assert not why_missing()\n"
        "g = torch.Generator().manual_seed(0)\n"
        "q, k, v = (torch.randn(1, 70, 2, 20, generator=g).requires_grad_() for _ in range(3))\n"
        "decay = torch.tensor([0.5, 0.99], requires_grad=True)\n"
        "out, (S, Z) = native(q, k, v, decay=decay, feature_map='elu+1')\n"
        "(out.sum() * 3 + S.square().sum()).backward()\n"
        "results = [out.detach(), q.grad, k.grad, v.grad, decay.grad]\n"
        "torch.save([instructions(), *results], sys.argv[1])\n"
    )

    def run(path, wanted):
        environment = {**os.environ, "SEQGEN_CPU": wanted, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", program, path], env=environment, check=True)
        return torch.load(path, weights_only=True)

    best, *wanted = run(tmp_path / "best.pt", "")
    plain, *got = run(tmp_path / "plain.pt", "baseline")
    assert best == instructions()
    assert plain == "baseline"
    for a, b in zip(got, wanted, strict=True):
        assert (a - b).abs().max() < 2e-5 * b.abs().max()
