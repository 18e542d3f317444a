"""The machine that measures: its processor, its memory, the versions of what runs on it."""

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

import torch

PACKAGES = ("seqgen", "torch", "pytorch-fast-transformers", "transformers", "triton", "numpy")
CPU_INFO, MEMORY_INFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY")
UNKNOWN_BYTES = 4 * 2**30  # taken to be free where the system does not say


def device_name(device: torch.device) -> str:
    """Name a device: "cpu", or the GPU as its driver calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def available_bytes(device: torch.device) -> int:
    """Say how much memory is to be had on a device."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    for line in _lines(MEMORY_INFO):
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return UNKNOWN_BYTES


@cache
def hardware() -> dict[str, object]:
    """Describe processor, cores that may be used, instructions that matter here, and memory."""
    facts: dict[str, str] = {}
    for line in _lines(CPU_INFO):
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = facts.get("flags", "").split()
    total = next((line.split()[1] for line in _lines(MEMORY_INFO)), "0")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": len(cores),
        "instructions": [name for name in FEATURES if name in flags],
        "memory_gib": round(int(total) / 2**20),
    }


def environment() -> dict[str, str]:
    """Name what is set in the environment that changes how threads work."""
    return {name: os.environ[name] for name in THREADS if name in os.environ}


@cache
def versions() -> dict[str, str]:
    """Name the version of Python and of each package that takes part."""
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
