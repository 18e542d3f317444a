"""A form lays out a piece: new sections are drawn, and the others repeat them note for note."""

import numpy as np
import pytest
from making import write_model

from seqgen.api.form import Form, generate_form
from seqgen.api.model import load
from seqgen.decoding import continuations
from seqgen.errors import UserError
from seqgen.sampling import Sampling

RICH = {"parts": "tracks", "part_names": ["0", "40", "drums"], "use_time_signatures": True}
RICH |= {"use_tempos": True, "time_signatures": ["4/4", "3/4"]}


@pytest.mark.parametrize("options", [{}, RICH], ids=["one part", "several"])
def test_sections_repeat_the_ones_that_their_letters_name(tmp_path, options):
    model = load(write_model(tmp_path / "run", quotes=True, quote_bars=32, **options))
    vocabulary, names = model.tokenizer.vocabulary, model.tokenizer.names()
    form = Form("AABA", 3)
    likely = {"Bar": 2.5, "Part": 3.0, "Position": 1.5}
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
        ids = np.concatenate([[[vocabulary.bos_id]], one.tokens])
        plain = model.tokenizer._unquoted(ids)
        bars = []
        for token in plain[1:]:
            bars += [[]] if token == "Bar_None" else []
            bars[-1].append(token)
        assert len(bars) == 12
        assert bars[3:6] == bars[9:12] == bars[:3]
        n_tokens += sum(map(len, bars[:3]))
    assert n_tokens > 60


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
    ("form", "quotes", "said"),
    [
        (Form("A4", 8), True, "must be letters"),
        (Form("", 8), True, "must be letters"),
        (Form("AA", 8), False, "tokenizer.quotes=true"),
        (Form("ABCA", 30), True, "section 4 repeats one that begins 90 bars before"),
    ],
)
def test_a_form_that_cannot_be_told_is_refused(tmp_path, form, quotes, said):
    model = load(write_model(tmp_path / "run", quotes=quotes))
    with pytest.raises(UserError, match=said):
        form.check(model.tokenizer)


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
