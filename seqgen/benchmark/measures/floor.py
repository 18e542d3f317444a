"""How fast the machine reads memory, and the least time that a decode step can take for it.

Reading: working sets are as large as the model's matrices in each format, and one is beyond all
caches. They hold ones, for pages of zeros that were never written would all be the same page.
Reading is taking the sum, the largest value, or the product with itself, whichever is fastest; all
are plain PyTorch on all its threads, and limited by memory. A call reads a small working set
several times over, so that starting it counts for nothing.

A step's floor is what it must read, at the bandwidth of a working set of that size: once per step
the matrices of all layers, of the output head and of the short convolution in their format (in 8
bits with a scale for each output), biases and norms; the state of each row, read and written; and
of softmax attention with a cache, the keys and values of all earlier tokens. Not counted are rows
of embedding tables, activations, logits, the draw, and the key and value written: all small beside
those. A share above 100% means that the weights stayed in a cache better than in this measurement.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from seqgen.benchmark.model import DECODERS, BenchmarkModel
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.softmax import STATIC
from seqgen.benchmark.timing import Call, Effort, Timer, Variant
from seqgen.model.sequence_model import SequenceModel

READS = {"read-int8": "int8", "read-bf16": "bf16", "read-float32": "float32", "read-large": ""}
LARGE_BYTES = 2**30
CALL_BYTES = {"cpu": 2**26, "cuda": 2**30}  # to be read in one call, at least
BRIEF = Effort(seconds=0.1, max_repeats=10, longest_call=2.5)
WEIGHT_BYTES = {"float32": 4, "bf16": 2, "int8": 1, "w8a8": 1}


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Measure reading; the place only says where the records stand."""
    records = []
    for name, weights in READS.items():
        size = matrix_bytes(model.model, weights) // 4 * 4 if weights else LARGE_BYTES
        records.append(_read(model, timer, name, size, place))
    return records


def reads_of(records: Sequence[Record], model: BenchmarkModel) -> list[Record]:
    """Return the floor among what was measured; where it was not, measure it in about a second."""
    timer = Timer(BRIEF, device=model.device)
    known = [record for record in records if record.measure == "floor"]
    return known or measure(model, timer, Place("floor", 1, 1))


def _read(model: BenchmarkModel, timer: Timer, name: str, size: int, place: Place) -> Record:
    """Time the ways of reading `size` bytes, one after the other, and keep the fastest."""
    passes = -(-CALL_BYTES[model.device.type] // size)

    def opened(reduce: Callable[[Tensor], Tensor]) -> Call:
        x = torch.ones(size // 4, device=model.device).expand(passes, -1)  # the same memory
        return Call(lambda _: reduce(x))

    ways: list[Callable[[Tensor], Tensor]] = [torch.sum, torch.amax]
    if passes == 1:
        ways.append(lambda x: torch.dot(x[0], x[0]))
    variants = [Variant(name, partial(opened, way), holds=size) for way in ways]
    timed = [record for variant in variants for record in timer.time([variant], place, tokens=0)]
    fastest = min(timed, key=lambda r: min(r.samples, default=np.inf))
    if not fastest.samples:
        return fastest
    seconds = [x / passes for x in fastest.samples]
    # The rate of the fastest repeat: a floor is what can be reached.
    record = timer.timed(name, place, seconds, tokens=0, bytes=size, rate=size / min(seconds))
    return replace(record, tokens_per_second=None)


def with_shares(
    records: Sequence[Record], model: BenchmarkModel, *, floor: Sequence[Record]
) -> list[Record]:
    """Add to each timed decode step of a model the share of its time that the floor is.

    `floor` has `bytes` and `rate` where reading was measured.
    """
    reads, found = sorted((r.bytes, r.rate) for r in floor if r.bytes and r.rate), []
    for r in records:
        needed = step_bytes(r, model) if r.measure == "decode" and reads else None
        if needed is not None and r.median_seconds is not None:
            r = replace(r, share_of_floor=floor_seconds(*needed, reads) / r.median_seconds)
        found.append(r)
    return found


def floor_seconds(working_set: int, moved: int, reads: Sequence[tuple[int, float]]) -> float:
    """Return the least time of a step that moves some of the bytes of its working set.

    `reads` are sizes in bytes, ascending, and the bandwidth there in bytes/s. Between two sizes it
    goes evenly with the logarithm; beyond the ends it is that of the end.
    """
    sizes, rates = zip(*reads, strict=True)
    return moved / float(np.interp(np.log(working_set), np.log(sizes), rates))


def step_bytes(record: Record, model: BenchmarkModel) -> tuple[int, int] | None:
    """Count the bytes of a step's working set, and those moved; None where that is no bound."""
    variant = record.variant
    weights = matrix_bytes(model.model, record.dtype)
    if variant in STATIC:
        itemsize = STATIC[variant][1].itemsize
        cache = model.cache_bytes(record.position, record.batch, itemsize=itemsize)
        return weights + cache, weights + cache
    if variant == LIBRARY or variant in DECODERS:
        states = record.batch * model.recurrent.initial_state(1).nbytes
        return weights + states, weights + 2 * states
    return None


def matrix_bytes(model: SequenceModel, weights: str) -> int:
    """Return the bytes that each step reads of a model whose matrices are kept in a format."""
    parts = (model.stack, model.lm_head.linears, model.short_convolution or nn.Identity())
    size, each = 0, WEIGHT_BYTES[weights]
    for x in nn.ModuleList(parts).parameters():
        is_matrix = x.dim() > 1  # biases and norms stay in float32
        size += (each if is_matrix else 4) * x.numel()
        size += 4 * len(x) * (is_matrix and each == 1)  # scales
    return size
