"""Prompts are cut after their bars, with the musical time at their end."""

import numpy as np
import pytest
from making import write_song

from seqgen.api.prompts import read_prompts
from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.tokenizers import build_tokenizer
from seqgen.tokenizers.midi.clock import MidiClock
from seqgen.tokenizers.pixels import png


@pytest.mark.parametrize("bars", [1, 5, None])
def test_the_clock_of_a_prompt_has_taken_each_of_its_tokens(tmp_path, bars, monkeypatch):
    n_copies = 0
    copied = MidiClock.__copy__

    def count(self):
        nonlocal n_copies
        n_copies += 1
        return copied(self)

    monkeypatch.setattr(MidiClock, "__copy__", count)
    tokenizer = build_tokenizer(TokenizerConfig(), LimitsConfig())
    (prompt,) = read_prompts([str(write_song(tmp_path / "song.mid"))], tokenizer, bars=bars)
    clock = tokenizer.clock(tempo=prompt.tempo)
    for token in prompt.ids:
        clock.feed(token)
    for value in ("bars", "quarters", "bar_start", "seconds"):
        assert getattr(prompt.clock, value) == getattr(clock, value)
    assert prompt.bars == (bars or 8)
    assert n_copies <= 1  # one for each token would take quadratic time


def test_an_image_is_given_down_to_a_row(tmp_path):
    config = TokenizerConfig(type="pixels", image_size=[2, 4], image_channels=1, image_levels=256)
    tokenizer = build_tokenizer(config, LimitsConfig())
    path = tmp_path / "a.png"
    path.write_bytes(png(np.arange(8, dtype=np.uint8).reshape(4, 2, 1)))
    half, one = (
        read_prompts([str(path)], tokenizer, bars=None, rows=rows)[0].ids[1:, 0].tolist()
        for rows in (None, 1)
    )
    assert (half, one) == ([0, 1, 2, 3], [0, 1])
    with pytest.raises(UserError, match="--prompt-rows 4: images have 4 rows; give fewer of them"):
        read_prompts([str(path)], tokenizer, bars=None, rows=4)
    text = build_tokenizer(TokenizerConfig(type="bytes"), LimitsConfig())
    with pytest.raises(UserError, match="--prompt-rows is for images"):
        read_prompts([str(path)], text, bars=None, rows=1)
