"""Records as a run would make them, of numbers that a test chooses."""

from dataclasses import replace

import numpy as np

from seqgen.benchmark.records import BenchmarkSetting, Record

SETTING = BenchmarkSetting(
    device="cpu",
    hardware={"processor": "A9", "cores": 2, "instructions": ["avx2"], "memory_gib": 8},
    versions={"python": "3.11", "torch": "2.13.0"},
    sizes={
        "n_layers": 2, "n_heads": 2, "d_model": 16, "d_ff": 64, "parameters": 1_000_000,
        "weights": "random weights",
    },
    command="python cli.py benchmark --quick",
)  # fmt: skip


def record(variant, position, seconds, *, measure="decode", batch=1, **values):
    """One number without samples; `seconds` may be None."""
    defaults = {"dtype": "float32", "threads": 2, "median_seconds": seconds}
    place = {"measure": measure, "variant": variant, "batch": batch, "position": position}
    return Record(**place, **defaults | values)


def sampled(variant, position, seconds, *, library=None, n=20, spread=0.02, seed=0, **values):
    """One number with samples around it, measured somewhere; `library` took so many seconds."""
    random = np.random.default_rng([seed, position, len(variant)])
    samples = seconds * np.exp(spread * random.standard_normal(n))
    median = float(np.median(samples))
    defaults = {
        "p95_seconds": float(np.percentile(samples, 95)),
        "tokens_per_second": values.get("batch", 1) / median,
        "ratio_to_library": None if library is None else library / median,
        "repeats": n,
        "samples": tuple(samples),
        "setting": SETTING,
    }
    return record(variant, position, median, **defaults | values)


def run(*, torch=0.010, cached=0.020, library=0.020, seed=0, positions=(64, 256), **values):
    """A run of three variants, by what a step of each takes."""
    found = []
    for position in positions:
        base = sampled("library", position, library, seed=seed, **values)
        found.append(replace(base, ratio_to_library=1.0))
        for name, seconds in (("torch", torch), ("softmax-preallocated", cached)):
            library_seconds = base.median_seconds
            made = sampled(name, position, seconds, library=library_seconds, seed=seed, **values)
            found.append(made)
    return found
