"""Measures of pitch, polyphony and rhythm of one piece.

Each function takes the notes of a piece and returns None where the measure has no meaning. What
they mean and where they come from stands in `definitions.py`.
"""

import numpy as np
from scipy.stats import entropy as shannon_entropy

from seqgen.evaluation.music.notes import Notes

# Note values in quarter notes: thirty-second to double whole, triplets and dots between them.
DURATIONS = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
ONSET_CELLS = 12  # to a quarter note: sixteenths and triplets fall apart
ONSET_QUARTERS = 4  # what is later in a longer bar shares the last bin
GROOVE_CELLS = 16  # to a quarter note: 64 in a bar of 4/4, as Wu & Yang have it
MAJOR = (0, 2, 4, 5, 7, 9, 11)  # a natural minor scale has the notes of a major one
Shares = tuple[float, ...]


def histogram(values: np.ndarray, n_bins: int) -> Shares | None:
    """Shares of the whole numbers below `n_bins` among `values` [·]."""
    if not len(values):
        return None
    counts = np.bincount(values, minlength=n_bins)
    return tuple((counts / counts.sum()).tolist())


def entropy(values: np.ndarray) -> float | None:
    """Shannon entropy of whole numbers [·], in bits."""
    return float(shannon_entropy(np.bincount(values), base=2)) if len(values) else None


def scale_consistency(notes: Notes) -> float | None:
    """The largest share of pitches that one major or natural minor scale holds."""
    shares = histogram(notes.pitched % 12, 12)
    if shares is None:
        return None
    return max(sum(shares[(root + step) % 12] for step in MAJOR) for root in range(12))


def pitch_range(notes: Notes) -> int | None:
    """Highest minus lowest pitch, in semitones."""
    return int(np.ptp(notes.pitched)) if len(notes.pitched) else None


def sounding_pitches(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """How many pitches sound [·], and for how many ticks in a row each number does [·].

    Pitches count once, however many notes and tracks sound them. Drums do not count, but time runs
    from 0 to the last end of all notes.
    """
    end = notes.ends.max(initial=0)
    # Pitches are laid end to end on one long line of time, so that one pass finds all stretches.
    offset = notes.pitched * end
    starts, ends = notes.starts[~notes.drums] + offset, notes.ends[~notes.drums] + offset
    order = np.argsort(starts, kind="stable")
    starts, reach, offset = starts[order], np.maximum.accumulate(ends[order]), offset[order]
    first = np.append(True, starts[1:] >= reach[:-1])[: len(starts)]
    last = np.append(first[1:], True)[: len(starts)]
    starts, ends = starts[first] - offset[first], reach[last] - offset[last]
    changes = np.repeat([0, 1, -1, 0], [1, len(starts), len(ends), 1])
    ticks, where = np.unique(np.concatenate([[0], starts, ends, [end]]), return_inverse=True)
    sounding = np.cumsum(np.bincount(where, weights=changes))
    return np.rint(sounding[:-1]).astype(int), np.diff(ticks)


def polyphony(notes: Notes) -> tuple[float | None, float | None]:
    """The mean number of pitches while any sounds, and the share of all time with two or more."""
    sounding, ticks = sounding_pitches(notes)
    some = ticks[sounding > 0].sum()
    if not ticks.sum():
        return None, None
    rate = float(ticks[sounding > 1].sum() / ticks.sum())
    return (float((sounding * ticks).sum() / some) if some else None), rate


def duration_histogram(notes: Notes) -> Shares | None:
    """Shares of the note values in `DURATIONS`: the nearest by ratio, drums left out."""
    quarters = (notes.ends - notes.starts)[~notes.drums] / notes.ticks_per_quarter
    borders = np.sqrt(np.array(DURATIONS[1:]) * np.array(DURATIONS[:-1]))
    return histogram(np.searchsorted(borders, quarters, side="right"), len(DURATIONS))


def onset_histogram(notes: Notes) -> Shares | None:
    """Shares of the places in the bar at which notes begin; the last bin is all that is later."""
    _, cells = notes.on_grid(ONSET_CELLS)
    last = ONSET_CELLS * ONSET_QUARTERS
    return histogram(np.minimum(cells, last), last + 1)


def groove_consistency(notes: Notes) -> float | None:
    """One minus the mean share of cells in which a bar and the next differ in having an onset.

    Only neighbours of the same length are compared.
    """
    bars, cells = notes.on_grid(GROOVE_CELLS)
    in_bar = np.ceil(notes.bar_quarters * GROOVE_CELLS - 1e-6).astype(int)
    same = np.flatnonzero(in_bar[:-1] == in_bar[1:])
    if not len(same):
        return None
    onsets = np.zeros((notes.n_bars, in_bar.max()), bool)
    onsets[bars, cells] = True
    different = np.count_nonzero(onsets[same] != onsets[same + 1], axis=1)
    return float(1 - (different / in_bar[same]).mean())


def empty_rate(notes: Notes, borders: np.ndarray) -> float | None:
    """The share of the stretches between `borders` (ticks) in which no note sounds, drums too."""
    if len(borders) < 2:
        return None
    first = np.searchsorted(borders, notes.starts, side="right") - 1
    last = np.searchsorted(borders, notes.ends, side="left") - 1
    changes = np.zeros(len(borders), int)
    np.add.at(changes, first, 1)
    np.add.at(changes, last + 1, -1)
    return float(np.mean(np.cumsum(changes)[:-1] == 0))
