"""The compiled operators: loaded on import, or a reason why they are not available.

They are registered with PyTorch by library.cpp. Where they were not built, plain torch
does the same. `launches` is for the kernels of Triton, which attention, sampling and decoding have.
"""

import os
from pathlib import Path

import torch

LIBRARY = "_library*.so"
CPUS = ("avx512_vnni", "avx512", "avx2", "baseline")  # values of SEQGEN_CPU
INTERFACE = 6  # as in library.cpp; a library that was built from other sources has another


def _load() -> str:
    wanted = os.environ.get("SEQGEN_CPU", "")
    if wanted and wanted not in CPUS:
        return f"SEQGEN_CPU={wanted} is unknown: must be one of {', '.join(CPUS)}"
    found = sorted(Path(__file__).parent.glob(LIBRARY))
    if not found:
        return "the C++ operators were not built (make install builds them where there is a g++)"
    try:
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        reason = str(error).splitlines()[0]
        return f"the C++ operators do not load and must be built again (make install): {reason}"
    if not hasattr(torch.ops.seqgen, "interface") or torch.ops.seqgen.interface() != INTERFACE:
        return (
            "the C++ operators were built from other sources and must be built again: make install"
        )
    return ""


_MISSING = _load()


def why_missing() -> str:
    """Return why the operators cannot be used; an empty string where they can."""
    return _MISSING


def instructions() -> str:
    """Which instructions the operators use here: avx512_vnni, avx512, avx2 or baseline."""
    return torch.ops.seqgen.instructions()


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices by instructions of its own."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
