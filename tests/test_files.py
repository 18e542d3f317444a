"""A write leaves the old thing or the whole new one; a lock ends with its process."""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import signal
import subprocess
import sys

import pytest

from seqgen.errors import UserError
from seqgen.files import (
    TEMPORARY,
    atomic_folder,
    atomic_path,
    check_files,
    checksums,
    json_ready,
    locked,
    read_json,
    read_record,
    sweep,
    write_json,
    write_record,
)


class Full(Exception):
    """The disk is full."""


def refuse(holder):
    raise UserError(f"held by {holder}")


@pytest.fixture
def other_process():
    """Start a process that runs Python code, says "ready" when it is done, and stays."""
    started = []

    def start(code):
        command = f"import time; from seqgen.files import *\n{code}; print(flush=True)"
        process = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


HOLD = "with {what}: print(flush=True); time.sleep(1000)"


def hold(other_process, what):
    process = other_process(HOLD.format(what=what))
    process.stdout.readline()
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    with contextlib.suppress(Full), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise Full
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_keeps_the_old_one(tmp_path):
    folder = tmp_path / "a"
    with atomic_folder(folder) as temporary:
        (temporary / "x").write_text("old")
    with contextlib.suppress(Full), atomic_folder(folder) as temporary:
        (temporary / "x").write_text("half")
        raise Full
    assert (folder / "x").read_text() == "old"
    with atomic_folder(folder) as temporary:
        (temporary / "y").write_text("new")
    assert [p.name for p in folder.iterdir()] == ["y"]
    assert list(tmp_path.iterdir()) == [folder]


def test_of_two_folders_made_at_once_the_last_one_stays(tmp_path):
    folder = tmp_path / "a"
    with atomic_folder(folder) as first:
        (first / "x").write_text("first")
        with atomic_folder(folder) as second:
            (second / "x").write_text("second")
        assert (folder / "x").read_text() == "second"
    assert (folder / "x").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_written_files_have_the_rights_that_new_files_have(tmp_path):
    (tmp_path / "plain").write_text("")
    (tmp_path / "plain-folder").mkdir()
    write_json(tmp_path / "a.json", {})
    with atomic_folder(tmp_path / "folder"):
        pass
    for ours, plain in (("a.json", "plain"), ("folder", "plain-folder")):
        assert (tmp_path / ours).stat().st_mode == (tmp_path / plain).stat().st_mode


def test_a_lock_is_refused_by_name_while_its_process_lives_and_not_longer(tmp_path, other_process):
    path = tmp_path / "lock"
    process = hold(other_process, f"locked(Path({str(path)!r}), if_held=print)")
    with pytest.raises(UserError, match=f"held by process {process.pid} on "):
        locked(path, if_held=refuse).__enter__()
    kill(process)
    assert path.exists()
    with locked(path, if_held=refuse) as is_held:
        assert is_held
        assert f"process {os.getpid()} " in path.read_text()
    assert not path.exists()


def test_who_does_not_refuse_waits(tmp_path, other_process):
    path = tmp_path / "lock"
    process = hold(other_process, f"locked(Path({str(path)!r}), if_held=print)")
    told = []

    def end(holder):
        told.append(holder)
        process.kill()

    with locked(path, if_held=end) as is_held:
        assert is_held
    assert re.match(rf"process {process.pid} on .+", told[0])


def test_a_lock_whose_holder_has_removed_the_file_is_taken_again(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    flock, calls = fcntl.flock, []

    def late(file, operation):
        if not calls:
            path.unlink()  # by whoever held it when this process opened it
        calls.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path, if_held=refuse), pytest.raises(UserError, match="held by process"):
        locked(path, if_held=refuse).__enter__()


def test_a_file_system_without_locks_is_told_and_nothing_is_swept(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path / "lock", if_held=refuse) as is_held:
        assert not is_held
    (tmp_path / f"{TEMPORARY}x").mkdir()
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [f"{TEMPORARY}x"]


@pytest.mark.parametrize("what", ["atomic_path", "atomic_folder"])
def test_a_sweep_removes_what_killed_writers_left_and_nothing_of_living_ones(
    tmp_path, other_process, what
):
    writers = [
        hold(other_process, f"{what}(Path({str(tmp_path / name / 'x')!r}))") for name in "ab"
    ]
    kill(writers[0])
    assert len(list(tmp_path.rglob(f"{TEMPORARY}*"))) == 2
    sweep(tmp_path)
    assert not list((tmp_path / "a").iterdir())
    assert len(list((tmp_path / "b").iterdir())) == 1


def test_a_record_comes_back(tmp_path):
    record = {"a": [1, 2.5, None], "b": {"c": "é"}}
    write_record(tmp_path / "r.json", record, format=3)
    read = read_record(tmp_path / "r.json", format=3, way_out="make it anew")
    assert read == {"format": 3, **record}
    with pytest.raises(UserError, match=r"it has format 3, this one reads 4.: make it anew"):
        read_record(tmp_path / "r.json", format=4, way_out="make it anew")


@pytest.mark.parametrize(
    ("old", "new"), [("1", "7"), ("é", "e"), ('"b"', '"a"'), ("sha256", "sha1")]
)
def test_a_changed_record_is_refused(tmp_path, old, new):
    path = tmp_path / "r.json"
    write_record(path, {"a": 1, "b": "é"}, format=3)
    path.write_text(path.read_text().replace("\\u00e9", "é"))
    read_record(path, format=3, way_out="")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=r"r\.json is damaged .*: make it anew"):
        read_record(path, format=3, way_out="make it anew")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff{}", b"[" * 10**5, b"9" * 5000, b"{}\x00"]
)
def test_what_is_no_object_is_refused_with_a_way_out(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"r\.json is damaged .*: make it anew$"):
        read_json(path, way_out="make it anew")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*r\.json \(No such file .*: make it anew"):
        read_json(tmp_path / "r.json", way_out="make it anew")


def test_files_are_compared_with_their_checksums(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    expected = checksums(tmp_path)
    assert list(expected) == ["b", "sub/a"]
    check_files(tmp_path, expected, way_out="make it anew")
    (tmp_path / "b").write_text("c")
    with pytest.raises(UserError, match=r"b is damaged .*: make it anew"):
        check_files(tmp_path, expected, way_out="make it anew")
    (tmp_path / "b").unlink()
    with pytest.raises(UserError, match=r"cannot read .*b \(No such file .*: make it anew"):
        check_files(tmp_path, expected, way_out="make it anew")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_records_are_strict_json(tmp_path, value):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"measure": [value]})
    assert not list(tmp_path.iterdir())
    write_json(path, json_ready({"measure": [value, 1.5]}))
    assert json.loads(path.read_text()) == {"measure": [None, 1.5]}
