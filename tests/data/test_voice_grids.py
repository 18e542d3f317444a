"""A published file of grids becomes pieces in its own splits, cell for cell."""

import json

import numpy as np
import pytest
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data import corpora
from seqgen.data.corpora import open_corpus
from seqgen.data.splits import SPLITS, TEST, TRAIN, VALIDATION
from seqgen.data.voice_grids import build_grids
from seqgen.errors import UserError
from seqgen.tokenizers.grid import FIRST, PITCHES, SILENT

MIDI = frozenset({".mid"})
DESCRIPTION = "name: tiny\ntype: grid\nimporter: voice-grids\nfile: tiny.json\nper_beat: 4\n"


def random_piece(seed, n_steps=9):
    rng = np.random.default_rng(seed)
    grid = rng.integers(40, 80, (n_steps, 4))
    grid[1:-1][rng.random((n_steps - 2, 4)) < 0.2] = SILENT
    return grid.tolist()


@pytest.fixture
def published():
    """Pieces by the names that the file gives its splits; two of them are the same piece."""
    pieces = {"train": [random_piece(i) for i in range(6)], "valid": [random_piece(7)]}
    return pieces | {"test": [random_piece(8), pieces["train"][0]]}


@pytest.fixture
def source(tmp_path, monkeypatch, published):
    """The name of a corpus that is described and there."""
    folder = tmp_path / "datasets" / "tiny"
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(DESCRIPTION)
    (folder / "tiny.json").write_text(json.dumps(published))
    monkeypatch.setattr(corpora, "DATASETS", tmp_path / "datasets")
    return "tiny"


def prepare_tiny(tmp_path, source, **settings):
    config = DataConfig(
        source=source, prepared_dir=str(tmp_path / "prepared"), workers=1, transpose=1, **settings
    )
    return prepare(config, LimitsConfig(), TokenizerConfig(type="grid")).data


@pytest.mark.parametrize("group_duplicates", [True, False])
def test_every_piece_is_whole_and_in_its_published_split(
    tmp_path, source, published, group_duplicates
):
    data = prepare_tiny(
        tmp_path, source, validation=0.5, test=0.4, group_duplicates=group_duplicates
    )
    for split, name in ((TRAIN, "train"), (VALIDATION, "valid"), (TEST, "test")):
        pieces = data.of_split(split)
        assert {len(piece.variants) for piece in pieces} == {3 if split == TRAIN else 1}
        cells = [data.read(piece)[1:-1, 1] - FIRST for piece in pieces]
        grids = [np.where(x == PITCHES, SILENT, x).reshape(-1, 4).tolist() for x in cells]
        assert grids == published[name]
    # Nothing is said to be kept in one split, though a training piece is a test piece too.
    report = json.loads((data.folder / "report.json").read_text())
    assert report["near_duplicates"]["groups"] == 0


def test_a_changed_file_is_read_again(tmp_path, source, published):
    before = prepare_tiny(tmp_path, source)
    published["valid"].append(random_piece(9))
    (tmp_path / "datasets" / "tiny" / "tiny.json").write_text(json.dumps(published))
    assert len(before.of_split(VALIDATION)) == 1
    assert len(prepare_tiny(tmp_path, source).of_split(VALIDATION)) == 2


def test_files_beside_them_are_split_by_their_content(tmp_path, source, published):
    file = tmp_path / "other" / "a.json"
    file.parent.mkdir()
    others = {"train": [random_piece(i) for i in range(20, 40)]} | {
        name: published[name] for name in ("valid", "test")
    }
    file.write_text(json.dumps(others))
    songs = build_grids(file, tmp_path / "songs", per_beat=4) / TRAIN
    data = prepare_tiny(tmp_path, [source, str(songs)], validation=0.3, test=0.3)
    corpus = open_corpus([source, str(songs)], MIDI, cache=tmp_path / "cache")
    assert set(corpus.splits.values()) == set(SPLITS)
    assert all(label.startswith("tiny/") for label in corpus.splits)
    splits = {piece.file: piece.split for piece in data.pieces}
    assert corpus.splits.items() <= splits.items()
    assert {splits[label] for label in splits.keys() - corpus.splits.keys()} == set(SPLITS)


def test_a_missing_file_is_named(source, tmp_path):
    (tmp_path / "datasets" / "tiny" / "tiny.json").unlink()
    with pytest.raises(UserError, match=r"the file of tiny is not here: .*README\.md says how"):
        open_corpus(source, MIDI, cache=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2", "is not JSON"),
        ("[1, 2]", "must hold the keys train, valid, test, and holds a list"),
        ('{"train": []}', r"must hold the keys train, valid, test, and holds \['train'\]"),
        ("{}", "'valid' must be a list of pieces"),
        ('{"valid": [7]}', "piece 0 of 'valid' must be a list of steps"),
        ('{"valid": [[[60], 5]]}', "piece 0 of 'valid', step 1: 5 is not a list of up to 4"),
        ('{"valid": [[[60, 61, 62, 63, 64]]]}', "is not a list of up to 4 pitches"),
        ('{"valid": [[[128]]]}', r"\[128\] has pitches other than -1 to 127"),
        ('{"valid": [[[60.5]]]}', "has pitches other than"),
        ('{"valid": [[[true]]]}', "has pitches other than"),
        ('{"valid": [[[-1], []]]}', "piece 0 of 'valid' is silent"),
    ],
)
def test_other_files_are_refused_by_one_sentence(tmp_path, content, message):
    if content.startswith("{") and "train" not in content:
        whole = {"train": [[[60]]], "valid": [], "test": [[[60]]]}
        content = json.dumps(whole | json.loads(content))
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        build_grids(tmp_path / "a.json", tmp_path / "a", per_beat=4)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()
