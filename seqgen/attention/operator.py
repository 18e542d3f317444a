"""One operator for causal linear attention, in several implementations with the same result.

Legend: B rows, T positions, H heads, K key width, V value width.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from seqgen.attention.chunked import chunked
from seqgen.attention.feature_maps import FeatureMap
from seqgen.attention.naive import AttentionState, masked_product
from seqgen.attention.native import DTYPES as NATIVE_DTYPES
from seqgen.attention.native import FUSED_MAPS, native
from seqgen.native import instructions, why_missing

KERNELS = ("auto", "naive", "chunked", "native", "triton")
HAS_TRITON = find_spec("triton") is not None
TRITON_MAPS = ("elu+1", "relu")  # the feature maps that Triton's kernels compute themselves


def causal_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    initial_state: AttentionState | None = None,
    decay: Tensor | None = None,
    eps: float = 1e-6,
    feature_map: FeatureMap | None = None,
    kernel: str = "auto",
) -> tuple[Tensor, AttentionState]:
    """Attend to all earlier positions and the present one (Katharopoulos et al. 2020, eq. 9 to 12).

    Args:
        q, k: queries and keys [B, T, H, K] in one floating dtype, of any strides.
        v: values [B, T, H, V], likewise.
        lengths: valid positions of each row [B], 0 included; later keys add nothing. None: all.
        boundaries: booleans [B, T], true where a segment begins: sums are reset to zero, so that
            the segments of a row do not see each other. None: nowhere.
        initial_state: sums (S [B, H, K, V], Z [B, H, K]) of what came before, K being the width of
            features; None: zeros.
        decay: γ of each head [H], in (0, 1], by which its sums are multiplied before each valid
            position (`attention.head_decay`). None: 1.
        eps: added to the normaliser.
        feature_map: applied to q and k first; None: they are features already, none negative.
        kernel: one of `KERNELS`; auto picks the fastest one available for the device and dtype.

    Returns:
        out [B, T, H, V] in the dtype of `v`, and the sums after the last position. Sums are kept in
        float32, in float64 for float64 inputs. Differentiable in q, k, v, the initial state and the
        decay.

    Raises:
        ValueError: shapes or dtypes do not match, or the kernel is unknown or not available.
    """
    _check(q, k, v, lengths, boundaries, initial_state, decay, feature_map)
    chosen = choose_kernel(kernel, q.device, v.dtype)
    options: dict[str, Any] = {
        "lengths": None if lengths is None else lengths.long(),
        "boundaries": None if boundaries is None else boundaries.bool(),
        "eps": eps,
    }
    work = torch.promote_types(v.dtype, torch.float32)
    if initial_state is not None:
        options["initial_state"] = tuple(x.to(work) for x in initial_state)
    if decay is not None:
        options["decay"] = decay.to(work)
    with torch.autocast(q.device.type, enabled=False):  # products of sums stay in float32
        dtype = v.dtype
        name = None if feature_map is None else feature_map.name
        if (chosen == "native" and name in FUSED_MAPS) or (
            chosen == "triton" and name in TRITON_MAPS
        ):
            options["feature_map"] = name
        elif feature_map is not None:
            q, k, v = feature_map(q.to(work)), feature_map(k.to(work)), v.to(work)
        if not _supports(chosen, dtype):
            q, k, v = q.to(work), k.to(work), v.to(work)
        out, state = _IMPLEMENTATIONS[chosen](q, k, v, **options)
    return out.to(dtype), state


def _supports(kernel: str, dtype: torch.dtype) -> bool:
    """Whether an implementation accepts inputs of a dtype and keeps its sums in float32."""
    return kernel in ("chunked", "triton") or (kernel == "native" and dtype in NATIVE_DTYPES)


def choose_kernel(kernel: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Resolve `auto`, and refuse a kernel that cannot run.

    Raises:
        ValueError: unknown, or not available, with the reason.
    """
    if kernel not in KERNELS:
        raise ValueError(f"unknown attention kernel {kernel!r}; known are {', '.join(KERNELS)}")
    reasons = {
        "native": _why_not_native(device.type),
        "triton": _why_not_triton(device.type, dtype),
    }
    if kernel == "auto":
        return next((name for name, reason in reasons.items() if not reason), "chunked")
    if reasons.get(kernel):
        raise ValueError(f"attention kernel {kernel!r} cannot be used: {reasons[kernel]}")
    return kernel


def describe_kernel(kernel: str, device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """Say in a few words what `kernel` stands for on a device, and why it is not a faster one."""
    chosen = choose_kernel(kernel, device, dtype)
    if chosen == "native":
        return f"native (C++, {instructions()})"
    if chosen == "triton":
        return "triton"
    if kernel != "auto":
        return chosen
    on_cpu = device.type == "cpu"
    reason = _why_not_native("cpu") if on_cpu else _why_not_triton(device.type, dtype)
    return f"{chosen} (plain torch: {reason})"


def _why_not_native(device: str) -> str:
    return why_missing() if device == "cpu" else f"the C++ operators run on a CPU, not on {device}"


def _why_not_triton(device: str, dtype: torch.dtype) -> str:
    if device != "cuda":
        return f"Triton's kernels run on a GPU, not on {device}"
    if dtype == torch.float64:
        return "Triton's kernels do not support float64"
    return "" if HAS_TRITON else "triton is not installed"


def _triton(*inputs: Tensor, **options: Any) -> tuple[Tensor, AttentionState]:
    from seqgen.attention.triton_form import causal_linear  # may not be installed without a GPU

    return causal_linear(*inputs, **options)


_IMPLEMENTATIONS: dict[str, Callable[..., tuple[Tensor, AttentionState]]] = {
    "naive": masked_product,
    "chunked": chunked,
    "native": native,
    "triton": _triton,
}


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor | None,
    boundaries: Tensor | None,
    state: AttentionState | None,
    decay: Tensor | None,
    feature_map: FeatureMap | None,
) -> None:
    """Check shapes and dtypes; implementations rely on it."""
    B, T, H, K = q.shape
    V = v.shape[-1]
    if not K or not V or not q.is_floating_point() or not q.dtype == k.dtype == v.dtype:
        raise ValueError(
            f"q, k and v should have one floating dtype and heads of some width; they have "
            f"{q.dtype}, {k.dtype} and {v.dtype}, and widths {K} and {V}"
        )
    wanted: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "k": (k, (B, T, H, K)),
        "v": (v, (B, T, H, V)),
    }
    if lengths is not None:
        wanted["lengths"] = (lengths, (B,))
    if boundaries is not None:
        wanted["boundaries"] = (boundaries, (B, T))
    if decay is not None:
        wanted["decay"] = (decay, (H,))
    if state is not None:
        n = K if feature_map is None else feature_map.width(K)
        wanted |= {"initial S": (state[0], (B, H, n, V)), "initial Z": (state[1], (B, H, n))}
    for name, (x, shape) in wanted.items():
        if x.shape != shape:
            raise ValueError(f"{name} has shape {list(x.shape)}, should have {list(shape)}")
