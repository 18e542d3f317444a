"""Prompts are cut after their bars, with the musical time at their end."""

import pytest
from making import write_song

from seqgen.api.prompts import read_prompts
from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.tokenizers import build_tokenizer
from seqgen.tokenizers.midi.clock import MidiClock


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
