"""The memory of a computation: at its peak, and kept for the backward pass."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import NoReturn

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile

Run = Callable[[], object]


def peak_bytes(run: Run, device: torch.device) -> int:
    """Run, and return the most bytes that its tensors had at once, beyond what was there before.

    It is exact: on a GPU the allocator's own peak, on a CPU the sum over all that its allocator
    gave and took back. Memory that libraries allocate without PyTorch is not counted.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()
    changes = sorted(
        ((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"),
        key=lambda change: change[0],
    )
    return max(accumulate(n_bytes for _, n_bytes in changes), default=0)


def kept_bytes(forward: Run, parameters: Iterable[Tensor]) -> int:
    """Count what a forward pass keeps for the backward pass, without keeping it.

    Storages are counted once; parameters, which are there anyway, are not.
    """
    seen: dict[int, StorageWeakRef] = {}
    there = {x.untyped_storage()._cdata for x in parameters}
    total = 0

    def count(x: Tensor) -> None:
        nonlocal total
        storage = x.untyped_storage()
        known = seen.get(storage._cdata)
        if storage._cdata not in there and (known is None or known.expired()):
            seen[storage._cdata] = StorageWeakRef(storage)
            total += storage.nbytes()

    def give_back(_: None) -> NoReturn:
        raise RuntimeError("what a forward pass keeps was only counted: there is no backward pass")

    with torch.autograd.graph.saved_tensors_hooks(count, give_back):
        forward()
    return total


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the profiler itself writes to standard error: that it runs, and what it missed."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123  (a device, not a file of ours)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
