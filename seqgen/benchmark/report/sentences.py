"""What a table says, in sentences that claim no more than was measured."""

from collections.abc import Iterator, Sequence

from seqgen.benchmark.records import PUBLISHED, Record
from seqgen.benchmark.report.crossings import Crossing, crossings
from seqgen.benchmark.report.kinds import is_published, on_gpu

FILLED = "full-preallocated"  # whose cache fills up while it writes a piece
INTERPOLATED = (
    "Positions of equality are interpolated between measured ones, in logarithms of time and "
    "position; a tie is a difference of less than 5%."
)


def sentences(records: Sequence[Record], *, wide: bool = False) -> Iterator[str]:
    """Say what one measure's records show, then why rows of them are empty.

    On the page (`wide`) crossings have a table of their own.
    """
    measure = records[0].measure
    if measure in ("decode", "step"):
        yield from [INTERPOLATED] if wide else crossing_sentences(records)
    if measure == "endless":
        yield from endless_sentences(records)
    if any((record.share_of_floor or 0) > 1 for record in records):
        yield (
            "A share above 100%: weights and states stayed in a cache between steps better than "
            "a working set of the same size did while the bandwidth was measured."
        )
    if measure in ("job", "papers"):
        yield from job_sentences(records)
    yield from reasons(records)


def crossing_sentences(records: Sequence[Record]) -> Iterator[str]:
    """Say, for each batch size and pair, from which position on the recurrent step is faster."""
    found = list(crossings(records))
    for crossing in found:
        yield crossing_sentence(crossing)
    if any(crossing.equal_at or crossing.ties for crossing in found):
        yield INTERPOLATED


def crossing_sentence(crossing: Crossing) -> str:
    """Say in this run's words who is faster from where on."""
    first, last = crossing.positions[0], crossing.positions[-1]
    ours, peers = " or ".join(crossing.ours), " or ".join(crossing.peers)
    at_last = f"{crossing.ratios[-1]:.2f} times as fast at {last:,}"
    clear, between = crossing.clear_from, crossing.between
    if clear is None:
        clearly = "clearly " * (crossing.ratios[-1] >= 1)
        verdict = f"not {clearly}faster up to {last:,}, the longest position measured ({at_last})"
    elif clear == first:
        verdict = f"faster at every position measured, from {first:,} on ({at_last})"
        if len(crossing.positions) == 1:
            verdict = f"faster at {first:,}, the one position measured ({at_last})"
    else:
        before = crossing.positions[crossing.positions.index(clear) - 1]
        verdict = f"faster from {clear:,} on ({at_last}), but not at {before:,}"
    if between is not None:
        low, high = between
        equal = round_position(crossing.equal_at)
        verdict += f"; equal at about {equal:,}, between {low:,} and {high:,}"
    if crossing.ties:
        ties = ", ".join(f"{position:,}" for position in crossing.ties)
        verdict += f"; a tie at {ties}"
    return f"Batch {crossing.batch}: {ours} against {peers} ({crossing.pair.words}): {verdict}."


def crossing_row(crossing: Crossing) -> tuple[str, ...]:
    """Say the same in cells: batch, ours, peers, equality, clear lead, and the last ratio."""
    first, last = crossing.positions[0], crossing.positions[-1]
    equal, clear = "-", f"not up to {last:,}"
    if crossing.equal_at is not None:
        equal = f"{round_position(crossing.equal_at):,}"
    if crossing.clear_from is not None:
        clear = f"{crossing.clear_from:,}" + " (the first)" * (crossing.clear_from == first)
    names = (" or ".join(crossing.ours), " or ".join(crossing.peers))
    return (str(crossing.batch), *names, equal, clear, f"{crossing.ratios[-1]:.2f} at {last:,}")


def round_position(position: float) -> int:
    """Keep two digits, which is more than interpolation can tell."""
    return int(float(f"{position:.2g}"))


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
    if first.bytes is not None and last.bytes is not None:
        more = (last.bytes - first.bytes) / 1e6
        sentence += f", and the process holds {more:.1f} MB more memory"
    yield f"{sentence}."


def job_sentences(records: Sequence[Record]) -> Iterator[str]:
    """Say what the ways of writing a whole piece do not share."""
    timed = [r for r in records if r.repeats and not is_published(r)]
    if not timed:
        return
    yield (
        "Decoders run behind the engine, which copies each token to the host; tokens of the "
        "library and of softmax attention stay on the device, which favours these."
    )
    peers = [r for r in timed if r.variant.rpartition("/")[2] == FILLED]
    if any(map(on_gpu, peers)):
        yield (
            f"{FILLED}, whose cache fills up here, launches each operation by itself on the GPU; "
            f"steps of the cuda decoders are CUDA graphs."
        )


def reasons(records: Sequence[Record]) -> Iterator[str]:
    """Say why rows have no value, once for all variants and places that share the reason.

    Published figures say whose they are in the same way.
    """
    everywhere = {(r.batch, r.position) for r in records if not is_published(r)}
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
        star = "* " if note.startswith(f"{PUBLISHED}:") else ""
        yield f"{star}{', '.join(names)} ({words}) {note}."
