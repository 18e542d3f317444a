"""Records as tables, and in a sentence what they say about the recurrent form."""

from collections.abc import Iterator, Sequence

import torch
from rich import box
from rich.table import Table

from seqgen.benchmark.measures.endless import WINDOW
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject

CLEARLY = 1.05  # a smaller lead is taken for noise

OPPONENTS = {
    "full-cached": "full attention with the library's KV cache",
    "full-preallocated": "full attention with a KV cache allocated ahead",
}
TITLES = {
    "decode": "decode: one step after so many tokens, whole call with its draw",
    "prefill": "prefill: reading a prompt",
    "attention": "attention: one layer, forward and backward",
    "training": "training: one step (forward, loss, backward, AdamW), nothing drops out",
    "memory": "memory: what one stream carries, and one row of a training step keeps",
    "endless": f"endless: steps of one stream whose sums fade after {WINDOW} positions",
}


def setting(subject: Subject, records: Sequence[Record]) -> str:
    """Say in one line what was measured where: sizes, weights, threads, dtype, device, version."""
    c = subject.config
    millions = sum(p.numel() for p in subject.model.parameters()) / 1e6
    device = subject.device.type
    if device == "cuda":
        device = torch.cuda.get_device_name(subject.device)
    threads = records[0].threads
    return (
        f"{c.n_layers} layers of width {c.d_model}, {c.n_heads} heads, {millions:.1f}M parameters "
        f"({subject.weights}), {records[0].dtype}, {device}, "
        f"{threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
    )


def tables(records: Sequence[Record], *, setting: str) -> Iterator[Table | str]:
    """Yield one table per measure, in order, then why rows are empty and what decode shows."""
    for measure in TITLES:
        chosen = [record for record in records if record.measure == measure]
        if chosen:
            yield TABLES.get(measure, _times_table)(_shown(chosen), setting)
            yield from _reasons(chosen)
        if chosen and measure == "decode":
            yield from crossing_sentences(chosen)
        if chosen and measure == "endless":
            yield from endless_sentences(chosen)


def crossing_sentences(records: Sequence[Record]) -> Iterator[str]:
    """Say, for each batch size, from which position on the recurrent step beats the cached ones.

    It is the reference decoder's: its matrices are multiplied as those of its opponents are.
    """
    compared = set()
    for batch in sorted({record.batch for record in records}):
        times = {
            (r.variant, r.position): r.median_seconds
            for r in records
            if r.batch == batch and r.median_seconds is not None and r.repeats != 1
        }
        for variant, opponent in OPPONENTS.items():
            both = sorted(p for v, p in times if v == variant and ("recurrent", p) in times)
            if both:
                compared.add(variant)
                ratios = [times[variant, p] / times["recurrent", p] for p in both]
                verdict = _verdict(both, ratios, opponent)
                yield f"Batch {batch}: in this run the recurrent step {verdict}."
    if compared == {"full-cached"}:
        yield "That cache is copied at every step; one allocated ahead would be a harder opponent."


def endless_sentences(records: Sequence[Record]) -> Iterator[str]:
    """Compare the last position of the stream with the first."""
    timed = [record for record in records if record.median_seconds is not None]
    if len(timed) < 2:
        return
    first, last = timed[0], timed[-1]
    ratio = last.median_seconds / first.median_seconds
    sentence = (
        f"A step at position {last.position} takes {ratio:.2f} times as long as at {first.position}"
    )
    if first.bytes is not None:
        more = (last.bytes - first.bytes) / 1e6
        sentence += f", and the process holds {more:.1f} MB more memory"
    yield f"{sentence}."


def _verdict(positions: Sequence[int], ratios: Sequence[float], opponent: str) -> str:
    """Judge by how many times as long the cached step took at each position."""
    last = f"{ratios[-1]:.2f} times as fast at {positions[-1]}"
    first = next((i for i in range(len(ratios)) if min(ratios[i:]) >= CLEARLY), None)
    if first is None:
        return f"does not clearly beat {opponent} up to the longest position measured ({last})"
    if first == 0:
        return f"beats {opponent} at every position measured, from {positions[0]} on ({last})"
    return (
        f"beats {opponent} from position {positions[first]} on ({last}), "
        f"but not clearly at {positions[first - 1]}"
    )


def _shown(records: Sequence[Record]) -> list[Record]:
    """Leave out variants that have no value at any of several places; the reasons name them."""
    if len({(record.batch, record.position) for record in records}) == 1:
        return list(records)
    valued = {record.variant for record in records if not record.note}
    return [record for record in records if record.variant in valued]


def _times_table(records: Sequence[Record], setting: str) -> Table:
    """Calls and their times; the last column says what else is of interest in the measure."""
    calls, last, show = ("calls", "vs library", lambda record: _digits(record.ratio_to_library))
    if records[0].measure == "endless":
        calls, last, show = ("steps", "process", lambda record: _megabytes(record.bytes))
    table = _table(records[0].measure, setting)
    for name in (calls, "median", "p95", "tokens/s", last):
        table.add_column(name, justify="right")
    for place, record, ends_group in _grouped(records):
        table.add_row(
            *place,
            _number(record.repeats, "d"),
            record.note.partition(":")[0] or _seconds(record.median_seconds),
            _seconds(record.p95_seconds),
            _digits(record.tokens_per_second),
            show(record),
            end_section=ends_group,
        )
    return table


def _bytes_table(records: Sequence[Record], setting: str) -> Table:
    table = _table("memory", setting)
    table.add_column("size", justify="right")
    for place, record, ends_group in _grouped(records):
        size = record.note.partition(":")[0] or _megabytes(record.bytes)
        table.add_row(*place, size, end_section=ends_group)
    return table


TABLES = {"memory": _bytes_table}


def _table(measure: str, setting: str) -> Table:
    table = Table(
        title=f"{TITLES[measure]}\n{setting}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("batch", justify="right")
    table.add_column("length" if measure in ("attention", "training") else "position")
    table.columns[-1].justify = "right"
    table.add_column("variant", no_wrap=True)
    return table


def _grouped(records: Sequence[Record]) -> Iterator[tuple[tuple[str, str, str], Record, bool]]:
    """Yield each record with its first cells, and whether the next has another place.

    Batch and position stand only where they change.
    """
    places = [(str(record.batch), str(record.position)) for record in records]
    around = zip([None, *places[:-1]], places, [*places[1:], None], strict=True)
    for record, (before, place, after) in zip(records, around, strict=True):
        shown = place if place != before else ("", "")
        yield (*shown, record.variant), record, place != after


def _reasons(records: Sequence[Record]) -> Iterator[str]:
    """Say why rows have no value, once for all variants and places that share the reason."""
    everywhere = {(record.batch, record.position) for record in records}
    places: dict[tuple[str, str], list[tuple[int, int]]] = {}  # by variant and note
    for record in records:
        if record.note:
            key = record.variant, record.note
            places.setdefault(key, []).append((record.batch, record.position))
    variants: dict[tuple, list[str]] = {}
    for (variant, note), where in places.items():
        variants.setdefault((note, *where), []).append(variant)
    for (note, *where), names in variants.items():
        words = "; ".join(f"batch {batch}, {position}" for batch, position in where)
        if len(where) == len(everywhere) > 1:
            words = "everywhere"
        yield f"{', '.join(names)} ({words}) {note}."


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.{3 - len(str(int(value * 1e3)))}f} ms"


def _megabytes(n_bytes: int | None) -> str:
    return "-" if n_bytes is None else f"{n_bytes / 1e6:,.2f} MB"


def _number(value: int | None, spec: str) -> str:
    return "-" if value is None else f"{value:{spec}}"


def _digits(value: float | None) -> str:
    """Show as many digits as tell something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"
