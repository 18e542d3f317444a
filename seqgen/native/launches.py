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
    """Launch a kernel of `seqgen.native.chained`'s kind, as the next link of a chain of kernels.

    On a device that can, it begins while the one before it ends: `PDL` says so to the kernel.

    Args:
        kernel: with a constant `PDL`.
        grid: programs in each direction.
        args: of the kernel; the first is a tensor.
        options: constants of the kernel, and Triton's options.
    """
    if args[0].is_cuda and has_programmatic_launch(args[0].device):
        options = {**options, "PDL": True, "launch_pdl": True}
    else:
        options = {**options, "PDL": False}
    if getattr(_mode, "compiling", False):
        if not threading.main_thread().is_alive():
            raise RuntimeError("the process ends")  # and would wait for what is not needed
        kernel.warmup(*args, grid=grid, **options)
    else:
        kernel[grid](*args, **options)


@cache
def has_programmatic_launch(device: torch.device) -> bool:
    """Whether a kernel on this GPU may begin before the one ahead of it has ended."""
    return torch.cuda.get_device_capability(device) >= (9, 0)
