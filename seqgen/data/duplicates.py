"""Which files are nearly the same, or part of one another: they belong to one split.

All runs of all files are compared, in parts that fit in memory; between two steps they lie on disk.
Legend: n files, m runs, V votes.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from seqgen.tokenizers import Sketch

SHARED = 0.75  # of the points of the smaller file; as many make two files near-duplicates
FEWEST = 32  # shared points; fewer may be alike by chance
FEWEST_RUNS = 28  # different runs that agree on where one file lies in the other: no short loop
NEAR = 8  # files with the same run are compared with so many that follow, not with all of them
AT_A_TIME = 2**20  # runs or votes that are held in memory

RUN = np.dtype([("gram", "<u4"), ("start", "<i4"), ("file", "<i4")])
VOTE = np.dtype([("a", "<i4"), ("b", "<i4"), ("move", "<i4"), ("count", "<i4")])
HASHED = 0x9E3779B1  # an odd number without a pattern: 2**32 / golden ratio


def find_duplicates(sketches: Sequence[Sketch], folder: Path) -> np.ndarray:
    """Find files that are near-duplicates, directly or through others.

    A file whose points lie in another one to three quarters, wherever and in whatever key, is a
    near-duplicate of that. Time, and space on disk, grow with the runs of all files, not with the
    pairs of files; memory does not grow but for a few bytes per file.

    Args:
        sketches: of files without copies, in an order that is always the same.
        folder: for what is too large for memory; it must exist.

    Returns:
        for each file the number of the first one of its group, its own where it has none [n].
    """
    parents = np.arange(len(sketches))
    moves = _moves(sketches, folder)
    for (a, b), of_pair in groupby(moves, key=lambda vote: (int(vote["a"]), int(vote["b"]))):
        first, second = _root(parents, a), _root(parents, b)
        if first != second:
            small, large = sketches[a], sketches[b]
            if _are_duplicates(small, large, [int(vote["move"]) for vote in of_pair]):
                parents[max(first, second)] = min(first, second)
    while (parents != parents[parents]).any():
        parents = parents[parents]
    return parents


def _root(parents: np.ndarray, file: int) -> int:
    while parents[file] != file:
        parents[file] = file = parents[parents[file]]
    return int(file)


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


def _moves(sketches: Sequence[Sketch], folder: Path) -> np.ndarray:
    """Return pairs of files a < b, with each number that moves enough runs of a to those of b.

    They are sorted, and each is a `VOTE`.
    """
    runs, votes = folder / "runs.bin", folder / "votes.bin"
    _write(runs, map(_runs, range(len(sketches)), sketches))
    same_gram = _parts(runs, RUN, lambda found: found["gram"])
    _write(votes, map(_votes, same_gram))
    same_pair = _parts(votes, VOTE, _pair)
    chosen = [added[added["count"] >= FEWEST_RUNS] for added in map(_added, same_pair)]
    moves = np.concatenate([np.zeros(0, VOTE), *chosen])
    for path in (runs, votes):
        path.unlink()
    return moves[np.lexsort((moves["move"], moves["b"], moves["a"]))]


def _pair(votes: np.ndarray) -> np.ndarray:
    return votes["a"].astype(np.uint64) * np.uint64(HASHED) + votes["b"].astype(np.uint64)


def _runs(file: int, sketch: Sketch) -> np.ndarray:
    runs = np.empty(len(sketch.grams), dtype=RUN)
    runs["gram"], runs["start"], runs["file"] = sketch.grams, sketch.starts, file
    return runs


def _write(path: Path, parts: Iterator[np.ndarray]) -> None:
    with path.open("wb") as file:
        for part in parts:
            part.tofile(file)


def _parts(
    path: Path, dtype: np.dtype, key: Callable[[np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the rows of a file in parts that fit in memory; rows of one key are in one part.

    The order of the rows within a part is that of the file.
    """
    n_rows = path.stat().st_size // dtype.itemsize
    n_parts = max(1, -(-n_rows // AT_A_TIME))
    if n_parts == 1:
        yield np.fromfile(path, dtype)
        return

    def part_of(rows: np.ndarray) -> np.ndarray:
        scattered = (key(rows).astype(np.uint64) * np.uint64(HASHED)) & np.uint64(2**32 - 1)
        return ((scattered * np.uint64(n_parts)) >> np.uint64(32)).astype(np.int64)

    sizes = np.zeros(n_parts, dtype=np.int64)
    for rows in _chunks(path, dtype):
        sizes += np.bincount(part_of(rows), minlength=n_parts)
    ends = np.cumsum(sizes)
    places = ends - sizes
    ordered = path.with_suffix(".parts")
    with ordered.open("w+b") as file:
        for rows in _chunks(path, dtype):
            parts = part_of(rows)
            rows = rows[np.argsort(parts, kind="stable")]
            counts = np.bincount(parts, minlength=n_parts)
            for part, of_part in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
                file.seek(int(places[part]) * dtype.itemsize)
                of_part.tofile(file)
            places += counts
        for part in range(n_parts):
            file.seek(int(ends[part] - sizes[part]) * dtype.itemsize)
            yield np.fromfile(file, dtype, int(sizes[part]))
    ordered.unlink()


def _chunks(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while len(rows := np.fromfile(file, dtype, AT_A_TIME)):
            yield rows


def _votes(runs: np.ndarray) -> np.ndarray:
    """Count runs of two files that are equal, by the number that moves one to the other [V].

    A vote is file a, file b > a, the move from a to b, and how many of the runs agree.
    """
    runs = runs[np.lexsort((runs["file"], runs["gram"]))]
    found = []
    for distance in range(1, NEAR + 1):
        a = np.flatnonzero(runs["gram"][distance:] == runs["gram"][:-distance])
        votes = np.ones(len(a), dtype=VOTE)
        first, second = runs[a], runs[a + distance]
        votes["a"], votes["b"] = first["file"], second["file"]
        votes["move"] = second["start"] - first["start"]
        found.append(votes)
    return _added(np.concatenate(found))


def _added(votes: np.ndarray) -> np.ndarray:
    """Add up the votes for the same move between the same files."""
    votes = votes[np.lexsort((votes["move"], votes["b"], votes["a"]))]
    if not len(votes):
        return votes
    same = votes[1:][["a", "b", "move"]] == votes[:-1][["a", "b", "move"]]
    firsts = np.flatnonzero(np.append(True, ~same))
    counts = np.add.reduceat(votes["count"], firsts)
    votes = votes[firsts]
    votes["count"] = counts
    return votes
