"""Pieces told as a source and a target: nothing is lost, and bad files do not stop good ones."""

import numpy as np
import pytest
from making import write_songs
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.pairs import PairBatches, held_out_pairs
from seqgen.errors import FileRejected, UserError
from seqgen.midi import open_midi
from seqgen.tasks import open_pairs

PARTS = "piano -> bass"
BYTES = TokenizerConfig(type="bytes")


def prepare_pairs(folder, pairs, tokenizer):
    config = DataConfig(source=str(folder), prepared_dir=f"{folder}-prepared", pairs=pairs)
    return prepare(config, LimitsConfig(), tokenizer).data


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Songs of a piano and a bass, and one of a piano alone."""
    folder = write_songs(tmp_path_factory.mktemp("pairs") / "songs", 6, bars=6)
    alone = open_midi(folder / "song-00.mid")
    alone.instruments = alone.instruments[:1]
    alone.dump(str(folder / "alone.mid"))
    return prepare_pairs(folder, PARTS, TokenizerConfig(parts="tracks"))


def skipped(data):
    report = (data.folder / "report.json").read_text()
    return [line for line in report.splitlines() if '"reason"' in line]


def notes(midi):
    return sorted((n.start, n.pitch, n.end) for track in midi.instruments for n in track.notes)


@pytest.mark.parametrize("room", [20, 48, 4096])
def test_windows_hold_all_of_a_piece_and_join_to_it(songs, room):
    pairs, tokenizer = open_pairs(PARTS, songs.tokenizer), songs.tokenizer
    for piece in songs.pieces:
        ids = songs.read(piece)
        windows = list(pairs.windows(ids, room))
        assert sum(tokenizer.units(w.target) + tokenizer.units(w.source) for w in windows) == 48
        assert all(len(w.source) <= room and len(w.target) <= room + 1 for w in windows)
        vocabulary = tokenizer.vocabulary
        for w in windows:
            for side in (w.source, w.target):
                assert (side[0, 0], side[-1, 0]) == (vocabulary.bos_id, vocabulary.eos_id)
            bars = [(side == tokenizer.bar).sum() for side in (w.source, w.target)]
            assert bars[0] == bars[1] > 0
    whole = windows[0]
    if len(windows) == 1:
        joined = tokenizer.played(pairs.join(whole.source, whole.target))
        assert notes(joined) == notes(tokenizer.played(ids))
        assert not set(pairs.forbidden) & set(whole.target[:, 0])


def test_a_file_without_one_side_is_skipped_and_refused_as_a_source(songs, tmp_path):
    [line] = skipped(songs)
    assert "none of its tracks is told as" in line
    assert "Bass" in line
    midi = open_midi(write_songs(tmp_path / "songs", 1) / "song-00.mid")
    midi.instruments = midi.instruments[1:]
    midi.dump(str(tmp_path / "bass.mid"))
    pairs = open_pairs(PARTS, songs.tokenizer)
    with pytest.raises(FileRejected, match=r"bass\.mid: none of its tracks is told as"):
        pairs.source_of(tmp_path / "bass.mid")


@pytest.mark.parametrize(
    ("pairs", "tokenizer", "said"),
    [
        ("piano -> flute", {"parts": "tracks"}, "no part called 'flute'"),
        ("piano -> piano", {"parts": "tracks"}, "on both sides"),
        (PARTS, {"parts": "one"}, "tokenizer.parts=tracks"),
    ],
)
def test_parts_that_cannot_be_told_are_named(tmp_path, pairs, tokenizer, said):
    write_songs(tmp_path / "songs", 2, bars=2)
    with pytest.raises(UserError, match=said):
        prepare_pairs(tmp_path / "songs", pairs, TokenizerConfig(**tokenizer))


def test_batches_are_pairs_and_a_function_of_seed_and_number(songs):
    pairs = open_pairs(PARTS, songs.tokenizer)
    sizes = {"batch_size": 3, "context_length": 40}
    first, again = (PairBatches(songs, pairs, split="train", seed=5, **sizes) for _ in range(2))
    again.batch(0)
    batch, same = first.batch(2), again.batch(2)
    assert np.array_equal(batch.tokens, same.tokens)
    assert np.array_equal(batch.source, same.source)
    assert (batch.targets.sum(1) == batch.lengths).all()
    pad = songs.tokenizer.vocabulary.pad_id
    for b in range(3):
        assert (batch.tokens[b, batch.lengths[b] + 1 :] == pad).all()
        assert (batch.source[b, : batch.source_lengths[b]] != pad).all()
    held_out = songs.of_split("validation")
    targets = [b.targets.sum() for b in held_out_pairs(songs, held_out, pairs, **sizes)]
    windows = [w for x in held_out for w in pairs.windows(songs.read(x), 40)]
    assert sum(targets) == sum(len(w.target) - 1 for w in windows)


def test_files_in_pairs_are_stored_together_and_others_named(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.source.txt").write_text(f"source {name}")
        (folder / f"{name}.target.txt").write_text(f"target {name}!")
    (folder / "d.source.txt").write_text("alone")
    (folder / "notes.txt").write_text("neither")
    data = prepare_pairs(folder, "files", BYTES)
    pairs = open_pairs("files", data.tokenizer)
    read = [next(pairs.windows(data.read(piece), 100)) for piece in data.pieces]
    told = sorted(tuple(bytes(x[1:-1, 0].tolist()) for x in (w.source, w.target)) for w in read)
    assert told == [(f"source {n}".encode(), f"target {n}!".encode()) for n in "abc"]
    reasons = " ".join(skipped(data))
    assert "no partner d.target.txt" in reasons
    assert "ends neither in .source.txt nor in .target.txt" in reasons
    assert np.array_equal(pairs.join(read[0].source, read[0].target), read[0].target)


def test_a_changed_target_is_prepared_again(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.source.txt").write_text(name)
        (tmp_path / f"{name}.target.txt").write_text(f"{name} before")
    prepare_pairs(tmp_path, "files", BYTES)
    (tmp_path / "a.target.txt").write_text("another target")
    data = prepare_pairs(tmp_path, "files", BYTES)
    stored = b"".join(bytes(data.read(x)[:, 0].astype(np.uint8)) for x in data.pieces)
    assert b"another target" in stored


def test_lines_are_pairs_and_must_be_as_many(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.source.txt").write_text("one\n\ntwo\nthree")
    (folder / "a.target.txt").write_text("eins\n\nzwei\n\n")
    (folder / "b.source.txt").write_text("alone")
    data = prepare_pairs(folder, "lines", BYTES)
    pairs = open_pairs("lines", data.tokenizer)
    read = [next(pairs.windows(data.read(piece), 100)) for piece in data.pieces]
    told = sorted(tuple(bytes(x[1:-1, 0].tolist()) for x in (w.source, w.target)) for w in read)
    assert told == [(b"one\n", b"eins\n"), (b"two\n", b"zwei\n")]
    assert "no partner b.target.txt" in " ".join(skipped(data))
    (folder / "a.target.txt").write_text("eins")
    with pytest.raises(UserError, match=r"has 4 lines and .* has 1"):
        prepare_pairs(folder, "lines", BYTES)
