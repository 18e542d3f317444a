"""Reads files on all machines of a Ray cluster: the passes of a preparation, mapped by Ray Data.

Each worker reads through processes of its own, as one machine does: a file that crashes its reader
costs that file. A worker or a machine that dies costs the shards that it has begun, which Ray gives
to others. Results come back to the machine that prepares; the others need only the source files.
"""

import logging
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seqgen.cluster import connect
from seqgen.config import LimitsConfig
from seqgen.data.encoding import Readers
from seqgen.data.passes import Pass
from seqgen.errors import UserError


class RayEngine:
    """Maps passes over a Ray cluster; a context that leaves it."""

    def __init__(self, limits: LimitsConfig, *, address: str | None, workers: int):
        """Connect to a cluster.

        Args:
            limits: for each file.
            address: HOST:PORT of a running cluster, or "auto"; None: start one on this machine.
            workers: that read at the same time; 0: one per CPU of the cluster.

        Raises:
            UserError: Ray is not installed, or there is no cluster at the address that fits.
        """
        connect(address)
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._limits = limits
        self._ray: Any = ray  # typed only where it is installed
        self._workers = workers or int(self._ray.cluster_resources().get("CPU", 1))

    def __enter__(self) -> "RayEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def map(
        self,
        work: Pass,
        labels: Sequence[str],
        shards: Sequence[range],
        *,
        tell: Callable[[int, int], None],
    ) -> Iterator[tuple[range, Any]]:
        """Yield shards as they are finished; see `PassEngine`."""
        by_start = {shard.start: shard for shard in shards}
        rows = [
            {
                "start": shard.start,
                "labels": os.fsencode("\0".join(labels[shard.start : shard.stop])),
            }
            for shard in shards
        ]
        results = self._ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(self._limits, work),
            compute=self._ray.data.ActorPoolStrategy(size=min(self._workers, len(rows))),
            num_cpus=1,
        )
        n_done, n_files = 0, sum(map(len, shards))
        try:
            for row in results.iter_rows():
                if row["unseen"] and Path(row["unseen"]).exists():
                    raise UserError(
                        f"the node {row['node']} of the Ray cluster does not see {row['unseen']}: "
                        f"every node must see the files under the same path, in a shared folder or "
                        f"a copy"
                    )
                shard = by_start[row["start"]]
                yield shard, pickle.loads(row["result"])
                n_done += len(shard)
                tell(n_done, n_files)
        except self._ray.exceptions.RayError as error:
            raise UserError(f"reading files with Ray failed: {_one_line(error)}") from error


class _Worker:
    """Reads the files of one shard after another."""

    def __init__(self, limits: LimitsConfig, work: Pass):
        self._readers = Readers(limits, workers=1)
        self._work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        labels = os.fsdecode(row["labels"]).split("\0")
        jobs = [self._work.job(label) for label in labels]
        unseen = next((str(path) for path, *_ in jobs if not path.exists()), "")
        results = list(self._readers.read(jobs, self._work.load, tell=lambda *_: None))
        return {
            "start": row["start"],
            "node": socket.gethostname(),
            "unseen": unseen,
            "result": pickle.dumps(self._work.join(labels, results)),
        }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
