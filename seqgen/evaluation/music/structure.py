"""Repetition in a piece: similar bars at a distance, bars heard before, repeated cycles.

What a track has in a bar is a part of the bar here: it may repeat while other tracks do not.

Legend: n notes, b bars, q quarter notes.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from seqgen.evaluation.music.features import Shares
from seqgen.evaluation.music.notes import Notes

LONGEST_CYCLE = 32  # quarter notes: eight bars of 4/4
SHORTEST_RUN = 4  # quarter notes; two equal chords in a row are no cycle yet
DISTANCES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33)  # bars: where bins of repeats begin
CELLS = 4  # to a quarter note: performed notes fall into the same sixteenth mostly


def bar_similarity(notes: Notes, lag: int) -> float | None:
    """The mean similarity of bars and those `lag` bars later; pairs of empty bars do not count.

    The similarity of two bars is the number of (onset cell, pitch class) that both have over the
    number that either has. Drums are left out.
    """
    content = _bars_by_content(notes, octaves=False)
    if len(content) <= lag:
        return None
    both = (content[:-lag] & content[lag:]).sum(axis=1)
    either = (content[:-lag] | content[lag:]).sum(axis=1)
    return float((both[either > 0] / either[either > 0]).mean()) if either.any() else None


def recurring_bars(notes: Notes) -> float | None:
    """The share of bars, empty ones left out, that an earlier one equals in pitches and onsets."""
    content = _bars_by_content(notes, octaves=True)
    content = content[content.any(axis=1)]
    if not len(content):
        return None
    return 1 - len(np.unique(np.packbits(content, axis=1), axis=0)) / len(content)


def repeated_notes(notes: Notes) -> float | None:
    """The share of notes in bars that equal an earlier bar of their track in pitches and onsets."""
    if not len(notes.starts):
        return None
    return sum(n for n, distance in _repeats(notes) if distance) / len(notes.starts)


def repeat_distances(notes: Notes) -> Shares | None:
    """How far back the nearest equal bar is, in shares of the notes of `repeated_notes`."""
    found = [(n, distance) for n, distance in _repeats(notes) if distance]
    if not found:
        return None
    counts, distances = np.array(found).T
    places = np.searchsorted(DISTANCES, distances, side="right") - 1
    shares = np.bincount(places, counts, minlength=len(DISTANCES)) / counts.sum()
    return shares.tolist()


def repeated_cycles(notes: Notes) -> float | None:
    """The share of notes in immediate repetitions of a cycle of 1 to `LONGEST_CYCLE` quarter notes.

    A stretch repeats at a period when each of its quarters has the onsets and pitches of the one a
    period before. It counts when it is as long as the period and no shorter than `SHORTEST_RUN`;
    the first statement of a cycle does not. Bars play no part: a loop need not keep to them.
    """
    if not len(notes.starts):
        return None
    cells = np.floor(notes.starts * CELLS / notes.ticks_per_quarter + 0.5).astype(int)
    quarters, cells = np.divmod(cells, CELLS)
    codes = _codes_of_quarters(quarters, cells * 256 + notes.drums * 128 + notes.pitches)
    repeated = np.zeros(len(codes), bool)
    for period in range(1, LONGEST_CYCLE + 1):
        equal = codes[period:] == codes[:-period]
        for start, stop in _runs(equal):
            if stop - start >= max(period, SHORTEST_RUN):
                repeated[period + start : period + stop] = True
    return float(repeated[quarters].mean())


def _repeats(notes: Notes) -> Iterator[tuple[int, int]]:
    """Yield for what a track has in a bar how many notes that are, and how many bars back an equal
    bar of the track is; 0 where there is none.
    """
    bars, cells = notes.on_grid(CELLS)
    order = np.lexsort((notes.pitches, cells, bars, notes.tracks))
    rows = np.stack([notes.tracks, bars, cells, notes.pitches], axis=1)[order]
    starts = np.flatnonzero(np.any(np.diff(rows[:, :2], axis=0, prepend=-1), axis=1))
    known: dict[tuple[int, bytes], int] = {}
    for start, stop in pairwise([*starts.tolist(), len(rows)]):
        track, bar = rows[start, :2].tolist()
        key = track, np.unique(rows[start:stop, 2:], axis=0).tobytes()
        yield stop - start, bar - known.get(key, bar)
        known[key] = bar


def _bars_by_content(notes: Notes, *, octaves: bool) -> np.ndarray:
    """Which of all kinds of onset each bar has: bool [b, ·].

    A kind is a cell and a pitch class; with `octaves`, a cell and a pitch or drum.
    """
    bars, cells = notes.on_grid(CELLS)
    if octaves:
        kinds = cells * 256 + notes.drums * 128 + notes.pitches
    else:
        bars, kinds = bars[~notes.drums], (cells * 12 + notes.pitches % 12)[~notes.drums]
    found, columns = np.unique(kinds, return_inverse=True)
    content = np.zeros((notes.n_bars, len(found)), bool)
    content[bars, columns] = True
    return content


def _codes_of_quarters(quarters: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """A number for each quarter of the piece, the same for the same kinds of onset [q]."""
    order = np.lexsort((kinds, quarters))
    quarters, kinds = quarters[order], kinds[order]
    occupied, borders = np.unique(quarters, return_index=True)
    codes = np.zeros(quarters[-1] + 1, int)  # 0 is silence
    known: dict[bytes, int] = {}
    for quarter, (start, stop) in zip(occupied, pairwise([*borders, len(kinds)]), strict=True):
        content = np.unique(kinds[start:stop]).tobytes()
        codes[quarter] = known.setdefault(content, len(known) + 1)
    return codes


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where unbroken stretches of true begin and stop."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
