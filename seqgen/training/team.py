"""The processes of a run that torchrun or srun has started, on one machine or several.

They meet at torch's key-value store before any of them reads or writes a file. Process 0 makes run
folder and data, the others wait for it; if one fails, all end, and one of them says why.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch.distributed import DistError, PrefixStore, Store, TCPStore

from seqgen.errors import ToldElsewhere, UserError
from seqgen.training import by_torchrun, launched

LIMIT_SECONDS = 180.0  # until all processes have arrived, and until all have found run and data
LAST_SECONDS = 10.0  # that a failed process keeps the store for the others
# Keys of the store: what process 0 tells, that a process failed, why the run ends, who has left.
FACTS, FAILED, REASON, ENDED = "facts", "failed", "reason", "ended"


@dataclass(frozen=True)
class Team:
    """One process among those of a run.

    Attributes:
        rank, size: number of this process, and how many there are.
        n_nodes: number of machines, each with as many processes.
        environment: how Lightning reaches the other processes.
        address: host and port of the store.
        store: what all processes read and write.
        hosts_store: whether it ends with this process.
    """

    rank: int
    size: int
    n_nodes: int
    environment: ClusterEnvironment
    address: str
    store: Store
    hosts_store: bool

    @property
    def per_node(self) -> int:
        """Number of processes of each machine."""
        return self.size // self.n_nodes

    def tell(self, **facts: str) -> None:
        """Give facts to all processes that `hear`."""
        with self._connected():
            self.store.set(FACTS, json.dumps(facts))

    def hear(self) -> dict[str, str]:
        """Wait, as long as it takes, for what process 0 tells.

        Raises:
            UserError: another process failed, or the store is gone.
        """
        with self._connected():
            self._wait(lambda: self.store.check([FACTS]))
            return json.loads(self.store.get(FACTS))

    def meet(self, done: str) -> None:
        """Wait until all processes are here; `done` says what they have done ("arrived").

        Raises:
            UserError: another process failed, not all of them came within `LIMIT_SECONDS`, or the
                store is gone.
        """
        with self._connected():
            self.store.set(f"{done}/{self.rank}", "")
            self.store.add(done, 1)
            if self._wait(lambda: self.store.add(done, 0) >= self.size, limit=LIMIT_SECONDS):
                return
            missing = [i for i in range(self.size) if not self.store.check([f"{done}/{i}"])]
        named = ", ".join([*map(str, missing[:8]), *["…"] * (len(missing) > 8)])
        raise UserError(
            f"of {self.size} processes, these have not {done} within {LIMIT_SECONDS:.0f} s: "
            f"{named}; start the same command on every machine (under SLURM: with srun), and look "
            f"at what those processes said"
        )

    def fail(self, reason: str | None) -> str | None:
        """End the run for all processes, for a reason or without a word; return the first reason.

        The process whose reason is the first one says it.
        """
        first = reason
        with contextlib.suppress(DistError):
            if reason is not None:
                first = self.store.compare_set(REASON, "", reason).decode()
            self.store.set(FAILED, "")
            n_ended, begin = self.store.add(ENDED, 1), time.monotonic()
            while self.hosts_store and n_ended < self.size:  # the others have to read it
                if time.monotonic() - begin > LAST_SECONDS:
                    break
                time.sleep(0.1)
                n_ended = self.store.add(ENDED, 0)
        return first

    def _wait(self, is_over: Callable[[], bool], *, limit: float = float("inf")) -> bool:
        """Wait until something is over; False where it took longer than `limit` seconds."""
        begin, pause = time.monotonic(), 0.02
        while not is_over():
            if self.store.check([FAILED]):
                raise UserError("another process of this run has ended: start the run again")
            if time.monotonic() - begin > limit:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
        return True

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except DistError:
            raise UserError(
                f"lost the connection to {self.address}, where the processes of this run meet: "
                f"process 0, or the torchrun that started it, has ended"
            ) from None


@contextlib.contextmanager
def gathered() -> Iterator[Team | None]:
    """Meet the other processes of the run, and end with them; None where there are no others.

    If a process leaves the block by an error, the others end as soon as they wait for it.

    Raises:
        UserError: a process cannot be reached, or has not arrived.
        ToldElsewhere: another process failed first, and says why.
    """
    if not launched():
        yield None
        return
    team = _join()
    before = signal.signal(signal.SIGTERM, _end_unless_ending)
    try:
        team.meet("arrived")
        yield team
    except BaseException as error:
        reason = None if isinstance(error, SystemExit) else str(error) or type(error).__name__
        if isinstance(error, UserError) and team.rank > 0:
            reason = f"process {team.rank} on {socket.gethostname()}: {error}"
        first = team.fail(reason)
        if reason is None:
            raise
        _leave_for_torchrun(first or reason)
        if first != reason:
            raise ToldElsewhere(first) from None
        if isinstance(error, UserError):
            raise UserError(reason) from error
        raise
    signal.signal(signal.SIGTERM, before)


def _end_unless_ending(number: int, _: object) -> None:
    """End at a signal, unless an error is on its way, which says more.

    torchrun sends SIGTERM to the processes that are left when one has ended.
    """
    if sys.exc_info()[0] is None:
        sys.exit(128 + number)


def _join() -> Team:
    """Find out who this process is, and connect to the store."""
    environment, n_nodes, per_node = _environment()
    rank, size = environment.global_rank(), environment.world_size()
    if size != n_nodes * per_node:
        raise UserError(
            f"{size} processes on {n_nodes} machines: start as many on each of them (torchrun "
            f"--nproc-per-node, srun --ntasks-per-node)"
        )
    address = f"{environment.main_address}:{environment.main_port}"
    hosts_store = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    try:
        store = TCPStore(
            environment.main_address,
            environment.main_port,
            is_master=hosts_store,
            wait_for_workers=False,
            timeout=timedelta(seconds=LIMIT_SECONDS),
            multi_tenant=True,  # Lightning's process group meets at the same port
        )
    except DistError as error:
        if hosts_store:
            raise UserError(
                f"cannot listen at {address} ({error}): set another MASTER_PORT"
            ) from None
        raise UserError(
            f"process {rank} of {size} on {socket.gethostname()} reached nothing at {address} "
            f"within {LIMIT_SECONDS:.0f} s: start process 0 there, or set MASTER_ADDR and "
            f"MASTER_PORT to where it listens, and open that port between the machines"
        ) from None
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = PrefixStore(f"seqgen/{attempt}", store)
    return Team(rank, size, n_nodes, environment, address, own, hosts_store)


def _environment() -> tuple[ClusterEnvironment, int, int]:
    """Return Lightning's view of the launcher, the machines, and the processes of each."""
    if by_torchrun():
        n_nodes, per_node = (int(os.environ[f"{of}_WORLD_SIZE"]) for of in ("GROUP", "LOCAL"))
        return TorchElasticEnvironment(), n_nodes, per_node
    try:
        environment = SLURMEnvironment(auto_requeue=False)
    except RuntimeError:  # it needs a variable that --ntasks alone does not set
        raise UserError(
            f"SLURM_NTASKS={os.environ['SLURM_NTASKS']} without SLURM_NTASKS_PER_NODE: give srun "
            f"or sbatch --nodes and --ntasks-per-node, the processes of each machine"
        ) from None
    per_node = int(os.environ["SLURM_NTASKS_PER_NODE"])
    return environment, int(os.environ.get("SLURM_NNODES", "1")), per_node


def _leave_for_torchrun(sentence: str) -> None:
    """Write the sentence where torchrun looks for the reason of a failure."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path and by_torchrun():
        said = {"message": sentence, "extraInfo": {"timestamp": str(int(time.time()))}}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": said}))
