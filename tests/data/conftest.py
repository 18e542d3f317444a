"""Prepared data made for tests, without any file behind it."""

import numpy as np
import pytest

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.data.shards import (
    FORMAT,
    INDEX,
    TOKENIZER,
    TOKENS,
    PreparedData,
    StoredPiece,
    TableWriter,
    TokenWriter,
    make_table,
)
from seqgen.data.splits import TRAIN, content_hash
from seqgen.files import checksums, write_record
from seqgen.tokenizers import build_tokenizer


@pytest.fixture
def made_data(tmp_path):
    """Make training pieces whose variants have the lengths given.

    No two tokens are the same, and ids ascend by one within a variant only.
    """

    def make(lengths: list[tuple[int, ...]]) -> PreparedData:
        pieces, next_id = [], 1000
        with TokenWriter(tmp_path / TOKENS, max_id=10**6) as writer:
            for i, variants in enumerate(lengths):
                places = []
                for n in variants:
                    places.append(writer.append(np.arange(next_id, next_id + n)[:, None]))
                    next_id += n + 1
                file_hash = content_hash(str(i).encode())
                pieces.append(StoredPiece(f"piece-{i}", TRAIN, file_hash, 1, tuple(places)))
        with TableWriter(tmp_path) as table:
            table.append(make_table(pieces))
        (tmp_path / TOKENIZER).mkdir()
        build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig()).save(tmp_path / TOKENIZER)
        index = {"dtype": writer.dtype.name, "n_fields": 1, "n_tokens": writer.n_tokens}
        index |= {"files": checksums(tmp_path)}
        write_record(tmp_path / INDEX, index, format=FORMAT)
        return PreparedData(tmp_path)

    return make
