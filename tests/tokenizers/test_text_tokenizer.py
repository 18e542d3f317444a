"""Bytes go through unchanged, id 0 included."""

import numpy as np
import pytest

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.tokenizers import Shift, build_tokenizer, load_tokenizer


@pytest.fixture
def tokenizer():
    return build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig(max_file_bytes=1000))


def test_round_trip(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("Zoë\x00 said: 你好\n")
    ids = tokenizer.encode(tmp_path / "a.txt")
    v = tokenizer.vocabulary
    framed = np.concatenate([v.special_token(v.bos_id)[None], ids, v.special_token(v.eos_id)[None]])
    tokenizer.decode(framed, tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()
    assert tokenizer.units(framed) == len(ids)


def test_half_a_character_at_the_end_is_left_out(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("aé")
    tokenizer.decode(tokenizer.encode(tmp_path / "a.txt")[:-1], tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "a"


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "empty"), (b" \n", "empty"), (b"\xff\xfe", "unsupported"), (b"x" * 1001, "over-limit")],
)
def test_unusable_files_are_refused(tmp_path, tokenizer, content, kind):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(FileRejected) as caught:
        tokenizer.encode(tmp_path / "a.txt")
    assert caught.value.kind == kind


def test_a_byte_that_is_not_utf_8_is_named_with_its_place_and_the_way_out(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_bytes("Zoë\nsaid\ncaf".encode() + b"\xe9 at last")
    with pytest.raises(FileRejected, match=r"byte 13 \(0xe9, in line 3\) is not UTF-8.*iconv"):
        tokenizer.encode(tmp_path / "a.txt")


def test_the_limit_of_a_large_text_is_named(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_bytes("é".encode() * 501)
    with pytest.raises(FileRejected, match=r"larger than limits\.max_file_bytes=1000"):
        tokenizer.encode(tmp_path / "a.txt")


def test_a_missing_file_is_unreadable(tmp_path, tokenizer):
    with pytest.raises(FileRejected, match=r"none\.txt"):
        tokenizer.encode(tmp_path / "none.txt")


def test_text_has_no_shifts_and_no_time(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("abc")
    assert len(tokenizer.examine(tmp_path / "a.txt", [Shift(), Shift(1)]).variants) == 1
    assert tokenizer.clock() is None
    assert len(tokenizer.names()) == tokenizer.vocabulary.sizes[0]


def test_a_loaded_tokenizer_is_the_same(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint() == tokenizer.fingerprint()


def test_bytes_are_not_merged():
    with pytest.raises(UserError, match="merges MIDI tokens of one field; leave it out for bytes"):
        build_tokenizer(TokenizerConfig(type="bytes", bpe_vocab_size=300), LimitsConfig())
