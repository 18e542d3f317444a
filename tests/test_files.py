"""A write leaves the old thing or the whole new one."""

import contextlib
import json
import math

import pytest

from seqgen.files import atomic_folder, atomic_path, json_ready, write_json


class Full(Exception):
    """The disk is full."""


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_records_are_strict_json(tmp_path, value):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"measure": [value]})
    assert not list(tmp_path.iterdir())
    write_json(path, json_ready({"measure": [value, 1.5]}))
    assert json.loads(path.read_text()) == {"measure": [None, 1.5]}
