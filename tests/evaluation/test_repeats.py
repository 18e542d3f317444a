"""The likelihood of repeated bars and of all else add up to that of the pieces."""

import math

import numpy as np
import pytest
from making import write_song

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.evaluation.scoring import split_by_repeats
from seqgen.tokenizers import build_tokenizer


def test_repeated_bars_and_all_else_are_the_whole_piece(tmp_path):
    tokenizer = build_tokenizer(TokenizerConfig(quotes=True, parts="tracks"), LimitsConfig())
    v = tokenizer.vocabulary
    song = tokenizer.encode(write_song(tmp_path / "song.mid", bars=40))  # whose chords come back
    ids = np.concatenate([[[v.bos_id]], song, [[v.eos_id]]])
    is_repeated, units = tokenizer.repeats(ids)
    nats = np.where(is_repeated[1:], 2.0, 0.5)[:, None]
    [found] = split_by_repeats([("model", "own", [nats])], [ids], tokenizer)
    repeated, other = found["repeated"], found["other"]
    assert (repeated["nats_per_token"], other["nats_per_token"]) == (2.0, 0.5)
    assert repeated["targets"] + other["targets"] == len(ids) - 2  # without special tokens
    assert repeated["units"] + other["units"] == tokenizer.units(ids)
    assert repeated["bits_per_unit"] == pytest.approx(
        2 * repeated["targets"] / math.log(2) / units[is_repeated].sum()
    )
    assert 0 < repeated["units"] < tokenizer.units(ids)
    assert (
        split_by_repeats([], [ids], build_tokenizer(TokenizerConfig(type="tsd"), LimitsConfig()))
        == []
    )
