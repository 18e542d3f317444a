"""Reading files in reader processes: a file that crashes its reader is refused like others.

Each reader has its own pipe and reads one file at a time, so that it is known which file crashed
it, and readers share no locks.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, cast

from seqgen.config import LimitsConfig
from seqgen.errors import FileRejected

FEW = 24  # files up to which starting a second reader costs more than it saves
AHEAD = 200  # files that may be finished before the one that is wanted next
Work = Callable[..., Any]  # what is done with a file: (path, …) -> result
Job = tuple[Any, ...]  # the arguments of one call, the path first


class Readers:
    """Processes that read files. Leaving the context ends them; until then they are used again."""

    def __init__(self, limits: LimitsConfig, *, workers: int):
        """Prepare to read; processes start with the first file.

        Args:
            limits: of time and memory for each file.
            workers: processes; 0: one per core.
        """
        self._limits = limits
        self._workers = workers or os.cpu_count() or 1
        self._readers: list[_ReaderProcess] = []

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.stop()

    def read(
        self, jobs: Sequence[Job], load: Callable[[], Work], *, tell: Callable[[int, int], None]
    ) -> Iterator[Any]:
        """Yield for each job what the work makes of it, or why the file was refused, in order.

        Args:
            jobs: the path of each file, and what else the work takes.
            load: called in each reader, and so can be pickled; returns the work.
            tell: told how many of how many are done.
        """
        n_readers = 1 if len(jobs) <= FEW else min(self._workers, len(jobs))
        while len(self._readers) < n_readers:
            self._readers.append(_ReaderProcess(self._limits))
        readers = self._readers[:n_readers]
        for reader in readers:
            reader.begin(load)
        results: dict[int, Any] = {}
        n_given = 0
        for wanted in range(len(jobs)):
            while wanted not in results:
                for reader in readers:
                    if reader.is_idle and n_given < min(len(jobs), wanted + AHEAD):
                        reader.give(n_given, jobs[n_given])
                        n_given += 1
                for reader in _wait([reader for reader in readers if not reader.is_idle]):
                    results.update(reader.take())
            tell(wanted + 1, len(jobs))
            yield results.pop(wanted)


def _wait(readers: list["_ReaderProcess"]) -> list["_ReaderProcess"]:
    """Return those that have a message; `wait` takes whatever has a `fileno`."""
    return cast(list[_ReaderProcess], wait(cast(list[Connection], readers)))


class _ReaderProcess:
    """A process that reads one file at a time, started where there is none or it has died.

    It is a plain child and none of `multiprocessing`'s, which would run the caller's script again.
    """

    def __init__(self, limits: LimitsConfig):
        self._limits = limits
        self._load: Callable[[], Work]
        self._process: subprocess.Popen | None = None
        self._pipe: Connection  # of the process
        self._number: int | None = None  # of the file that is being read

    @property
    def is_idle(self) -> bool:
        """Whether it may be given a file."""
        return self._number is None

    def fileno(self) -> int:
        """Lets `wait` wait for its next message."""
        return self._pipe.fileno()

    def begin(self, load: Callable[[], Work]) -> None:
        """Let it load other work than before."""
        self._load = load
        if not self.is_idle:  # with a file that nobody waits for any more
            self.stop()
        elif self._process is not None:
            self._is_ready = False
            with contextlib.suppress(OSError):  # `give` finds that it has died
                self._pipe.send(load)

    def give(self, number: int, job: Job) -> None:
        """Let it read a file."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        self._number = number
        with contextlib.suppress(OSError):  # `take` finds that it has died
            self._pipe.send(job)

    def take(self) -> dict[int, Any]:
        """Receive its next message; return the result of its file, by its number, if it is that."""
        try:
            result = self._pipe.recv()
        except (EOFError, OSError):
            result = self._death()
        if result is None:
            self._is_ready = True
            return {}
        number, self._number = cast(int, self._number), None
        return {number: result}

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.wait()
            self._process = self._number = None

    def _start(self) -> None:
        self.stop()
        self._is_ready = False
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(path=sys.path, handle=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the parent's, which ends its readers
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )
        with contextlib.suppress(OSError):
            self._pipe.send(self._limits)
            self._pipe.send(self._load)

    def _death(self) -> FileRejected:
        code = cast(subprocess.Popen, self._process).wait()
        how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        if not self._is_ready:
            raise RuntimeError(f"a process that reads files did not start ({how})")
        if code == -signal.SIGXCPU:
            limit = self._limits.named("max_read_seconds")
            return FileRejected("over-limit", "a file", f"reading it takes longer than {limit}")
        return FileRejected("unreadable", "a file", f"the process that read it crashed ({how})")


# MidiTok imports torch where it can, and the client of the Hugging Face hub, for classes and
# downloads that no reader needs; that takes seconds.
_PROGRAM = """
import sys
from types import SimpleNamespace
sys.path[:] = {path!r}
sys.modules["torch"] = None
sys.modules["huggingface_hub"] = SimpleNamespace(ModelHubMixin=object, hf_hub_download=None)
from seqgen.data.encoding import serve
serve({handle})
"""


def serve(handle: int) -> None:
    """Read files for the process at the other end of a pipe, until it closes the pipe."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(handle) as pipe, contextlib.suppress(EOFError, ConnectionError):
        limits = pipe.recv()
        while True:
            message = pipe.recv()
            if callable(message):
                work = message()
                _limit_memory(limits.max_memory_bytes)
                pipe.send(None)  # ready
            else:
                _limit_time(limits.max_read_seconds)
                pipe.send(_do(work, message, limits))


def _do(work: Work, job: Job, limits: LimitsConfig) -> Any:
    path = job[0]
    try:
        return work(*job)
    except FileRejected as rejected:
        return rejected
    except MemoryError:
        reason = f"reading it takes more memory than {limits.named('max_memory_bytes')}"
        return FileRejected("over-limit", str(path), reason)
    except Exception as error:  # whatever a library makes of a file, the others are read
        reason = f"reading it failed ({type(error).__name__}: {error})"
        return FileRejected("unreadable", str(path), reason)


def _limit_memory(n_bytes: int) -> None:
    """Let this process allocate so much more than now; other systems than Linux do not limit it."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        _limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + n_bytes)


def _limit_time(seconds: int) -> None:
    """Let this process compute so much longer than now; it is ended by SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + 1 + seconds)


def _limit(kind: int, amount: int) -> None:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        amount = min(amount, most)
    resource.setrlimit(kind, (amount, most))
