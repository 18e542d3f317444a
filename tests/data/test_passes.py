"""A preparation that was killed goes on where it was, and comes to the same result."""

import pickle

import pytest

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data import passes
from seqgen.data.prepare import prepare
from seqgen.errors import UserError

PARTS = ("tokens.bin", "pieces.bin", "variants.bin", "names.bin", "report.json", "files.jsonl")


class Engine:
    """Reads files in this process, shards in reverse order; is killed after so many of them."""

    def __init__(self, *, shards=100):
        self.read, self._left = [], shards

    def map(self, work, labels, shards, *, tell):
        do = work.load()
        for shard in reversed(shards):
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            names = [labels[number] for number in shard]
            self.read += names
            yield shard, work.join(names, [do(*work.job(name)) for name in names])


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """Eleven texts, two of a shard, in a folder."""
    monkeypatch.setattr(passes, "SHARD", 2)
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(11):
        (folder / f"{i:02d}.txt").write_text(f"text {i} " * 20)
    return folder


def make(source, engine, place="prepared"):
    config = DataConfig(source=str(source), prepared_dir=str(source.parent / place))
    tokens = TokenizerConfig(type="bytes")
    return prepare(config, LimitsConfig(), tokens, engine=engine).data


def kill(source, *, after):
    engine = Engine(shards=after)
    with pytest.raises(KeyboardInterrupt):
        make(source, engine)
    return engine.read


def test_a_preparation_that_is_killed_again_and_again_reads_each_shard_once(texts):
    read = [*kill(texts, after=2), *kill(texts, after=1), *kill(texts, after=2)]
    last = Engine()
    data = make(texts, last)
    assert sorted(read + last.read) == [f"{i:02d}.txt" for i in range(11)]
    whole = make(texts, Engine(), place="whole")
    assert data.index == whole.index
    for part in PARTS:
        assert (data.folder / part).read_bytes() == (whole.folder / part).read_bytes()
    assert [*data.folder.parent.iterdir()] == [data.folder]


def test_only_shards_of_changed_files_are_read_again(texts):
    kill(texts, after=5)  # all but the first
    (texts / "05.txt").write_text("another text")
    last = Engine()
    make(texts, last)
    assert sorted(last.read) == ["00.txt", "01.txt", "04.txt", "05.txt"]


def test_a_damaged_shard_is_made_again(texts):
    kill(texts, after=5)
    shard = next(texts.parent.glob("prepared/.*/*.shard"))
    shard.write_bytes(shard.read_bytes()[:20])
    with pytest.raises(UserError, match="was damaged and is deleted: start again"):
        make(texts, Engine())
    assert len(make(texts, Engine()).pieces) == 11


@pytest.mark.parametrize("called", [print, prepare])
def test_what_a_shard_would_call_is_not_called(texts, called):
    class Trap:
        def __reduce__(self):
            return called, ("called",)

    kill(texts, after=5)
    shard = next(texts.parent.glob("prepared/.*/*.shard"))
    shard.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="was damaged and is deleted: start again"):
        make(texts, Engine())


def test_local_processes_give_the_same(texts):
    here, there = make(texts, None), make(texts, Engine(), place="there")
    assert here.index == there.index
