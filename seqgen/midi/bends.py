"""How far the bends of a channel reach: two semitones, unless a registered parameter says more."""

from bisect import bisect
from collections.abc import Sequence

from miditoolkit import ControlChange, Instrument

STANDARD_RANGE = 2.0  # semitones of a full bend, up or down
LOWEST, HIGHEST = -8192, 8191
DATA, FINE_DATA, FINE_PARAMETER, PARAMETER = 6, 38, 100, 101  # controllers
OTHER_PARAMETERS = (98, 99)  # of the maker of a device
NO_PARAMETER = {FINE_PARAMETER: 127, PARAMETER: 127}
BEND_RANGE = {FINE_PARAMETER: 0, PARAMETER: 0}


def bend_ranges(changes: Sequence[ControlChange]) -> list[tuple[int, float]]:
    """Return ticks, the first 0, and how many semitones a full bend has from each on.

    `changes` are the controllers of an instrument, in order of time.
    """
    ranges, chosen = [(0, STANDARD_RANGE)], NO_PARAMETER
    semitones, cents = STANDARD_RANGE, 0
    for change in changes:
        if change.number in BEND_RANGE:
            chosen = {**chosen, change.number: change.value}
        elif change.number in OTHER_PARAMETERS:
            chosen = NO_PARAMETER
        elif change.number == DATA and chosen == BEND_RANGE:
            semitones = change.value
            ranges.append((change.time, semitones + cents / 100))
        elif change.number == FINE_DATA and chosen == BEND_RANGE:
            cents = change.value
            ranges.append((change.time, semitones + cents / 100))
    return ranges


def semitones_of(track: Instrument) -> list[float]:
    """Return how far each bend of an instrument reaches."""
    ticks, ranges = zip(*bend_ranges(track.control_changes), strict=True)
    return [
        bend.pitch / -LOWEST * ranges[bisect(ticks, bend.time) - 1] for bend in track.pitch_bends
    ]


def bend(semitones: float, *, full: float = STANDARD_RANGE) -> int:
    """Return the bend of so many semitones, or the furthest one, where a full bend has `full`."""
    return min(max(round(semitones / full * -LOWEST), LOWEST), HIGHEST) if full else 0
