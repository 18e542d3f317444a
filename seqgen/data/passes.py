"""Work on files and what is kept of it, shard by shard: a preparation that was killed goes on.

A pass maps a function over all files. An engine maps it; a shard is a run of files that follow one
another, and what a pass makes of it is a file on disk, so that no result stays in memory.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from seqgen.data.encoding import Job, Readers, Work
from seqgen.errors import UserError
from seqgen.files import atomic_path

SHARD = 256  # files whose results are kept together; so many are read again after a kill
# What shards hold beside classes of seqgen.
KNOWN = (
    "collections.Counter",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy._core.numeric._frombuffer",
    "numpy._core.multiarray._reconstruct",
)


class Pass(Protocol):
    """What is done with each file, and what is kept of a shard of files. It can be pickled."""

    def job(self, label: str) -> Job:
        """Return the path of a file, and what else the work takes."""

    def load(self) -> Work:
        """Return the work, in the process that does it."""

    def join(self, labels: Sequence[str], results: Sequence[Any]) -> Any:
        """Put together what the work made of the files of a shard."""


class PassEngine(Protocol):
    """Maps a pass over shards."""

    def map(
        self,
        work: Pass,
        labels: Sequence[str],
        shards: Sequence[range],
        *,
        tell: Callable[[int, int], None],
    ) -> Iterator[tuple[range, Any]]:
        """Yield each shard, in any order, with what the pass makes of its files.

        Args:
            work: the pass.
            labels: of all files.
            shards: which of the files belong together.
            tell: told how many files of how many are done.
        """


class LocalEngine:
    """Maps a pass over files with processes of this machine; a context that ends them."""

    def __init__(self, readers: Readers):
        self._readers = readers

    def map(
        self,
        work: Pass,
        labels: Sequence[str],
        shards: Sequence[range],
        *,
        tell: Callable[[int, int], None],
    ) -> Iterator[tuple[range, Any]]:
        """Yield the shards in their order; see `PassEngine`."""
        results = self._readers.read(_Jobs(work, labels, shards), work.load, tell=tell)
        for shard in shards:
            yield shard, work.join(labels[shard.start : shard.stop], [*islice(results, len(shard))])


class _Jobs(Sequence[Job]):
    """The jobs of the files of some shards, each made when it is asked for."""

    def __init__(self, work: Pass, labels: Sequence[str], shards: Sequence[range]):
        self._work, self._labels, self._shards = work, labels, shards
        self._n_files = sum(map(len, shards))

    def __len__(self) -> int:
        return self._n_files

    def __getitem__(self, number: Any) -> Any:
        shard = self._shards[number // SHARD]  # all but the last of all have as many files
        return self._work.job(self._labels[shard[number % SHARD]])


def to_shards(n_files: int) -> list[range]:
    """Cut so many files into shards."""
    return [range(i, min(i + SHARD, n_files)) for i in range(0, n_files, SHARD)]


def run_pass(
    engine: PassEngine,
    work: Pass,
    labels: Sequence[str],
    keys: Sequence[str],
    folder: Path,
    *,
    tell: Callable[[int, int], None],
) -> Iterator[Any]:
    """Yield what a pass makes of each shard, in order; what `folder` holds is not made again.

    Args:
        engine: maps the pass.
        work: the pass.
        labels: of all files.
        keys: for each shard, a name that changes with whatever its result depends on.
        folder: of results.
        tell: told how many files of how many are done.
    """
    shards = to_shards(len(labels))
    paths = [folder / f"{key}.shard" for key in keys]
    missing = [shard for shard, path in zip(shards, paths, strict=True) if not path.exists()]
    n_before = len(labels) - sum(map(len, missing))
    told = partial(_tell_more, tell, n_before)
    for shard, result in engine.map(work, labels, missing, tell=told) if missing else ():
        with atomic_path(paths[shard.start // SHARD]) as temporary, temporary.open("wb") as file:
            pickle.dump(result, file, protocol=pickle.HIGHEST_PROTOCOL)
            file.flush()
            os.fsync(file.fileno())
    for path in paths:
        yield _load(path)


def _tell_more(tell: Callable[[int, int], None], n_before: int, done: int, total: int) -> None:
    tell(n_before + done, n_before + total)


class _ShardReader(pickle.Unpickler):
    """Reads shards and carries out nothing else: others may write where machines share a folder."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of seqgen or a part of an array, or raise `UnpicklingError`."""
        is_ours = module.partition(".")[0] == "seqgen"
        if is_ours or f"{module}.{name}" in KNOWN:
            found = super().find_class(module, name)
            if isinstance(found, type) or not is_ours:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a shard")


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ShardReader(file).load()
    except (EOFError, pickle.UnpicklingError):
        path.unlink()
        raise UserError(f"{path} was damaged and is deleted: start again to go on") from None
