"""Any folder becomes prepared data; bad files are listed, and nothing foreign is overwritten."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from making import TICKS, write_song, write_songs
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.corpora import open_corpus
from seqgen.data.shards import FORMAT, INDEX, PreparedData
from seqgen.data.splits import SPLITS, TRAIN, VALIDATION
from seqgen.errors import UserError
from seqgen.files import TEMPORARY, read_record, write_record
from seqgen.midi import Instrument, MidiFile, Note


@pytest.fixture
def make(tmp_path):
    """Prepare `source` with changed settings; returns the Preparation."""

    def run(source, *, tokenizer=None, **settings):
        usual = {"prepared_dir": str(tmp_path / "prepared"), "workers": 1}
        shares = {"validation": 0.2, "test": 0.2}
        config = DataConfig(source=str(source), **{**usual, **shares, **settings})
        several = {} if config.workers == 1 else {"engine": None}
        return prepare(config, LimitsConfig(), tokenizer or TokenizerConfig(), **several)

    return run


def test_bos_and_eos_stand_at_true_beginnings_and_endings_only(tmp_path, make):
    data = make(write_songs(tmp_path / "songs", 8)).data
    v = data.tokenizer.vocabulary
    for piece in data.pieces:
        ids = data.read(piece)[:, 0]
        assert ids[0] == v.bos_id
        assert ids[-1] == v.eos_id
        assert not np.isin(ids[1:-1], v.special_ids).any()
        assert data.tokenizer.units(data.read(piece)) == piece.units == 64


def test_bad_files_are_listed_and_stop_nothing(tmp_path, make):
    folder = write_songs(tmp_path / "songs", 6)
    (folder / "empty.mid").write_bytes(b"")
    (folder / "text.mid").write_text("not music")
    good = (folder / "song-00.mid").read_bytes()
    (folder / "cut.mid").write_bytes(good[: len(good) // 3])
    (folder / "notes.txt").write_text("left alone")
    data = make(folder).data
    report = json.loads((data.folder / "report.json").read_text())
    assert (report["files_seen"], report["files_used"]) == (9, 6)
    reasons = {entry["file"]: entry for entry in report["skipped"]}
    assert set(reasons) == {"empty.mid", "text.mid", "cut.mid"}
    assert all(entry["reason"] and entry["kind"] for entry in reasons.values())


def test_parallel_workers_give_what_one_gives(tmp_path, make):
    folder = write_songs(tmp_path / "songs", 26, bars=2)
    (folder / "bad.mid").write_bytes(b"MThd")
    one = make(folder, prepared_dir=str(tmp_path / "one"), workers=1).data
    two = make(folder, prepared_dir=str(tmp_path / "two"), workers=2).data
    for name in ("tokens.bin", "pieces.bin", "index.json", "report.json"):
        first, second = (data.folder / name for data in (one, two))
        assert first.read_bytes() == second.read_bytes()


def test_a_folder_without_usable_files_is_an_error_that_says_what_was_seen(tmp_path, make):
    folder = tmp_path / "songs"
    folder.mkdir()
    with pytest.raises(UserError, match="no file at all"):
        make(folder)
    (folder / "a.wav").write_bytes(b"x")
    with pytest.raises(UserError, match=r"it holds 1 with another suffix \(\.wav\)"):
        make(folder)
    (folder / "a.mid").write_bytes(b"x")
    with pytest.raises(UserError, match="1 seen"):
        make(folder)
    assert not list((tmp_path / "prepared").glob("*"))


def test_the_same_is_reused_and_the_stale_rebuilt(tmp_path, make):
    folder = write_songs(tmp_path / "songs", 4)
    assert make(folder).built
    assert not make(folder).built
    write_song(folder / "new.mid", seed=99)
    again = make(folder)
    assert again.built
    assert len({piece.file for piece in again.data.pieces}) == 5


def test_other_settings_keep_their_own_folder(tmp_path, make):
    folder = write_songs(tmp_path / "songs", 4)
    plain = make(folder).data
    assert make(folder, transpose=1).built
    again = make(folder)
    assert not again.built
    assert again.data.folder == plain.folder


def test_the_same_files_elsewhere_have_the_same_content(tmp_path, make):
    first = make(write_songs(tmp_path / "a" / "songs", 4), prepared_dir=str(tmp_path / "1")).data
    second = make(write_songs(tmp_path / "b" / "songs", 4), prepared_dir=str(tmp_path / "2")).data
    assert first.index["content"] == second.index["content"]
    assert first.index["fingerprint"] != second.index["fingerprint"]


def test_what_is_foreign_is_refused(tmp_path, make):
    folder = write_songs(tmp_path / "songs", 4)
    foreign = make(folder).data.folder
    shutil.rmtree(foreign)
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("precious")
    with pytest.raises(UserError, match="is not prepared data"):
        make(folder)
    assert (foreign / "thesis.doc").read_text() == "precious"
    shutil.rmtree(foreign)
    index = make(folder).data.folder / INDEX
    record = read_record(index, format=FORMAT, way_out="")
    write_record(index, record | {"sources": {".": "/another/place"}}, format=FORMAT)
    with pytest.raises(UserError, match="was prepared from /another/place"):
        make(folder)


def test_folders_of_the_same_name_have_their_own_data(tmp_path, make):
    first = make(write_songs(tmp_path / "a" / "midi", 4)).data
    second = make(write_songs(tmp_path / "b" / "midi", 5)).data
    assert (len(first.pieces), len(second.pieces)) == (4, 5)
    assert not make(tmp_path / "a" / "midi").built


@pytest.mark.parametrize(
    "name", ["tokens.bin", "pieces.bin", "index.json", "tokenizer/tokenizer.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_prepared_data_is_refused(tmp_path, make, name, damage):
    folder = make(write_songs(tmp_path / "songs", 4)).data.folder
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{name} .*(damaged|should hold).*: delete .* to prepare"):
        read_all(folder)


def read_all(folder):
    data = PreparedData(folder)
    return data.tokenizer, data.read(data.pieces[0])


@pytest.mark.parametrize("n_songs", [2, 3, 10])
def test_variants_are_for_training_only(tmp_path, make, n_songs):
    data = make(write_songs(tmp_path / "songs", n_songs), transpose=2, velocity=10).data
    for piece in data.pieces:
        assert len(piece.variants) == (15 if piece.split == TRAIN else 1)
    piece = data.of_split(TRAIN)[0]
    assert np.array_equal(data.read(piece)[:, 0], data.read(piece, variant=0)[:, 0])
    assert not np.array_equal(data.read(piece), data.read(piece, variant=1))


def test_no_file_is_in_two_splits(tmp_path, make):
    folder = write_songs(tmp_path / "songs", 20, bars=2)
    shutil.copy(folder / "song-00.mid", folder / "copy.mid")
    data = make(folder).data
    where = {piece.file: piece.split for piece in data.pieces}
    assert where["copy.mid"] == where["song-00.mid"]
    assert set(where.values()) == set(SPLITS)


MERGED = TokenizerConfig(bpe_vocab_size=400)


def write_noise(path, *, seed, n_notes=400):
    """Write sixteenths drawn evenly from 8 pitches."""
    rng = np.random.default_rng(seed)
    track = Instrument(0)
    for i, pitch in enumerate(rng.choice([60, 62, 64, 65, 67, 69, 71, 72], n_notes).tolist()):
        track.notes.append(Note(80, pitch, i * TICKS // 4, (i + 1) * TICKS // 4))
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.instruments = [track]
    path.parent.mkdir(exist_ok=True)
    midi.dump(str(path))


def merges_of(tokenizer, unmerged):
    """Merged tokens as runs of plain ids."""
    plain = unmerged.names()
    number = {name: i for i, name in enumerate(plain)}
    return [[number[part] for part in name.split("+")] for name in tokenizer.names()[len(plain) :]]


def holds(ids, run):
    return any(ids[i : i + len(run)] == run for i in range(len(ids) - len(run) + 1))


@pytest.mark.parametrize("n_songs", [1, 2, 3, 8])
def test_merges_are_learned_from_what_is_training_in_the_end_alone(tmp_path, make, n_songs):
    folder = write_songs(tmp_path / "songs", n_songs, bars=24)
    plain = make(folder).data
    merged = make(folder, tokenizer=MERGED).data
    assert [(p.file, p.split, p.units) for p in merged.pieces] == [
        (p.file, p.split, p.units) for p in plain.pieces
    ]
    assert {TRAIN, VALIDATION} <= {piece.split for piece in plain.pieces}
    v = plain.tokenizer.vocabulary
    training = [plain.read(piece) for piece in plain.of_split(TRAIN)]
    again = plain.tokenizer.train(training, vocab_size=400)
    assert again.names() == merged.tokenizer.names()
    assert merged.tokenizer.vocabulary.sizes == (400,)
    learned_from = [ids[:, 0].tolist() for ids in training]
    for run in merges_of(merged.tokenizer, plain.tokenizer):
        assert any(holds(ids, run) for ids in learned_from)
    for a, b in zip(plain.pieces, merged.pieces, strict=True):
        assert np.array_equal(again.merge(plain.read(a)), merged.read(b))
        assert (merged.read(b)[0, 0] == v.bos_id) == (plain.read(a)[0, 0] == v.bos_id)


@pytest.mark.parametrize("n_files", [1, 2])
def test_merges_do_not_shorten_held_out_noise(tmp_path, make, n_files):
    """No model of other noise foresees notes drawn evenly from 8 pitches: each holds 3 bits."""
    for i in range(n_files):
        write_noise(tmp_path / "noise" / f"{i}.mid", seed=i)
    config = TokenizerConfig(bpe_vocab_size=600)
    data = make(tmp_path / "noise", tokenizer=config, validation=0.3, test=0.0).data
    counts = np.ones(data.tokenizer.vocabulary.sizes[0])
    for piece in data.of_split(TRAIN):
        np.add.at(counts, data.read(piece)[:, 0], 1)
    (piece,) = data.of_split(VALIDATION)
    bits = -np.log2(counts / counts.sum())[data.read(piece)[:, 0]]
    assert bits.sum() / piece.units > 3


@pytest.mark.parametrize("type", ["remi", "cpword"])
def test_no_part_of_a_single_file_quotes_another(tmp_path, make, type):
    path = write_song(tmp_path / "song.mid", bars=80)  # whose chords come back
    config = TokenizerConfig(type=type, quotes=True, parts="tracks")
    data = make(path, tokenizer=config).data
    assert len(data.pieces) == 3
    for piece in data.pieces:
        assert not any("quote" in data.tokenizer.names()[i].lower() for i in data.read(piece)[:, 0])
        assert data.tokenizer.units(data.read(piece)) == piece.units
    assert sum(piece.units for piece in data.pieces) == 80 * 8


def test_a_single_text_file_is_cut_before_any_window(tmp_path, make):
    text = "".join(f"line {i} of a long poem\n" for i in range(300))
    (tmp_path / "poem.txt").write_text(text)
    data = make(
        tmp_path / "poem.txt", tokenizer=TokenizerConfig(type="bytes"), validation=0.1, test=0.1
    ).data
    v = data.tokenizer.vocabulary
    parts = [data.read(data.of_split(split)[0])[:, 0] for split in SPLITS]
    whole = np.concatenate(parts)
    assert bytes(whole[1:-1].astype(np.uint8)).decode() == text
    assert (whole[0], whole[-1]) == (v.bos_id, v.eos_id)
    assert abs(len(parts[1]) / len(whole) - 0.1) < 0.01
    assert [data.of_split(s)[0].units for s in SPLITS] == [
        int((part < 256).sum()) for part in parts
    ]


def test_sources_are_found_by_folder_file_or_name(tmp_path):
    folder = tmp_path / "mine"
    for name in ("b/2.MID", "a.midi", "._a.mid", ".trash/c.mid", "b/notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "folder.mid").mkdir()
    suffixes = frozenset({".mid", ".midi"})
    corpus = open_corpus(str(folder), suffixes, cache=tmp_path)
    assert [*corpus.labels] == ["a.midi", "b/2.MID"]
    assert open_corpus(str(folder / "a.midi"), suffixes, cache=tmp_path).name == "a"
    with pytest.raises(
        UserError, match=r"known corpora: chorales, .*, jsb, jsb-quarter, mnist, pop909"
    ):
        open_corpus("chorals", suffixes, cache=tmp_path)
    with pytest.raises(UserError, match=r"README\.md"):
        open_corpus("pop909", suffixes, cache=tmp_path)


def test_validation_may_be_left_out(tmp_path, make):
    data = make(write_songs(tmp_path / "songs", 4), validation=0.0, test=0.0).data
    assert not data.of_split(VALIDATION)


def test_two_processes_that_prepare_the_same_data_make_it_once(tmp_path, make):
    source = write_songs(tmp_path / "songs", 4)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make(source), range(4)))
    assert sorted(preparation.built for preparation in made) == [False, False, False, True]
    for preparation in made:
        assert np.array_equal(*(p.data.read(p.data.pieces[0]) for p in (preparation, made[0])))
    assert [p.name for p in (tmp_path / "prepared").iterdir()] == [made[0].data.folder.name]


def test_preparing_sweeps_what_killed_processes_left(tmp_path, make):
    (tmp_path / "prepared" / f"{TEMPORARY}x").mkdir(parents=True)
    folder = make(write_songs(tmp_path / "songs", 4)).data.folder
    assert list((tmp_path / "prepared").iterdir()) == [folder]
