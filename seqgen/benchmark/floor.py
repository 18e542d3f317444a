"""The least time that a decode step can take: what it must read, at the measured bandwidth.

Counted are, once per step, the matrices of all layers, of the heads and of the input window in
their format (with a scale for each output in 8 bits), biases and norms; the state of each row, read
and written; and of softmax attention with a cache, the keys and values of all earlier tokens. Not
counted are rows of embedding tables, activations, logits, the draw, and the key and value written:
all small beside those. Writing is taken to be as fast as reading.

The bandwidth is that of a working set of the same size, which may fit into a cache between steps. A
share above 1 says that it stayed there better than in the measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqgen.benchmark.peers.full import CACHED
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject
from seqgen.benchmark.timing import LIBRARY
from seqgen.model.sequence_model import SequenceModel

STEPS = ("decode", "step")
WEIGHT_BYTES = {"float32": 4, "bf16": 2, "int8": 1, "w8a8": 1}
CACHE_BYTES = {"full-cached": 4} | {name: way[1].itemsize for name, way in CACHED.items()}


@dataclass(frozen=True)
class StepBytes:
    """What a step goes through.

    Attributes:
        working_set: bytes of weights, states and caches.
        moved: bytes read and written.
    """

    working_set: int
    moved: int


def with_shares(
    records: Sequence[Record], subject: Subject, *, floor: Sequence[Record]
) -> list[Record]:
    """Say of each timed step which share of its time the floor is (`share_of_floor`).

    Args:
        records: of any measures; those of steps are changed.
        subject: whose steps they are.
        floor: the machine's, with `bytes` and `rate` where reading was measured.
    """
    reads = sorted((r.bytes, r.rate) for r in floor if r.bytes and r.rate)
    if not reads:
        return list(records)
    return [_with_share(record, subject, reads) for record in records]


def floor_seconds(moved: StepBytes, reads: Sequence[tuple[int, float]]) -> float:
    """Divide bytes by the bandwidth at that size: `reads` are sizes, ascending, and bytes/s.

    Between two sizes it goes evenly with the logarithm; beyond the ends it is that of the end.
    """
    sizes, rates = zip(*reads, strict=True)
    rate = np.interp(np.log(moved.working_set), np.log(sizes), rates)
    return moved.moved / float(rate)


def step_bytes(record: Record, subject: Subject) -> StepBytes | None:
    """Count what a step of a record must go through; None where that is not its bound."""
    config, variant = subject.config, record.variant
    if record.dtype not in WEIGHT_BYTES:
        return None
    weights = matrix_bytes(subject.model, record.dtype)
    if variant in CACHE_BYTES:
        per_token = 2 * CACHE_BYTES[variant] * config.n_layers * config.d_model
        cache = record.batch * record.position * per_token
        return StepBytes(weights + cache, weights + cache)
    if variant == LIBRARY or variant in DECODERS:
        states = record.batch * subject.recurrent.initial_state(1).nbytes
        return StepBytes(weights + states, weights + 2 * states)
    return None


def matrix_bytes(model: SequenceModel, weights: str) -> int:
    """Bytes that each step reads of a model whose matrices are kept in a format."""
    read = [model.stack, model.heads, *([model.input_window] if model.input_window else [])]
    size = 0
    for parameter in (x for part in read for x in part.parameters()):
        if parameter.dim() == 1:  # biases and norms stay in float32
            size += 4 * parameter.numel()
        else:
            scales = 4 * len(parameter) if WEIGHT_BYTES[weights] == 1 else 0
            size += WEIGHT_BYTES[weights] * parameter.numel() + scales
    return size


def _with_share(record: Record, subject: Subject, reads: Sequence[tuple[int, float]]) -> Record:
    if record.measure not in STEPS or not record.median_seconds:
        return record
    moved = step_bytes(record, subject)
    if moved is None:
        return record
    return replace(record, share_of_floor=floor_seconds(moved, reads) / record.median_seconds)
