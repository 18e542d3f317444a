"""Which files are nearly the same, or part of one another: they belong to one split.

Legend: n points, m runs, V votes.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from seqgen.tokenizers import Sketch

SHARED = 0.75  # of the points of the smaller file; as many make two files near-duplicates
FEWEST = 32  # shared points; fewer may be alike by chance
FEWEST_RUNS = 28  # different runs that agree on where one file lies in the other: no short loop
NEAR = 8  # files with the same run are compared with so many that follow, not with all of them
PARTS = 8  # runs are compared in so many parts, one after another, to need less memory


def find_duplicates(sketches: Mapping[str, Sketch]) -> dict[str, str]:
    """Find files that are near-duplicates, directly or through others.

    A file whose points lie in another one to three quarters, wherever and in whatever key, is a
    near-duplicate of that. Time and memory grow with the runs of all files, not with the pairs of
    files: 10,000 songs take half a minute and 1 GB.

    Args:
        sketches: by content hash. What is found does not depend on their order.

    Returns:
        for each hash that of the file that stands for its group; its own where it has no group.
    """
    if not sketches:
        return {}
    names = sorted(sketches)
    groups = {name: [name] for name in names}  # files of one group share one list
    for (a, b), moves in groupby(_moves([sketches[name] for name in names]), key=lambda m: m[:2]):
        first, second = names[a], names[b]
        if groups[first] is groups[second]:
            continue
        if _are_duplicates(sketches[first], sketches[second], [move for *_, move in moves]):
            groups[first] += groups[second]
            groups |= dict.fromkeys(groups[second], groups[first])
    # The end of a hash says nothing about its beginning, which decides the split: with the smallest
    # hash of each group, too many would be held out.
    return {name: min(group, key=lambda name: name[::-1]) for name, group in groups.items()}


def _are_duplicates(first: Sketch, second: Sketch, moves: Sequence[int]) -> bool:
    """Tell whether most points of the smaller file, moved, are points of the other.

    Where something was put in or left out, what follows is moved further; so each move counts.
    """
    small, large = first.points, second.points
    if len(small) > len(large):
        small, large, moves = large, small, [-move for move in moves]
    is_shared = np.zeros(len(small), dtype=bool)
    for move in moves:
        is_shared |= np.isin(small + move, large, assume_unique=True)
    n_shared = int(is_shared.sum())
    return n_shared >= max(FEWEST, SHARED * len(small))


def _moves(sketches: Sequence[Sketch]) -> list[tuple[int, int, int]]:
    """Return pairs of files a < b, with each number that moves enough runs of a to those of b."""
    votes = np.concatenate([_votes(sketches, part) for part in range(PARTS)])  # [V, 4]
    votes = votes[np.lexsort((votes[:, 2], votes[:, 1], votes[:, 0]))]
    firsts = _firsts(votes[:, :3])
    counts = np.add.reduceat(votes[:, 3], firsts) if len(votes) else firsts
    return votes[firsts[counts >= FEWEST_RUNS], :3].tolist()


def _votes(sketches: Sequence[Sketch], part: int) -> np.ndarray:
    """Count runs of two files that are equal, by the number that moves one to the other [V, 4].

    A row is file a, file b > a, the move from a to b, and how many of the runs in `part` agree.
    """
    chosen = [sketch.grams % PARTS == part for sketch in sketches]
    runs = np.concatenate([s.grams[c] for s, c in zip(sketches, chosen, strict=True)])
    starts = np.concatenate([s.starts[c] for s, c in zip(sketches, chosen, strict=True)])
    files = np.repeat(np.arange(len(sketches)), [c.sum() for c in chosen])
    order = np.argsort(runs, kind="stable")
    runs, starts, files = runs[order], starts[order], files[order]
    rows = []
    for distance in range(1, NEAR + 1):
        a = np.flatnonzero(runs[distance:] == runs[:-distance])
        b = a + distance
        rows.append(np.stack([files[a], files[b], starts[b].astype(np.int64) - starts[a]], axis=1))
    votes = np.concatenate(rows)
    votes = votes[np.lexsort((votes[:, 2], votes[:, 1], votes[:, 0]))]
    firsts = _firsts(votes)
    counts = np.diff(np.append(firsts, len(votes)))
    return np.column_stack([votes[firsts], counts])


def _firsts(rows: np.ndarray) -> np.ndarray:
    """Return where sorted rows [V, ·] differ from the row before."""
    return np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1))[: len(rows)])
