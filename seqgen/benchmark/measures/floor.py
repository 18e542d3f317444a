"""What the machine can do at most: how fast it reads memory, and multiplies matrices.

Working sets are as large as the model's matrices in each format, and one is beyond all caches. They
hold ones: pages of zeros that were never written would all be the same page. Reading is taking the
sum, the largest value, or the product with itself, whichever is fastest; all are plain PyTorch on
all its threads, and limited by memory. A call reads a small working set several times over, so that
starting it counts for nothing; seconds are those of one pass, and a set that fits into a cache is
read from there, as weights of that size are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from seqgen.benchmark.floor import matrix_bytes
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock, Effort, Variant, attempt
from seqgen.native import has_bfloat16

READS = {"read-int8": "int8", "read-bf16": "bf16", "read-float32": "float32", "read-large": ""}
MATRICES = {"matrix-float32": torch.float32, "matrix-bf16": torch.bfloat16}
VARIANTS = (*READS, *MATRICES)
LARGE_BYTES = 2**30
WIDTHS = {"cpu": 2048, "cuda": 8192}  # of the matrices that are multiplied
CALL_BYTES = {"cpu": 2**26, "cuda": 2**30}  # to be read in one call, at least
BRIEF = Effort(seconds=0.1, max_repeats=10, longest_call=2.5)


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Measure reading and multiplying; `batch` and `position` only say where the records stand."""
    place = {"batch": batch, "position": position}
    return [*_reading(subject, clock, place), *_multiplying(subject, clock, place)]


def measure_reading(subject: Subject) -> list[Record]:
    """Measure reading alone, in about a second."""
    clock = Clock(BRIEF, device=subject.device)
    return _reading(subject, clock, {"batch": 1, "position": 1})


def _reading(subject: Subject, clock: Clock, place: dict) -> list[Record]:
    return [
        _read(subject, clock, name, _working_set(subject, weights), place)
        for name, weights in READS.items()
    ]


def _working_set(subject: Subject, weights: str) -> int:
    """Bytes of the matrices in a format, or more than a cache holds; in whole numbers."""
    size = matrix_bytes(subject.model, weights) if weights else LARGE_BYTES
    return size // 4 * 4


def _read(subject: Subject, clock: Clock, name: str, size: int, place: dict) -> Record:
    """Time all ways of reading `size` bytes, and keep the fastest."""
    note = subject.too_large(size)
    if note:
        return clock.untimed(name, measure="floor", **place, note=note)
    passes = -(-CALL_BYTES[subject.device.type] // size)
    x = torch.ones(size // 4, device=subject.device)
    again = x.expand(passes, -1)  # the same memory, passed over again and again
    ways: list[Callable[[object], Tensor]] = [lambda _: again.sum(), lambda _: again.amax()]
    if passes == 1:
        ways.append(lambda _: torch.dot(x, x))
    variants = [Variant(f"{name}-{i}", way) for i, way in enumerate(ways)]
    timed = [r for r in clock.records(variants, measure="floor", **place, tokens=0) if r.repeats]
    if not timed:
        return clock.untimed(name, measure="floor", **place, note="skipped: no time was left")
    fastest = min(timed, key=lambda record: min(record.samples))
    return _with_rate(replace(_of_one_pass(fastest, passes), variant=name, bytes=size), size)


def _of_one_pass(record: Record, passes: int) -> Record:
    names = ("median_seconds", "p95_seconds", "p99_seconds")
    seconds = {name: getattr(record, name) / passes for name in names}
    return replace(record, **seconds, samples=tuple(x / passes for x in record.samples))


def _multiplying(subject: Subject, clock: Clock, place: dict) -> Sequence[Record]:
    width = WIDTHS[subject.device.type]
    variants = [
        attempt(name, partial(_multiply, subject, name, width), dtype=_words(dtype))
        for name, dtype in MATRICES.items()
    ]
    records = clock.records(variants, measure="floor", **place, tokens=0)
    return [_with_rate(record, 2 * width**3) for record in records]


def _multiply(subject: Subject, name: str, width: int) -> Variant:
    dtype, device = MATRICES[name], subject.device
    if dtype == torch.bfloat16 and device.type == "cpu" and not has_bfloat16():
        note = "not here: this CPU has no bfloat16 instructions"
        return Variant(name, None, note=note, dtype=_words(dtype))
    a, b = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
    return Variant(name, lambda _: a @ b, dtype=_words(dtype))


def _with_rate(record: Record, amount: int) -> Record:
    """Say how much was done in a second of the fastest repeat: a floor is what can be reached."""
    if not record.samples:
        return record
    return replace(record, rate=amount / min(record.samples), tokens_per_second=None)


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
