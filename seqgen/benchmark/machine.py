"""The machine of a measurement: processor, free memory, and versions of the packages."""

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

import torch

PACKAGES = ("seqgen", "torch", "pytorch-fast-transformers", "transformers", "triton", "numpy")
CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
CONTAINER_USE = Path("/sys/fs/cgroup/memory.current")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
# Environment variables that change how threads work.
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY")
UNKNOWN_BYTES = 4 * 2**30  # assumed to be free where the system does not say


def free_bytes(device: torch.device) -> int:
    """Return how much memory is free on a device, within the limit of a container if there is one.

    What a container's files occupy in the page cache counts as used there, although it could be
    freed: the result may be too small, never too large.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    free = UNKNOWN_BYTES
    for line in _lines(MEMORY_INFO):
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
    limit, used = _lines(CONTAINER_LIMIT), _lines(CONTAINER_USE)
    if limit and used and limit[0].isdigit():
        free = min(free, max(0, int(limit[0]) - int(used[0])))
    return free


@cache
def hardware() -> dict[str, object]:
    """Describe the processor, the cores that may be used, relevant instructions, and memory."""
    facts: dict[str, str] = {}
    for line in _lines(CPU_INFO):
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = facts.get("flags", "").split()
    total = next((line.split()[1] for line in _lines(MEMORY_INFO)), "0")
    # On other systems than Linux all cores may be used.
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1,
        "instructions": [name for name in FEATURES if name in flags],
        "memory_gib": round(int(total) / 2**20),
    }


@cache
def versions() -> dict[str, str]:
    """Return the version of Python and of each package that takes part."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
