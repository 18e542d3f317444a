"""A Ray cluster prepares the same data as one machine; what is wrong with it is one sentence."""

import pickle
import sys
from types import SimpleNamespace

import pytest
from making import write_songs
from readers import obedient

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.prepare import prepare
from seqgen.data.ray_engine import RayEngine, _Worker
from seqgen.errors import FileRejected, UserError

LIMITS = LimitsConfig()
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray's own, in itself


def connect(address):
    return RayEngine(LIMITS, address=address, workers=1)


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs Ray.*pip install 'seqgen\[scale\]'"):
        connect(None)


def test_a_node_without_the_data_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("text")
    row = {"start": 0, "node": "node-7", "unseen": str(tmp_path / "a.txt"), "result": b""}
    rows = SimpleNamespace(iter_rows=lambda: [row])
    engine = RayEngine.__new__(RayEngine)
    engine._limits, engine._workers = LIMITS, 1
    engine._ray = SimpleNamespace(
        data=SimpleNamespace(
            from_items=lambda *_, **__: SimpleNamespace(map=lambda *_, **__: rows),
            ActorPoolStrategy=lambda **_: None,
        ),
        exceptions=SimpleNamespace(RayError=OSError),
    )
    with pytest.raises(UserError, match=r"the node node-7 .* does not see .*a\.txt"):
        list(engine.map(None, ["a.txt"], [range(1)], tell=lambda *_: None))


class Obedient:
    """Does to its process what a file is called; see `readers.py`."""

    def __init__(self, folder):
        self._folder = folder

    def job(self, label):
        return (self._folder / label,)

    load = staticmethod(obedient)

    def join(self, labels, results):
        return dict(zip(labels, results, strict=True))


@pytest.fixture
def cluster():
    """A cluster of this machine."""
    pytest.importorskip("ray.data")
    try:
        engine = RayEngine(LIMITS, address=None, workers=1)
    except UserError as error:  # Ray gives its processes fifteen seconds: too few on a busy machine
        pytest.skip(str(error))
    with engine:
        yield engine


@pytest.mark.slow
def test_a_cluster_gives_what_one_machine_gives(tmp_path, cluster):
    songs = write_songs(tmp_path / "songs", 6, bars=2)
    (songs / "bad.mid").write_bytes(b"MThd")
    for name, engine in (("here", None), ("there", cluster)):
        config = DataConfig(source=str(songs), prepared_dir=str(tmp_path / name), workers=1)
        prepare(config, LIMITS, TokenizerConfig(), engine=engine)
    (here,), (there,) = ((tmp_path / name).iterdir() for name in ("here", "there"))
    files = [path.relative_to(here) for path in here.rglob("*") if path.is_file()]
    assert len(files) > 6
    for file in files:
        assert (here / file).read_bytes() == (there / file).read_bytes()


def test_a_file_that_crashes_its_process_costs_a_worker_that_file(tmp_path):
    labels = ["before", "SIGKILL", "after"]
    for label in labels:
        (tmp_path / label).write_text(label)
    worker = _Worker(LimitsConfig(max_memory_bytes=500_000_000), Obedient(tmp_path))
    row = worker({"start": 0, "labels": "\0".join(labels).encode()})
    found = pickle.loads(row["result"])
    assert (found["before"], found["after"]) == ("before", "after")
    assert isinstance(found["SIGKILL"], FileRejected)
    assert not row["unseen"]
    worker._readers.__exit__()
