"""Files are read in processes of their own: what brings a reader down costs one file."""

import os
import signal
import sys

import pytest
from readers import fail_to_load, obedient, shouting

from seqgen.config import LimitsConfig
from seqgen.data import encoding
from seqgen.data.encoding import Readers

LIMITS = LimitsConfig(max_read_seconds=1, max_memory_bytes=500_000_000)


def ignore(*_):
    """Progress that nobody sees."""


def read(folder, names, *, workers=1, load=obedient):
    """Read files of these names; returns for each its text or its refusal."""
    for name in names:
        (folder / name).write_bytes(name.encode())
    jobs = [(folder / name,) for name in names]
    with Readers(LIMITS, workers=workers) as readers:
        return list(readers.read(jobs, load, tell=ignore))


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("SIGKILL", "unreadable", "the process that read it crashed (SIGKILL)"),
        ("SIGSEGV", "unreadable", "the process that read it crashed (SIGSEGV)"),
        ("exit", "unreadable", "the process that read it crashed (exit status 3)"),
        ("computes", "over-limit", "reading it takes longer than limits.max_read_seconds=1"),
        ("fails", "unreadable", "reading it failed (KeyError: 'Pitch_128')"),
        ("refused", "empty", "it has no notes"),
        pytest.param(
            "allocates",
            "over-limit",
            "reading it takes more memory than limits.max_memory_bytes=500000000",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="not limited elsewhere"),
        ),
    ],
)
def test_a_file_that_brings_its_reader_down_is_refused_and_the_rest_is_read(
    tmp_path, name, kind, reason
):
    before, refused, after = read(tmp_path, ["before", name, "after"])
    assert (before, after) == ("before", "after")
    assert (refused.kind, refused.reason) == (kind, reason)


def test_each_other_file_is_read_once_and_results_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "FEW", 4)
    monkeypatch.setattr(encoding, "AHEAD", 5)
    names = [f"{'SIGKILL' if i in (2, 9) else 'song'}-{i}" for i in range(20)]
    for name, result in zip(names, read(tmp_path, names, workers=2), strict=True):
        if name.startswith("song"):
            assert result == name
            assert (tmp_path / f"{name}.read").read_text() == "read\n"
        else:
            assert result.reason == "the process that read it crashed (SIGKILL)"


def test_all_are_told_done_when_the_last_result_is_there(tmp_path):
    told = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"song")
    with Readers(LIMITS, workers=1) as readers:
        jobs = [(tmp_path / name,) for name in ("a", "b")]
        results = readers.read(jobs, obedient, tell=lambda *counts: told.append(counts))
        assert [next(results), next(results)] == ["song"] * 2
        assert told == [(1, 2), (2, 2)]


def test_a_reader_that_cannot_start_is_an_error_and_not_the_files_fault(tmp_path):
    with pytest.raises(RuntimeError, match=r"did not start \(exit status 5\)"):
        read(tmp_path, ["song"], load=fail_to_load)


def test_a_reader_that_dies_between_files_costs_none(tmp_path):
    (tmp_path / "song").write_bytes(b"song")
    reader = encoding._ReaderProcess(LIMITS)
    reader.begin(obedient)
    for number in (0, 1):
        reader.give(number, (tmp_path / "song",))
        results = {}
        while not results:
            results = reader.take()
        assert list(results) == [number]
        assert results[number] == "song"
        os.kill(reader._process.pid, signal.SIGKILL)
        reader._process.wait()
    reader.stop()


def test_no_reader_is_left_when_reading_stops_early(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"song")
    jobs = [(tmp_path / name,) for name in ("a", "b")]
    with Readers(LIMITS, workers=1) as readers:
        results = readers.read(jobs, obedient, tell=ignore)
        next(results)
        processes = [reader._process for reader in readers._readers]
    assert [process.poll() for process in processes] == [-signal.SIGKILL]


def test_readers_do_one_work_after_another_in_the_same_processes(tmp_path):
    (tmp_path / "song").write_bytes(b"song")
    with Readers(LIMITS, workers=1) as readers:
        jobs = [(tmp_path / "song",)] * 2
        first = list(readers.read(jobs, obedient, tell=ignore))
        [process] = [reader._process.pid for reader in readers._readers]
        second = list(readers.read(jobs, shouting, tell=ignore))
        assert [reader._process.pid for reader in readers._readers] == [process]
        abandoned = readers.read(jobs, obedient, tell=ignore)
        next(abandoned)
        again = list(readers.read(jobs, shouting, tell=ignore))
    assert (first, second, again) == (["song"] * 2, ["SONG"] * 2, ["SONG"] * 2)
