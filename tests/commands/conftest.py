"""The command line in this process, or in one forked from it, which imports nothing again."""

import os
import signal
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import seqgen.api.jobs  # noqa: F401  # once, here, and not in each process
from seqgen.commands import main

CLI = Path(__file__).parents[2] / "cli.py"


@pytest.fixture
def command_in(monkeypatch, capsys):
    """Run the command line in a folder; return its exit code and what it said."""

    def run(folder, *arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["seqgen", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return run


@pytest.fixture
def command(command_in, tmp_path, monkeypatch):
    """Run the command line in an empty folder; return its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: command_in(tmp_path, *arguments)


class Process:
    """A command in a process of its own."""

    def __init__(self, pid: int, output: Path):
        self.pid = pid
        self._output = output

    def has_ended(self) -> bool:
        """Whether it has ended; `end` still has to be called."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, self._output.read_text()


@pytest.fixture
def fork(tmp_path_factory):
    """Start the command line in a folder, in a process that has loaded everything already."""

    def start(folder, *arguments, environment=None):
        output = tmp_path_factory.mktemp("process") / "output.txt"
        pid = os.fork()
        if pid:
            return Process(pid, output)
        code = 99
        with output.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell starts it
                os.chdir(folder)
                os.environ.update(environment or {})
                sys.argv = [str(CLI), *arguments]
                sys.modules["__main__"].__spec__ = None  # as where a file is run, not a module
                main()
            except SystemExit as ended:
                code = ended.code or 0
            except BaseException:
                traceback.print_exc()
        os._exit(code)

    return start
