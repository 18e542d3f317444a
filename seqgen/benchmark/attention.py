"""One layer's attention in training: forward and backward, feature map and normaliser included.

Legend: B rows, T positions, H heads, K key width, V value width, D model width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.attention.chunked import chunked
from seqgen.attention.naive import masked_product
from seqgen.benchmark.equality import check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import LIBRARY_TYPE, Subject, attention_inputs
from seqgen.benchmark.timing import LIBRARY, Clock, Variant
from seqgen.model.stack import build_parallel, inner_attentions, stack_arguments

VARIANTS = (LIBRARY, "chunked", "full-sdpa")
NOT_BUILT = "not here: the library's kernel is not built for this device"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k [B, T, H, K], v [B, T, H, V] -> as v


def check(subject: Subject, *, batch: int, position: int) -> None:
    """Compare outputs and gradients of the linear variants with the masked product."""
    inputs, ways, plain = _setting(subject, batch, position)
    out_gradient = torch.randn_like(inputs[2])
    wanted = _forward_backward(plain, inputs, out_gradient)
    for name in (LIBRARY, "chunked") if subject.has_library_kernel else ("chunked",):
        got = _forward_backward(ways[name], inputs, out_gradient)
        check_equal(f"{name} attention", got, "the masked product", wanted)


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time attention over `position` positions."""
    inputs, ways, _ = _setting(subject, batch, position)
    out_gradient = torch.randn_like(inputs[2])  # contiguous: the library's backward needs it
    missing = () if subject.has_library_kernel else (LIBRARY,)
    variants = [
        Variant(name, None, note=NOT_BUILT)
        if name in missing
        else Variant(name, lambda _, way=way: _forward_backward(way, inputs, out_gradient))
        for name, way in ways.items()
    ]
    return clock.records(
        variants, measure="attention", batch=batch, position=position, tokens=batch * position
    )


def _setting(
    subject: Subject, batch: int, length: int
) -> tuple[tuple[Tensor, ...], dict[str, Attend], Attend]:
    """Return q, k, v as a layer makes them of random input, the variants, and the plain version."""
    one_layer = stack_arguments(subject.config) | {"n_layers": 1}
    layer = build_parallel(one_layer).to(subject.device).eval()
    x = torch.randn(batch, length, subject.config.d_model, device=subject.device)
    [(q, k, v, *masks)] = attention_inputs(layer, x)
    inputs = tuple(tensor.detach().contiguous().requires_grad_() for tensor in (q, k, v))
    library = build_parallel(one_layer | {"attention_type": LIBRARY_TYPE}).to(subject.device)
    [attention] = inner_attentions(library)
    lengths = masks[-1].lengths

    def mapped(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return attention.feature_map.forward_queries(q), attention.feature_map.forward_keys(k)

    ways = {
        LIBRARY: lambda q, k, v: attention(q, k, v, *masks),
        "chunked": lambda q, k, v: chunked(*mapped(q, k), v, lengths=lengths)[0],
        "full-sdpa": _sdpa,
    }
    return inputs, ways, lambda q, k, v: masked_product(*mapped(q, k), v)[0]


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*heads_first, is_causal=True).transpose(1, 2)


def _forward_backward(
    way: Attend, inputs: tuple[Tensor, ...], out_gradient: Tensor
) -> tuple[Tensor, ...]:
    """Return the output and the gradients of q, k and v."""
    out = way(*inputs)
    return (out.detach(), *torch.autograd.grad(out, inputs, out_gradient))
