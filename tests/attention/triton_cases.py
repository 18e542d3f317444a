"""What the tests of the Triton form draw, run and compare."""

import torch

from seqgen.attention.naive import position_loop

NAMES = ("out", "S", "Z", "dq", "dk", "dv", "dS", "dZ", "ddecay")


def draw(B, T, H, K, V, *, device, dtype=torch.float32, scale=1.0, seed=0):
    """Draw q, k, v and a state, and a weight for each of out, S and Z to make a loss of them."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    q, k, v = normal(B, T, H, K).exp(), normal(B, T, H, K).exp(), normal(B, T, H, V)
    state = (normal(B, H, K, V), normal(B, H, K).exp())
    weights = (normal(B, T, H, V).to(dtype), normal(B, H, K, V), normal(B, H, K))
    inputs = [*((x * scale).to(dtype) for x in (q, k, v)), *state]
    return [x.to(device) for x in inputs], [x.to(device) for x in weights]


def run(attend, inputs, weights, *, with_state=True, used=(0, 1, 2), decay=None, **options):
    """Give out, S, Z and the gradients of the inputs, for a loss of the `used` results."""
    inputs = [x.detach().requires_grad_() for x in (inputs if with_state else inputs[:3])]
    state = tuple(inputs[3:]) or None
    if decay is not None:
        options["decay"] = decay
        inputs += [decay] if decay.requires_grad else []
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
