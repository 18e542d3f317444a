"""One layer's attention in training: forward and backward, feature map and normaliser included.

Legend: B rows, T positions, H heads, K key width, V value width, D model width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.attention.feature_maps import FEATURE_MAPS
from seqgen.attention.operator import causal_linear_attention, choose_kernel
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import LIBRARY_TYPE, Subject, attention_inputs
from seqgen.benchmark.timing import LIBRARY, Clock, Variant
from seqgen.model.stack import build_parallel, inner_attentions, stack_arguments
from seqgen.native import has_bfloat16

KERNELS = ("native", "chunked", "triton")
BFLOAT16 = "-bf16"
VARIANTS = (
    LIBRARY,
    *(kernel + dtype for kernel in KERNELS for dtype in ("", BFLOAT16)),
    "full-sdpa",
    "full-sdpa" + BFLOAT16,
)
NOT_BUILT = "not here: the library's kernel is not built for this device"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k [B, T, H, K], v [B, T, H, V] -> as v


@dataclass(frozen=True)
class Setting:
    """What one layer attends to, and the ways to do it; where one cannot run, the reason."""

    inputs: tuple[Tensor, ...]  # q, k, v [B, T, H, ·] as a layer makes them of random input
    ways: dict[str, Attend]
    notes: dict[str, str]

    def inputs_of(self, variant: str) -> tuple[Tensor, ...]:
        """Queries, keys and values in the dtype of a variant."""
        dtype = torch.bfloat16 if variant.endswith(BFLOAT16) else torch.float32
        return tuple(x.detach().to(dtype).requires_grad_() for x in self.inputs)


def check(subject: Subject, clock: Clock, *, batch: int, position: int) -> None:
    """Compare outputs and gradients with the masked products, linear and softmax, in float64."""
    setting = _setting(subject, batch, position)
    out_gradient = torch.randn_like(setting.inputs[2])
    exact = tuple(x.detach().double().requires_grad_() for x in setting.inputs)
    linear = _forward_backward(_ours(subject, "naive"), exact, out_gradient.double())
    softmax = _forward_backward(_masked_softmax, exact, out_gradient.double())
    for name, way in setting.ways.items():
        if setting.notes.get(name):
            continue
        wanted = softmax if name.startswith("full-sdpa") else linear
        inputs = setting.inputs_of(name)
        got = _forward_backward(way, inputs, out_gradient.to(inputs[0].dtype))
        tolerance = BFLOAT16_TOLERANCE if name.endswith(BFLOAT16) else None
        check_equal(f"{name} attention", got, "the masked product", wanted, tolerance=tolerance)


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time attention over `position` positions."""
    setting = _setting(subject, batch, position)
    variants = []
    for name in VARIANTS:
        inputs = setting.inputs_of(name)
        out_gradient = torch.randn_like(inputs[2])  # contiguous: the library's backward needs it
        note = setting.notes.get(name, "")
        if name == "full-sdpa" + BFLOAT16 and _is_emulated(subject) and not clock.patient:
            note = "skipped: this CPU has no bfloat16 instructions, and this is a quick run"
        way = setting.ways[name]
        run = lambda _, way=way, x=inputs, g=out_gradient: _forward_backward(way, x, g)  # noqa: E731
        dtype = str(inputs[0].dtype).removeprefix("torch.")
        variants.append(Variant(name, None if note else run, note=note, dtype=dtype))
    return clock.records(
        variants, measure="attention", batch=batch, position=position, tokens=batch * position
    )


def _setting(subject: Subject, batch: int, length: int) -> Setting:
    one_layer = stack_arguments(subject.config) | {"n_layers": 1}
    layer = build_parallel(one_layer).to(subject.device).eval()
    x = torch.randn(batch, length, subject.config.d_model, device=subject.device)
    [(q, k, v, *masks)] = attention_inputs(layer, x)
    library = build_parallel(one_layer | {"attention_type": LIBRARY_TYPE}).to(subject.device)
    [attention] = inner_attentions(library)
    ways: dict[str, Attend] = {LIBRARY: lambda q, k, v: attention(q, k, v, *masks)}
    notes = {} if subject.has_library_kernel else {LIBRARY: NOT_BUILT}
    for kernel in KERNELS:
        for name in (kernel, kernel + BFLOAT16):
            ways[name] = _ours(subject, kernel)
            notes[name] = _why_not(kernel, subject.device)
    ways |= dict.fromkeys(("full-sdpa", "full-sdpa" + BFLOAT16), _sdpa)
    return Setting((q, k, v), ways, notes)


def _ours(subject: Subject, kernel: str) -> Attend:
    feature_map = FEATURE_MAPS[subject.config.feature_map]
    return lambda q, k, v: causal_linear_attention(q, k, v, feature_map=feature_map, kernel=kernel)[
        0
    ]


def _why_not(kernel: str, device: torch.device) -> str:
    try:
        choose_kernel(kernel, device)
    except ValueError as error:
        return f"not here: {str(error).rpartition(': ')[2]}"
    return ""


def _is_emulated(subject: Subject) -> bool:
    return subject.device.type == "cpu" and not has_bfloat16()


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*heads_first, is_causal=True).transpose(1, 2)


def _masked_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Vaswani et al. 2017, as the formula is written."""
    scores = torch.einsum("bthk,bshk->bhts", q, k) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return torch.einsum("bhts,bshv->bthv", weights, v)


def _forward_backward(
    way: Attend, inputs: tuple[Tensor, ...], out_gradient: Tensor
) -> tuple[Tensor, ...]:
    """Return the output and the gradients of q, k and v."""
    out = way(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, out_gradient))
