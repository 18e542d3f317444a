"""A form lays out a piece: new sections are drawn, and the others repeat them note for note."""

import numpy as np
import pytest
from making import write_model, write_song

from seqgen.api.form import Form, generate_form
from seqgen.api.model import load
from seqgen.checkpoint import save_model
from seqgen.config import LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.decoding import continuations
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampling
from seqgen.tokenizers import build_tokenizer
from seqgen.tokenizers.midi import CompoundTokenizer

RICH = {"parts": "tracks", "part_names": ["0", "40", "drums"], "use_time_signatures": True}
RICH |= {"use_tempos": True, "time_signatures": ["4/4", "3/4"]}


@pytest.mark.parametrize("type", ["remi", "cpword"])
@pytest.mark.parametrize("options", [{}, RICH], ids=["one part", "several"])
@pytest.mark.parametrize("text", ["AABA", "A A' 2 A"])
def test_sections_repeat_the_ones_that_their_names_say(tmp_path, type, options, text):
    options = {**options, "type": type, "quotes": True, "quote_bars": 32}
    if type == "cpword" and options.get("use_time_signatures"):
        options["time_signatures"] = ["4/4"]  # what is drawn at random would end in shorter bars
    model = load(write_model(tmp_path / "run", **options))
    names = model.tokenizer.names()
    form = Form(text, 3)
    likely = {"Bar": 2.5, "Part": 3.0, "Position": 1.5} if type == "remi" else {"part": 1.0}
    kinds = [name.partition("_")[0] for name in names]
    bias = tuple((i, likely[kind]) for i, kind in enumerate(kinds) if kind in likely)
    steps = generate_form(
        model.decoder,
        model.tokenizer,
        form,
        n_rows=3,
        sampling=Sampling(logit_bias=bias),
        max_tokens=400,
        seed=5,
    )
    found, n_tokens = list(continuations(steps)), 0
    assert sorted(one.row for one in found) == [0, 1, 2]
    for one in found:
        assert one.end == "eos"
        bars = bars_of(model, one)
        assert len(bars) == form.bars
        for section in form.sections:
            if section.repeats is not None:
                first = form.sections[section.repeats].begin
                quoted = bars[section.begin : section.begin + section.quoted]
                assert quoted == bars[first : first + section.quoted]
        n_tokens += sum(map(len, bars[:3]))
    assert n_tokens > 30


def merged_model(folder, **options):
    """A model whose merged tokens begin bars and hold notes, and the ids of these."""
    t = build_tokenizer(TokenizerConfig(quotes=True, **options), LimitsConfig())
    pieces = [t.encode(write_song(folder / f"{i}.mid", seed=i)) for i in range(3)]
    t = t.train(pieces, vocab_size=t.vocabulary.sizes[0] + 60)
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), t.vocabulary)
    save_model(folder / "run" / "model", model, t, step=0)
    return load(folder / "run"), [i for i in t.vocabulary.anchors if "+" in t.names()[i]]


def bars_of(model, piece):
    """The plain tokens of each bar, without quotes."""
    bars, tokenizer, ids = [], model.tokenizer, piece.tokens
    if isinstance(tokenizer, CompoundTokenizer):
        tokenizer, ids = tokenizer._plain, tokenizer._ungroup(ids)
    for token in tokenizer._unquoted(ids):
        bars += [[]] if token == "Bar_None" else []
        bars[-1].append(token)
    return bars


@pytest.mark.parametrize("options", [{}, RICH], ids=["one part", "several"])
def test_sections_repeat_where_merged_tokens_begin_bars(tmp_path, options):
    model, merged = merged_model(tmp_path, **options)
    likely = (*merged, int(model.tokenizer.bar[0]))
    draws = {"samples": 3, "logit_bias": tuple((i, 4.0) for i in likely), "seed": 1}
    for piece in model.generate(form="AABA", section=3, **draws):
        bars = bars_of(model, piece)
        assert len(bars) == 12
        assert bars[3:6] == bars[9:12] == bars[:3]


def test_a_limit_of_bars_leaves_nothing_of_the_next_bar(tmp_path):
    model, merged = merged_model(tmp_path)
    draws = {"samples": 3, "logit_bias": tuple((i, 6.0) for i in merged), "seed": 1}
    for piece in model.generate(bars=4, **draws):
        bars = bars_of(model, piece)
        assert bars[4:] == [["Bar_None"]]
        assert any(len(bar) > 1 for bar in bars)


def test_a_section_that_takes_too_many_tokens_ends_its_piece(tmp_path):
    model = load(write_model(tmp_path / "run", quotes=True))
    steps = generate_form(
        model.decoder,
        model.tokenizer,
        Form("ABAB", 8),
        n_rows=2,
        sampling=Sampling(),
        max_tokens=20,
        seed=0,
    )
    found = list(continuations(steps))
    assert [(len(one.tokens), one.end) for one in found] == [(20, "limit")] * 2


@pytest.mark.parametrize(
    ("form", "bars", "quotes", "said"),
    [
        ("AA", 8, False, "tokenizer.quotes=true"),
        ("ABCA", 30, True, "section 4 repeats one that begins 90 bars before"),
        ("70 8 70'", None, True, "section 3 repeats one that begins 78 bars before"),
    ],
)
def test_a_form_that_cannot_be_told_is_refused(tmp_path, form, bars, quotes, said):
    model = load(write_model(tmp_path / "run", quotes=quotes))
    with pytest.raises(UserError, match=said):
        Form(form, bars).check(model.tokenizer)


@pytest.mark.parametrize("text", ["", " ", "A-B", "AB?", "0 8", "8''", "'A", "Ä"])
def test_what_is_no_form_is_refused(text):
    with pytest.raises(UserError, match=r"must be letters, .*AABA, or numbers of bars"):
        Form(text)


def test_a_prime_comes_after_what_it_varies():
    with pytest.raises(UserError, match="A' varies A, which comes first"):
        Form("BA'A")


def test_a_length_for_letters_needs_a_letter():
    assert Form("8 A", 4).bars == 12
    with pytest.raises(UserError, match="--section 4 is for sections that are letters"):
        Form("8 8'", 4)


def test_forms_are_letters_or_numbers_of_bars():
    found = [(s.begin, s.bars, s.repeats, s.quoted) for s in Form("8 8' 8 16").sections]
    assert found == [(0, 8, None, 8), (8, 8, 0, 6), (16, 8, 0, 8), (24, 16, None, 16)]
    spaced, close = Form("A A' B A", 3), Form("AA'BA", 3)
    assert spaced.sections == close.sections
    assert [s.quoted for s in close.sections] == [3, 2, 3, 3]
    assert (close.bars, close.n_new) == (12, 3)


def test_a_form_is_generated_and_saved_from_python(tmp_path):
    model = load(write_model(tmp_path / "run", quotes=True))
    bar = int(model.tokenizer.bar[0])
    draws = {"form": "AAA", "section": 2, "samples": 2, "logit_bias": ((bar, 3.0),)}
    first, second = model.generate(**draws), model.generate(**draws)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        assert (one.tokens[:, 0] == bar).sum() == 6
    with pytest.raises(UserError, match="leave out prompt, bars and seconds"):
        model.generate(form="AA", bars=4)
