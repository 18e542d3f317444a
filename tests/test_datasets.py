"""datasets/ holds data and text only, and each corpus says what it is."""

from pathlib import Path

import pytest
import yaml

DATASETS = Path(__file__).resolve().parents[1] / "datasets"
FOLDERS = sorted(path for path in DATASETS.iterdir() if path.is_dir())
KEYS = {"name", "title", "type", "importer", "source", "licence", "split"}
MORE_KEYS = {
    "music21-chorales": set(),
    "music21-folk": set(),
    "folder": {"folder"},
    "voice-grids": {"file", "per_beat"},
    "sklearn-digits": set(),
    "idx-images": {"train", "test", "n_validation"},
    "cifar-batches": {"train", "test", "n_validation"},
}


def test_datasets_hold_no_code():
    assert not list(DATASETS.rglob("*.py"))


def test_the_known_corpora_are_there():
    assert {"chorales", "folk", "pop909", "jsb", "jsb-quarter", "digits"} <= {
        folder.name for folder in FOLDERS
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_corpus_has_a_complete_description(folder):
    description = yaml.safe_load((folder / "dataset.yaml").read_text())
    assert set(description) - {"published"} == KEYS | MORE_KEYS[description["importer"]]
    assert description.pop("per_beat", 1) in (1, 2, 4)
    assert description.pop("n_validation", 1) > 0
    assert description.pop("published", "figures of a paper")
    for split in ("train", "test"):
        assert description.pop(split, ["file"])
    assert all(isinstance(value, str) and value.strip() for value in description.values())
    assert description["name"] == folder.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_corpus_has_a_readme_that_names_its_licence(folder):
    assert "licence" in (folder / "README.md").read_text().lower()
