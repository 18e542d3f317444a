"""Launches of Triton's kernels, and compiling them ahead of their first launch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

_mode = threading.local()


@contextmanager
def compiling_only() -> Iterator[None]:
    """In this thread, let `launch` compile kernels and not run them: nothing is computed."""
    _mode.compiling = True
    try:
        yield
    finally:
        _mode.compiling = False


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launch a kernel on its tensors' device.

    The kernel has a constant `PDL`: whether it may begin before the one ahead of it has ended, so
    that it has to wait where it needs that one's results.

    Args:
        kernel: of Triton.
        grid: programs in each direction.
        args: of the kernel; the first is a tensor.
        options: constants of the kernel, and Triton's options.

    Raises:
        RuntimeError: it was only to be compiled, and the process ends.
    """
    device = args[0].device
    # Fusion is the default, but Triton 3.9 warns where it is not given.
    options |= {"enable_fp_fusion": True, "PDL": False}
    if capability(device) >= (9, 0):  # the kernels of such a GPU may overlap
        options |= {"PDL": True, "launch_pdl": True}
    with torch.cuda.device_of(args[0]):
        if getattr(_mode, "compiling", False):
            if not threading.main_thread().is_alive():
                raise RuntimeError("the process ends, and kernels are not needed any more")
            kernel.warmup(*args, grid=grid, **options)
        else:
            kernel[grid](*args, **options)


@cache
def capability(device: torch.device) -> tuple[int, int]:
    """Return the compute capability of an NVIDIA GPU, (0, 0) for anything else."""
    if device.type != "cuda" or torch.version.hip is not None:
        return (0, 0)
    return torch.cuda.get_device_capability(device)
