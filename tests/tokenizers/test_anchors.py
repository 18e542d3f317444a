"""Where bars begin, the vocabulary says so, in merged tokens too."""

import pytest
from making import write_songs

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.tokenizers import build_tokenizer


def anchored(tokenizer):
    """Names of the anchors, and of all ids that hold the beginning of a bar."""
    names = tokenizer.names()
    return [names[i] for i in tokenizer.vocabulary.anchors], [n for n in names if "Bar_" in n]


@pytest.mark.parametrize("options", [{}, {"use_time_signatures": True, "parts": "tracks"}])
def test_every_id_that_holds_a_bar_is_an_anchor(tmp_path, options):
    plain = build_tokenizer(TokenizerConfig(type="remi", **options), LimitsConfig())
    files = sorted(write_songs(tmp_path, 4).glob("*.mid"))
    merged = plain.train(map(plain.encode, files), vocab_size=plain.vocabulary.sizes[0] + 60)
    for tokenizer in (plain, merged):
        anchors, holding = anchored(tokenizer)
        assert anchors == holding
        assert "Bar_None" in anchors
    assert len(merged.vocabulary.anchors) > len(plain.vocabulary.anchors)
    assert any("+" in name for name in anchored(merged)[0])


@pytest.mark.parametrize("type", ["tsd", "midilike", "structured"])
def test_formats_without_bars_have_no_anchors(type):
    tokenizer = build_tokenizer(TokenizerConfig(type=type), LimitsConfig())
    assert tokenizer.vocabulary.anchors == ()
