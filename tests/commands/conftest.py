"""The command line in this process, in an empty folder."""

import sys

import pytest

from seqgen.commands import main


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; return its exit code and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seqgen", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return run
