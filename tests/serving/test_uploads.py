"""The gate of uploads: whatever a file does to the process that reads it, others are read."""

import os

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")

from seqgen.errors import FileRejected
from seqgen.serving import uploads
from seqgen.serving.uploads import Gate


def crash(path):
    os.abort()


def crashing():
    return crash


def test_a_file_that_crashes_its_reader_is_refused_alone(song, monkeypatch):
    gate = Gate()
    monkeypatch.setattr(uploads, "load_gate", crashing)
    with pytest.raises(FileRejected, match=r"cannot use evil\.mid: .*SIGABRT"):
        gate.read(song.read_bytes(), "evil.mid")
    monkeypatch.undo()
    clean = gate.read(song.read_bytes(), "song.mid")
    assert clean.content[:4] == b"MThd"
    gate.close()
