"""The columns of each measure's table: few on a screen of 80 characters, all on the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from seqgen.benchmark.measures.endless import WINDOW
from seqgen.benchmark.measures.memory import MEMORIES_GIB, streams_that_fit
from seqgen.benchmark.records import Record
from seqgen.benchmark.report import numbers
from seqgen.benchmark.report.kinds import is_published

TITLES = {
    "floor": "floor: what this machine can read and multiply at most",
    "decode": "decode: one step after so many tokens, whole call with its draw",
    "step": "step: the same without the draw, tokens in and logits out",
    "prefill": "prefill: reading a prompt, up to the first token",
    "attention": "attention: one layer, forward and backward",
    "training": "training: one step (forward, loss, backward, AdamW), nothing drops out",
    "memory": "memory: what one stream carries, how many fit; what one row of training keeps",
    "job": "job: whole pieces, from a prompt of BOS to the last token",
    "papers": "papers: whole pieces of two papers' sizes, with the figures that these give",
    "likelihood": "likelihood: what held-out tokens cost, by how weights are kept",
    "endless": f"endless: steps of one stream whose sums fade after {WINDOW} positions",
}
CARRIED = ("recurrent", "full-cached", "full-cached-bf16")  # of which streams are counted
POSITIONS = {
    "attention": "length",
    "training": "length",
    "prefill": "prompt",
    "job": "tokens",
    "papers": "tokens",
    "likelihood": "window",
}


@dataclass(frozen=True)
class Column:
    """A heading and what stands under it; of a row without a value, the first one has the note."""

    name: str
    show: Callable[[Record], str]


CALLS = Column("calls", lambda r: numbers.number(r.repeats))
MEDIAN = Column("median", lambda r: numbers.seconds(r.median_seconds))
P95 = Column("p95", lambda r: numbers.seconds(r.p95_seconds))
P99 = Column("p99", lambda r: numbers.seconds(r.p99_seconds))
P95_ABOVE = Column("p95", lambda r: numbers.above(r.p95_seconds, r.median_seconds))
TOKENS = Column("tokens/s", lambda r: numbers.digits(r.tokens_per_second))
RATIO = Column("vs lib.", lambda r: numbers.digits(r.ratio_to_library))
SHARE = Column("floor", lambda r: numbers.percent(r.share_of_floor))
BYTES = Column("bytes", lambda r: numbers.megabytes(r.bytes))
WEIGHTS = Column("dtype", lambda r: r.dtype)
TARGETS = Column("of tokens", lambda r: numbers.number(r.targets))


def columns(records: Sequence[Record], *, wide: bool) -> list[Column]:
    """Choose the columns of one measure's records.

    On a screen (not `wide`), spread stands as what it adds to the median, and the number of calls
    gives way to what tells more: the share of the floor, or the peak memory of a training step.
    A column that would be empty is left out, but for the first one, which has the notes.
    """
    special = SPECIAL.get(records[0].measure, _times)
    chosen = special(records, wide)
    tells = [c for c in chosen if any(c.show(record) != "-" for record in records)]
    return [chosen[0], *(column for column in chosen[1:] if column in tells)]


def _times(records: Sequence[Record], wide: bool) -> list[Column]:
    spread = [P95, P99] if wide else [P95_ABOVE]
    more = any(r.share_of_floor is not None or r.bytes is not None for r in records)
    calls = [CALLS] if wide or not more else []
    peak = Column("peak", BYTES.show)
    return [MEDIAN, *spread, TOKENS, RATIO, SHARE, peak, *([WEIGHTS] if wide else []), *calls]


def _floor(records: Sequence[Record], wide: bool) -> list[Column]:
    unit = lambda r: "B" if r.bytes is not None else "FLOP"  # noqa: E731
    rate = Column("rate", lambda r: numbers.rate(r.rate, unit(r)))
    return [rate, Column("at a time", BYTES.show), MEDIAN, P95 if wide else P95_ABOVE, CALLS]


def _memory(records: Sequence[Record], wide: bool) -> list[Column]:
    fit = [Column(f"in {m} GiB", partial(_streams, memory_gib=m)) for m in MEMORIES_GIB]
    return [Column("size", BYTES.show), *([WEIGHTS] if wide else []), *fit]


def _streams(record: Record, *, memory_gib: int) -> str:
    """Say how many streams fit into so much memory, beside weights in float32."""
    sizes = record.setting.sizes
    if record.variant not in CARRIED or record.bytes is None or not sizes:
        return "-"
    weights, stream = 4 * sizes["parameters"], record.bytes // record.batch
    n = streams_that_fit(memory_gib * 2**30, weight_bytes=weights, stream_bytes=stream)
    return numbers.number(n)


def _job(records: Sequence[Record], wide: bool) -> list[Column]:
    a_piece = Column("pieces/s", lambda r: numbers.digits(pieces_per_second(r)))
    job = Column("seconds", lambda r: numbers.seconds(r.median_seconds))
    return [job, P95 if wide else P95_ABOVE, TOKENS, a_piece, RATIO, *([CALLS] if wide else [])]


def _likelihood(records: Sequence[Record], wide: bool) -> list[Column]:
    bits = lambda r: "-" if r.bits_per_token is None else f"{r.bits_per_token:.4f}"  # noqa: E731
    return [Column("bits per token", bits), WEIGHTS, TARGETS]


def _endless(records: Sequence[Record], wide: bool) -> list[Column]:
    spread = [P95, P99] if wide else [P95_ABOVE]
    return [MEDIAN, *spread, TOKENS, Column("process", BYTES.show), Column("steps", CALLS.show)]


SPECIAL = {
    "floor": _floor,
    "memory": _memory,
    "job": _job,
    "papers": _job,
    "likelihood": _likelihood,
    "endless": _endless,
}


def pieces_per_second(record: Record) -> float | None:
    """Songs, or images: a piece has `position` tokens."""
    rate = record.tokens_per_second
    return None if rate is None or not record.position else rate / record.position


def batch_label(record: Record) -> str:
    """Rows at a time; 0 stands for as many as its authors chose."""
    return "theirs" if is_published(record) and not record.batch else str(record.batch)
