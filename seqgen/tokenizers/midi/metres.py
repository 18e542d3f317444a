"""Time signatures that tokens can tell: each begins at a bar line."""

from collections import Counter
from collections.abc import Sequence

from seqgen.midi import MidiFile, TimeSignature

NEGLIGIBLE = 1 / 16  # of a quarter note: so far a metre may begin beside a bar line
MOST_BEATS = 32  # of a bar that tokens can tell
MOVED = "changes of metre moved to a bar line"


def metres_of(
    midi: MidiFile, accepted: Sequence[str] | None
) -> tuple[list[tuple[int, int, int]], Counter[str]]:
    """Find time signatures that all begin at a bar line.

    A bar that is cut short by the next time signature becomes a bar of its own length, as 3/8 or
    5/16 say it. What cannot be told so is moved to the next bar line.

    Args:
        midi: the file.
        accepted: time signatures that may be used, such as "9/8"; None: all. In place of others
            comes one with bars of the same length, or the one before.

    Returns:
        (tick, numerator, denominator) for each change, the first at tick 0, and how many were not
        kept.
    """
    quarter = midi.ticks_per_beat
    found: list[tuple[int, int, int]] = []
    changed: Counter[str] = Counter()

    def accept(numerator: int, denominator: int) -> tuple[int, int] | None:
        options = [(numerator, denominator)] + [
            (numerator * d // denominator, d)
            for d in (4, 8, 2, 16, 32, 1)
            if numerator * d % denominator == 0
        ]
        for n, d in options:
            if n <= MOST_BEATS and (accepted is None or f"{n}/{d}" in accepted):
                return n, d
        return None

    def put(tick: int, metre: tuple[int, int]) -> None:
        while found and found[-1][0] >= tick:
            found.pop()
        if not found or found[-1][1:] != metre:
            found.append((tick, *metre))

    for change in midi.time_signature_changes or [TimeSignature(4, 4, 0)]:
        metre = accept(change.numerator, change.denominator)
        if metre is None:
            lacking = f"{change.numerator}/{change.denominator}"
            changed[f"changes of metre to {lacking}, which the vocabulary lacks"] += 1
            if found:
                continue
            metre = (4, 4)
        if not found:
            put(0, metre)
            continue
        start, numerator, denominator = found[-1]
        bar = 4 * quarter * numerator / denominator
        bars, rest = divmod(max(change.time - start, 0), bar)
        line = round(start + bars * bar)
        if min(rest, bar - rest) <= NEGLIGIBLE * quarter:
            put(round(start + (bars + (rest > bar / 2)) * bar), metre)
            continue
        length = _fraction(rest, quarter)
        filler = accept(*length) if length else None
        if filler:
            put(line, filler)
            put(change.time, metre)
        else:
            changed[MOVED] += 1
            put(round(line + bar), metre)
    return found, changed


def _fraction(ticks: float, quarter: int) -> tuple[int, int] | None:
    """Return a length in ticks as a time signature; None where no 32nd note ends there."""
    for denominator in (4, 8, 16, 32):
        numerator, rest = divmod(ticks * denominator, 4 * quarter)
        if rest == 0 and 1 <= numerator <= MOST_BEATS:
            return int(numerator), denominator
    return None
