"""A folder is searched whole, links included, and what is passed over is told."""

import json
import os
import shutil
import socket

import pytest
from making import write_songs
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data import corpora
from seqgen.data.corpora import describe_passed_over, open_corpus
from seqgen.errors import UserError

MIDI = frozenset({".mid", ".midi"})


@pytest.fixture
def folder(tmp_path):
    """An empty folder; what lies beside it is not below it."""
    (tmp_path / "songs").mkdir()
    return tmp_path / "songs"


def touch(*paths):
    """Make empty files and the folders that hold them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def search(*sources):
    """Return the names of the files found, and of what was passed over by kind."""
    given = [str(source) for source in sources]
    corpus = open_corpus(given if len(given) > 1 else given[0], MIDI, cache=sources[0])
    assert all(corpus.path(label).is_file() for label in corpus.labels)
    return [*corpus.labels], corpus.passed_over


def test_linked_folders_and_files_are_followed(folder, tmp_path):
    touch(folder / "own.mid", tmp_path / "far" / "deep" / "a.mid", tmp_path / "b.mid")
    (folder / "linked").symlink_to(tmp_path / "far")
    (folder / "alias.mid").symlink_to("../b.mid")
    assert search(folder) == (["alias.mid", "linked/deep/a.mid", "own.mid"], {})


def test_links_to_links_and_links_inside_linked_folders_are_followed(folder, tmp_path):
    touch(tmp_path / "one" / "a.mid", tmp_path / "two" / "b.mid")
    (tmp_path / "one" / "on").symlink_to(tmp_path / "two")
    (tmp_path / "hop").symlink_to(tmp_path / "one")
    (folder / "start").symlink_to(tmp_path / "hop")
    assert search(folder) == (["start/a.mid", "start/on/b.mid"], {})


def test_circles_end_and_a_file_reached_twice_counts_once_under_its_own_name(folder, tmp_path):
    touch(folder / "sub" / "z.mid")
    (folder / "a.mid").symlink_to(folder / "sub" / "z.mid")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    (folder / "self").symlink_to("self")
    os.link(folder / "sub" / "z.mid", folder / "sub" / "zz.mid")
    files, passed_over = search(folder)
    assert files == ["sub/z.mid"]
    assert {kind: sorted(names) for kind, names in passed_over.items()} == {
        "broken link": ["self"],
        "file or folder reached twice": ["a.mid", "again", "sub/up", "sub/zz.mid"],
    }


def test_whatever_is_not_read_is_named_by_kind(folder, monkeypatch):
    touch(folder / "a.MID", folder / "b.kar", folder / "x" / "c.KAR", folder / "d.rmi")
    touch(folder / "README", folder / ".git" / "e.mid", folder / "._a.mid")
    (folder / "gone.mid").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.mid")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)  # the path of a socket must be short
        server.bind("s.mid")
        files, passed_over = search(folder)
    assert files == ["a.MID"]
    assert {kind: sorted(names) for kind, names in passed_over.items()} == {
        ".kar": ["b.kar", "x/c.KAR"],
        ".rmi": ["d.rmi"],
        "none": ["README"],
        "hidden file or folder": ["._a.mid", ".git"],
        "broken link": ["gone.mid"],
        "pipe, socket or device": ["pipe.mid", "s.mid"],
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_named(folder):
    touch(folder / "a.mid", folder / "closed" / "b.mid")
    (folder / "closed").chmod(0)
    files, passed_over = search(folder)
    (folder / "closed").chmod(0o700)
    assert (files, passed_over) == (["a.mid"], {"unreadable file or folder": ["closed"]})


def test_what_was_passed_over_is_said_in_a_sentence():
    assert describe_passed_over({}) == ""
    assert describe_passed_over({"broken link": 1}) == "1 broken link"
    counts = {"broken link": 2, ".kar": 1, ".txt": 4, "pipe, socket or device": 1}
    said = "5 with other suffixes (.txt, .kar), 2 broken links, 1 pipe, socket or device"
    assert describe_passed_over(counts) == said
    many = {f".{letter}": 1 for letter in "abcdefghijk"}
    assert describe_passed_over(many).endswith("(.a, .b, .c, .d, .e, .f, .g, .h, …)")


def test_a_folder_of_nothing_usable_says_what_it_holds(folder):
    touch(folder / "a.kar")
    (folder / "b.mid").symlink_to(folder / "nothing")
    with pytest.raises(UserError, match=r"it holds 1 with another suffix \(\.kar\), 1 broken link"):
        search(folder)


def test_the_report_names_what_was_passed_over(folder, tmp_path):
    write_songs(folder, 4, bars=2)
    shutil.copy(folder / "song-00.mid", folder / "song.mod")
    (folder / "gone.mid").symlink_to(folder / "nothing")
    config = DataConfig(source=str(folder), prepared_dir=str(tmp_path / "prepared"))
    data = prepare(config, LimitsConfig(), TokenizerConfig()).data
    report = json.loads((data.folder / "report.json").read_text())
    assert report["files_seen"] == report["files_used"] == 4
    assert report["passed_over"] == {".mod": ["song.mod"], "broken link": ["gone.mid"]}
    assert report["passed_over_by_kind"] == {".mod": 1, "broken link": 1}


def test_what_lies_beside_the_pieces_of_an_embedded_corpus_is_not_reported(tmp_path, monkeypatch):
    def build(scores, folder, *, progress):
        write_songs(folder, 2, bars=1)
        (folder / "manifest.json").write_text("{}")
        return folder

    monkeypatch.setattr(corpora, "build_scores", build)
    corpus = open_corpus("chorales", frozenset({".mid"}), cache=tmp_path)
    assert (len(corpus.labels), corpus.passed_over) == (2, {})


def test_several_sources_are_one_corpus_and_labels_name_them(tmp_path):
    touch(tmp_path / "x" / "midi" / "a.mid", tmp_path / "y" / "midi" / "b" / "a.mid")
    touch(tmp_path / "z" / "a.mid", tmp_path / "z" / "left.mid", tmp_path / "x" / "midi" / "n.txt")
    sources = [tmp_path / "x" / "midi", tmp_path / "y" / "midi", tmp_path / "z" / "a.mid"]
    files, passed_over = search(*sources)
    assert files == ["a.mid", "midi/a.mid", "midi-2/b/a.mid"]
    assert passed_over == {".txt": ["midi/n.txt"]}
    assert open_corpus([str(sources[0])], MIDI, cache=tmp_path).labels[0] == "a.mid"


def test_names_that_are_numbered_are_unique(tmp_path):
    folders = [tmp_path / "a", tmp_path / "a-2", tmp_path / "b" / "a", tmp_path / "c" / "a"]
    touch(*(folder / "1.mid" for folder in folders))
    assert search(*folders)[0] == ["a/1.mid", "a-2/1.mid", "a-3/1.mid", "a-4/1.mid"]


def test_a_file_that_several_sources_reach_is_read_once(folder, tmp_path):
    touch(folder / "sub" / "a.mid", folder / "b.mid", tmp_path / "other" / "c.mid")
    (tmp_path / "other" / "link.mid").symlink_to(folder / "b.mid")
    (tmp_path / "other" / "songs").symlink_to(folder)
    files, passed_over = search(tmp_path / "other", folder, folder / "sub", folder)
    assert files == ["other/c.mid", "songs/b.mid", "songs/sub/a.mid"]
    twice = ["other/link.mid", "other/songs", "songs-2", "sub"]
    assert {kind: sorted(names) for kind, names in passed_over.items()} == {
        "file or folder reached twice": twice
    }
    assert search(folder / "sub", folder)[0] == ["songs/b.mid", "sub/a.mid"]


def test_the_source_that_is_wrong_is_named(folder, tmp_path):
    touch(folder / "a.mid", tmp_path / "texts" / "b.txt")
    with pytest.raises(UserError, match=r"data\.source=nowhere: no such folder or file"):
        search(folder, "nowhere")
    with pytest.raises(UserError, match=r"no .* file in .*texts: it holds 1 with another suffix"):
        search(folder, tmp_path / "texts")


def test_several_sources_are_prepared_together_and_apart_from_each_alone(tmp_path):
    sources = [str(write_songs(tmp_path / name / "songs", 3, bars=2)) for name in "ab"]
    (tmp_path / "b" / "songs" / "own.mid").write_bytes(b"x")

    def make(source):
        config = DataConfig(source=source, prepared_dir=str(tmp_path / "prepared"))
        return prepare(config, LimitsConfig(), TokenizerConfig())

    data = make(sources).data
    files = [f"{name}/song-0{i}.mid" for name in ("songs", "songs-2") for i in range(3)]
    assert [piece.file for piece in data.pieces] == files
    assert {piece.split for piece in data.pieces if piece.file.endswith("0.mid")} in (
        {"train"},
        {"validation"},
        {"test"},
    )
    report = json.loads((data.folder / "report.json").read_text())
    assert [entry["file"] for entry in report["skipped"]] == ["songs-2/own.mid"]
    assert not make(sources).built
    assert make(sources[0]).data.folder != data.folder
