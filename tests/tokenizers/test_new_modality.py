"""The guide of CONTRIBUTING.md makes a modality: its file is enough for all that reads files."""

import re
from pathlib import Path

import numpy as np
import pytest

from seqgen import tokenizers
from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.tokenizers import build_tokenizer, load_tokenizer

GUIDE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def protein(monkeypatch):
    """The tokenizer of the guide."""
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    made: dict = {"__name__": "protein"}
    exec(re.sub(r"^   ", "", code, flags=re.MULTILINE), made)
    monkeypatch.setitem(tokenizers.TYPES, "protein", made["ProteinTokenizer"])
    return build_tokenizer(TokenizerConfig(type="protein"), LimitsConfig())


def test_the_guides_modality_reads_writes_and_is_saved(protein, tmp_path):
    path = tmp_path / "a.fasta"
    path.write_text(">one\nMKV\nllx\n")
    ids = protein.encode(path)
    protein.decode(ids, tmp_path / "b.fasta")
    assert np.array_equal(protein.encode(tmp_path / "b.fasta"), ids)
    assert protein.preview(tmp_path / "b.fasta") == ">generated\nMKVLLX\n"
    assert protein.measure(path) == ({"residues": 6}, "6 residues")
    protein.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint() == protein.fingerprint()
    assert protein.names()[-3:] == ["BOS", "EOS", "PAD"]
    with pytest.raises(UserError, match="this run writes proteins, which cannot be played"):
        protein.played(ids)


def test_the_guides_modality_refuses_other_files(protein, tmp_path):
    path = tmp_path / "bad.fasta"
    path.write_text(">one\n123\n")
    with pytest.raises(FileRejected, match=r"it has the letters \['1', '2', '3'\]"):
        protein.encode(path)


def test_an_unknown_type_names_those_that_there_are():
    with pytest.raises(UserError, match=r"tokenizer.type = 'remy': .* did you mean remi\?"):
        build_tokenizer(TokenizerConfig(type="remy"), LimitsConfig())
    with pytest.raises(UserError, match=r"no such tokenizer; there are bytes, cpword, grid"):
        build_tokenizer(TokenizerConfig(type="zzz"), LimitsConfig())
