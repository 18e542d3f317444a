"""Repetition in a piece: similar bars at a distance, bars heard before, repeated cycles.

What a track has in a bar is a part of the bar here: it may repeat while other tracks do not.

Legend: n notes, b bars, q quarter notes.
"""

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
    bars, cells = notes.on_grid(CELLS)
    kinds, columns = np.unique((cells * 12 + notes.pitches % 12)[~notes.drums], return_inverse=True)
    content = np.zeros((notes.n_bars, len(kinds)), bool)
    content[bars[~notes.drums], columns] = True
    if len(content) <= lag:
        return None
    both = (content[:-lag] & content[lag:]).sum(axis=1)
    either = (content[:-lag] | content[lag:]).sum(axis=1)
    return float((both[either > 0] / either[either > 0]).mean()) if either.any() else None


def recurring_bars(notes: Notes) -> float | None:
    """The share of bars, empty ones left out, that an earlier one equals in pitches and onsets."""
    bars, cells = notes.on_grid(CELLS)
    _, numbers, _ = _number(bars, _kinds(notes, cells))
    return 1 - len(np.unique(numbers)) / len(numbers) if len(numbers) else None


def repeated_notes(notes: Notes) -> float | None:
    """The share of notes in bars that equal an earlier bar of their track in pitches and onsets."""
    counts, _ = _repeats(notes)
    return float(counts.sum() / len(notes.starts)) if len(notes.starts) else None


def repeat_distances(notes: Notes) -> Shares | None:
    """How far back the nearest equal bar is, in shares of the notes of `repeated_notes`."""
    counts, distances = _repeats(notes)
    places = np.searchsorted(DISTANCES, distances, side="right") - 1
    shares = np.bincount(places, counts, minlength=len(DISTANCES))
    return (shares / counts.sum()).tolist() if len(counts) else None


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
    occupied, numbers, _ = _number(quarters, _kinds(notes, cells))
    codes = np.zeros(quarters.max() + 1, int)  # 0 is silence
    codes[occupied] = numbers
    repeated = np.zeros(len(codes), bool)
    for period in range(1, LONGEST_CYCLE + 1):
        equal = codes[period:] == codes[:-period]
        for start, stop in _runs(equal):
            if stop - start >= max(period, SHORTEST_RUN):
                repeated[period + start : period + stop] = True
    return float(repeated[quarters].mean())


def _repeats(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Of what a track has in a bar as in an earlier one: how many notes, and bars back [·]."""
    bars, cells = notes.on_grid(CELLS)
    places, numbers, counts = _number(notes.tracks * notes.n_bars + bars, _kinds(notes, cells))
    tracks, bars = np.divmod(places, max(notes.n_bars, 1))
    order = np.lexsort((bars, numbers, tracks))
    is_repeat = (np.diff(tracks[order]) == 0) & (np.diff(numbers[order]) == 0)
    return counts[order][1:][is_repeat], np.diff(bars[order])[is_repeat]


def _kinds(notes: Notes, cells: np.ndarray) -> np.ndarray:
    """A number for each kind of onset: its cell, and its pitch or drum [n]."""
    return cells * 256 + notes.drums * 128 + notes.pitches


def _number(groups: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number groups of notes from 1 on, the same for groups that have the same kinds of onset.

    Returns for each group that occurs in `groups` [n], in order: itself, its number, its notes.
    """
    order = np.lexsort((kinds, groups))
    found, borders, counts = np.unique(groups[order], return_index=True, return_counts=True)
    known: dict[bytes, int] = {}
    parts = np.split(kinds[order], borders)[1:]
    contents = (np.unique(part).tobytes() for part in parts)
    numbers = [known.setdefault(content, len(known) + 1) for content in contents]
    return found, np.array(numbers, dtype=int), counts


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where unbroken stretches of true begin and stop."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
