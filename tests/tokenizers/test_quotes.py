"""A bar that repeats an earlier one of its part is told as a quote of it, and comes back whole."""

import random
from copy import copy

import numpy as np
import pytest
import torch
from making import TICKS, random_walks, write_band

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile, Note, TempoChange, TimeSignature, midi_bytes
from seqgen.tokenizers import Original, Shift, build_tokenizer, choose_settings, survey_file
from seqgen.tokenizers.midi import CompoundTokenizer
from seqgen.tokenizers.midi.compound import group
from seqgen.tokenizers.midi.quotes import Unquoter, quote, repeated

ALL = {
    "parts": "tracks",
    "use_velocities": True,
    "use_tempos": True,
    "use_time_signatures": True,
    "use_sustain_pedals": True,
    "time_signatures": ["4/4", "3/4", "7/8"],
    "max_note_beats": 16,
}
KINDS = {
    "one part": {},
    "one part, tempos and metres": {**ALL, "parts": "one"},
    "several parts": ALL,
    "drums, merged": {**ALL, "part_names": ["0", "40", "drums"]},
    "compound, one part": {"type": "cpword"},
    "compound, one part, tempos and metres": {**ALL, "type": "cpword", "parts": "one"},
    "compound, several parts": {**ALL, "type": "cpword", "part_names": ["0", "40", "drums"]},
}


def tokenizer(*, quotes=True, **options):
    return build_tokenizer(TokenizerConfig(**options, quotes=quotes), LimitsConfig())


def write_form(path, form="AABACABB", *, seed=0, metres=((4, 4),)):
    """Write a band whose bars repeat as letters do; metres change with each bar."""
    rng = random.Random(seed)
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.instruments = [Instrument(0), Instrument(40), Instrument(0, is_drum=True)]
    bars = {}
    start = 0
    for number, letter in enumerate(form):
        numerator, denominator = metres[number % len(metres)]
        beat = 4 * TICKS // denominator
        midi.time_signature_changes.append(TimeSignature(numerator, denominator, start))
        midi.tempo_changes.append(TempoChange(rng.choice([80.0, 90.0, 100.0]), start))
        for i, track in enumerate(midi.instruments):
            if letter == " " or (i == 1 and number % 4 == 3):
                continue  # silence
            content = bars.setdefault(
                (letter, i),
                [
                    (rng.randint(40, 110), rng.randint(40, 80), b, rng.randint(1, 6))
                    for b in range(3)
                    for _ in range(2)
                ],
            )
            track.notes += [
                Note(v, p, start + b * beat, start + b * beat + n * beat // 2)
                for v, p, b, n in content
            ]
        start += numerator * beat
    path.write_bytes(midi_bytes(midi))
    return path


def unquote(told):
    unquoter = Unquoter(4, 1000)
    return [plain for token in told for plain in unquoter.take(token)]


def told(*bars):
    """Tokens of one part: a letter for each bar, which is its only pitch; a space is silence."""
    tokens = []
    for bar in bars:
        tokens += ["Bar_None", "TimeSig_4/4"]
        tokens += [] if bar == " " else ["Position_0", f"Pitch_{bar}", "Duration_1.0.4"]
    return tokens


def quotes_of(bars, most=64):
    """What is told of each bar: its letter, or how far its quote reaches."""
    names = []
    for token in quote(told(*bars), most=most):
        kind, _, value = token.partition("_")
        if kind == "Bar":
            names.append(" ")
        elif kind in ("Pitch", "Quote"):
            names[-1] = value
    return names


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        ("AAAA", "A111"),
        ("ABCDABCD", "ABCD4444"),
        ("ABABAB", "AB2222"),
        ("AABBABB", "A1B1333"),  # the distance of the bar before, where it fits
        ("ABCABDABC", "ABC33D336"),  # until a new bar, or as long as it fits
        ("A A B B", "A 2 B 2"),
        ("AB AB B", "AB 33 2"),  # silence does not end it
        ("ABCDEFA", "ABCDEF6"),
    ],
)
def test_a_quote_is_as_far_as_the_one_before_or_of_the_nearest_equal_bar(bars, expected):
    assert "".join(quotes_of(bars)) == expected


def test_bars_further_back_than_quotes_reach_are_told_again():
    assert quotes_of("ABCDABCD", most=3) == list("ABCDABCD")
    assert quotes_of("ABCABC", most=3) == list("ABC333")


def test_equal_bars_of_another_metre_or_part_are_not_quoted():
    bar = ["Position_0", "Pitch_60", "Duration_1.0.4"]
    three = ["Bar_None", "TimeSig_3/4", *bar, "Bar_None", "TimeSig_4/4", *bar]
    assert quote(three, most=64) == three
    two = ["Bar_None", "Part_0", *bar, "Part_40", *bar, "Bar_None", "Part_40", *bar]
    assert quote(two, most=64) == [*two[:-3], "Quote_1"]


@pytest.mark.parametrize("seed", range(20))
def test_quotes_stand_for_the_bars_that_they_replace(seed):
    rng = random.Random(seed)
    plain = []
    for _ in range(30):
        plain += ["Bar_None", f"TimeSig_{rng.choice(['3/4', '4/4'])}"]
        plain += ["TempoPosition_0", "Tempo_90.0"] * rng.randint(0, 1)
        for part in ("0", "40", "drums"):
            n = rng.randint(0, 2)
            plain += [f"Part_{part}"] * (n > 0)
            for i in range(n):
                plain += [f"Position_{i}", f"Pitch_{rng.randint(60, 61)}", "Duration_1.0.4"]
    short = quote(plain, most=8)
    assert len(short) < len(plain)
    assert unquote(short) == plain


def test_damaged_quotes_are_silence_or_end_with_the_bar():
    bar = ["Bar_None", "TimeSig_4/4"]
    music = [
        "Position_0",
        "Pitch_60",
        "Duration_1.0.4",
        "Position_12",
        "Pitch_62",
        "Duration_1.0.4",
    ]
    unquoter = Unquoter(4, 1000)
    for token in (*bar, *music, "Bar_None", "TimeSig_3/4"):
        assert unquoter.take(token) == (token,)
    fork = copy(unquoter)
    assert unquoter.take("Quote_1") == tuple(music[:3])
    for token in bar:
        unquoter.take(token)
    assert unquoter.take("Quote_1") == tuple(music[:3])  # of the quote before
    assert fork.take("Quote_7") == ()  # before the beginning
    for token in bar:
        fork.take(token)
    assert fork.take("Quote_1") == ()  # of silence
    assert fork.take("Quote_2") == tuple(music)


def test_quotes_do_not_let_a_piece_grow_without_bound():
    note = ["Position_0", "Pitch_60", "Duration_1.0.4"]
    unquoter = Unquoter(4, 5)
    for token in ("Bar_None", "Part_0", *note, *note, "Bar_None", "Part_0"):
        unquoter.take(token)
    fork = copy(unquoter)
    assert len(unquoter.take("Quote_1")) == 6
    assert unquoter.take("Quote_1") == ()  # behind other music
    assert unquoter.take("Bar_None") == ("Bar_None",)
    unquoter.take("Part_0")
    assert unquoter.take("Quote_1") == ()  # with it there would be 6 notes
    assert unquoter.take(note[2]) == (note[2],)
    assert len(fork.take("Quote_1")) == 6


@pytest.mark.parametrize("length", [3, 12])
def test_a_written_file_has_no_more_notes_than_files_may_have(tmp_path, length):
    limits = LimitsConfig(max_notes=20)
    t = build_tokenizer(TokenizerConfig(quotes=True), limits)
    known = {name: i for i, name in enumerate(t.names())}
    bar = [x for i in range(length) for x in (f"Position_{i}", "Pitch_60", "Duration_0.1.4")]
    names = ["BOS_None", "Bar_None", *bar, *(["Bar_None", "Quote_1", "Quote_1"] * 200)]
    ids = np.array([[known[name]] for name in names])
    t.decode(ids, tmp_path / "piece.mid")
    n_notes = sum(len(track.notes) for track in MidiFile(str(tmp_path / "piece.mid")).instruments)
    assert n_notes == t.units(ids) == 20 // length * length


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metres", [((4, 4),), ((4, 4), (3, 4), (7, 8))], ids=["4/4", "mixed"])
def test_files_units_and_time_are_what_they_are_without_quotes(tmp_path, kind, metres):
    path = write_form(tmp_path / "form.mid", "AAB AABCABAACC", metres=metres)
    without, t = tokenizer(quotes=False, **KINDS[kind]), tokenizer(**KINDS[kind])
    if kind == "drums, merged":
        t = t.train([t.encode(path)], vocab_size=t.vocabulary.sizes[0] + 20)
    plain, short = without.encode(path), t.encode(path)
    if len(metres) == 1 or "use_time_signatures" in KINDS[kind]:  # else all bars are in 4/4
        assert len(short) < len(plain)
        assert any("quote" in t.names()[i].lower() for i in short[:, 0])
    assert t.units(short) == without.units(plain)
    without.decode(plain, tmp_path / "plain.mid")
    t.decode(short, tmp_path / "short.mid")
    assert (tmp_path / "short.mid").read_bytes() == (tmp_path / "plain.mid").read_bytes()
    assert plain_of(t, t.write_out(short)) == unquote(plain_of(t, short))
    assert np.array_equal(without.write_out(plain), plain)
    clocks = [without.clock(), t.clock()]
    for clock, ids in zip(clocks, (plain, short), strict=True):
        for token in ids:
            clock.feed(token)
    for name in ("bars", "bar_start", "quarters", "seconds"):
        assert getattr(clocks[0], name) == pytest.approx(getattr(clocks[1], name))


def test_shifted_variants_have_the_same_quotes(tmp_path):
    path = write_form(tmp_path / "form.mid")
    t = tokenizer(**ALL)
    encoded = t.examine(path, [Shift(), Shift(3), Shift(velocity=9)])
    assert encoded.units == t.units(encoded.variants[1]) == t.units(encoded.variants[2])
    assert encoded.account["notes_kept"] == encoded.account["notes"]
    is_quote = [["Quote" in t.names()[i] for i in ids[:, 0]] for ids in encoded.variants[:2]]
    assert is_quote[0] == is_quote[1]


def with_many_bars(t, length):
    """Twelve pieces drawn from nothing but the grammar, with many bars."""
    logits = [torch.zeros(12, size) for size in t.vocabulary.sizes]
    logits[0][:, t.bar[0]] = 4 if len(logits) == 1 else 1
    logits[0][:, t.vocabulary.eos_id] = -9
    return random_walks(t.vocabulary, 12, length, lambda: logits)


def plain_of(t, ids):
    """The plain tokens of ids [T, F], with quotes as they are."""
    if isinstance(t, CompoundTokenizer):
        t, ids = t._plain, t._ungroup(ids)
    return t._plain(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_quotes_are_of_bars_of_the_piece_and_end_what_the_part_has(tmp_path, kind):
    t, n_quotes = tokenizer(**KINDS[kind]), 0
    for ids in with_many_bars(t, 200):
        drawn = plain_of(t, ids)
        n_bars = 0
        for token, following in zip(drawn, [*drawn[1:], "EOS_None"], strict=True):
            kind_of, _, value = token.partition("_")
            n_bars += kind_of == "Bar"
            if kind_of == "Quote":
                n_quotes += 1
                assert int(value) < n_bars
                assert following.partition("_")[0] in ("Bar", "Part", "EOS")
    assert n_quotes > 10


@pytest.mark.parametrize("kind", KINDS)
def test_real_pieces_obey_the_grammar(tmp_path, kind):
    path = write_form(tmp_path / "form.mid", "AAB AABCABAACC", metres=((4, 4), (3, 4), (7, 8)))
    t = tokenizer(**KINDS[kind])
    v = t.vocabulary
    bos, eos = (v.special_token(i)[None] for i in (v.bos_id, v.eos_id))
    ids = np.concatenate([bos, t.encode(path), eos])
    for i in range(1, len(ids)):
        before, token = v.side_by_side(ids[:i]), v.side_by_side(ids[i : i + 1])
        registers = np.array([v.grammar.registers_after(before)])
        allowed = v.allowed(ids[i - 1 : i], has_unit=np.array([True]), registers=registers)
        assert allowed[0, ids[i, 0]], (t.names()[ids[i - 1, 0]], t.names()[ids[i, 0]])
        for f in range(1, len(v.sizes)):
            registers = v.grammar.registers_after(np.append(before, token[:f]))
            if v.uses[ids[i, 0], f]:
                assert (v.grammar.bounds[:, token[f]] > registers).all()


@pytest.mark.parametrize("type", ["remi", "cpword"])
def test_a_drawn_piece_never_has_a_note_outside_its_bar(type):
    t = tokenizer(**ALL, type=type)
    for ids in with_many_bars(t, 300):
        n_bars, positions, shown = 0, [], unquote(plain_of(t, ids))
        length = 0
        for token in shown:
            kind, _, value = token.partition("_")
            n_bars += kind == "Bar"
            if kind == "TimeSig":
                length = int(value.partition("/")[0]) * 4
            if kind == "Position":
                positions.append(int(value) < length)
        assert n_bars
        assert all(positions)


@pytest.mark.parametrize("type", ["remi", "cpword"])
def test_a_continuation_quotes_its_prompt_and_is_written_behind_it(tmp_path, type):
    path = write_form(tmp_path / "form.mid", "ABAB")
    t = tokenizer(**ALL, type=type)
    bos = t.vocabulary.special_token(t.vocabulary.bos_id)[None]
    prompt = np.concatenate([bos, t.encode(path), t.bar[None]])
    more = ["Part_0", "Quote_4", "Part_drums", "Quote_3"]
    if type == "remi":
        known = {name: i for i, name in enumerate(t.names())}
        added = np.array([[known[name]] for name in ["TimeSig_4/4", *more]])
    else:
        added = np.stack(list(group(more, t.words)))
    ids = np.concatenate([prompt, added])
    original = Original(path, len(prompt), 16.0)
    t.decode(ids, tmp_path / "more.mid", original=original)
    before, after = MidiFile(str(path)), MidiFile(str(tmp_path / "more.mid"))
    for i, bar in ((0, 0), (2, 1)):
        end = 16 * TICKS
        added = [(n.start - end, n.pitch) for n in after.instruments[i].notes if n.start >= end]
        quoted = [
            (n.start - bar * 4 * TICKS, n.pitch)
            for n in before.instruments[i].notes
            if 0 <= n.start - bar * 4 * TICKS < 4 * TICKS
        ]
        assert sorted(added) == sorted(quoted)
        assert added


def test_quotes_are_chosen_where_the_corpus_repeats_bars(tmp_path):
    repeats = [write_form(tmp_path / f"{i}.mid", "ABCD" * 4, seed=i) for i in range(3)]
    new = [write_band(tmp_path / f"new-{i}.mid", seed=i) for i in range(3)]

    def chosen(paths, **options):
        surveys = [survey_file(path, LimitsConfig()) for path in paths]
        return choose_settings(TokenizerConfig(**options), surveys)[0]

    assert chosen(repeats).quotes
    assert chosen(repeats).quote_bars == 64
    assert chosen(repeats, parts="one").quotes
    assert not chosen(new).quotes
    assert chosen(repeats, type="cpword").quotes
    assert not chosen(repeats, type="tsd").quotes
    assert not chosen(repeats, type="octuple").quotes
    assert not chosen(repeats, quotes=False).quotes
    assert chosen(new, quotes=True, quote_bars=80).quote_bars == 80
    assert not chosen(repeats[:1]).quotes  # an only file is cut, also between a bar and its quote


def test_quotes_reach_as_far_as_the_corpus_repeats(tmp_path):
    letters = "".join(chr(ord("A") + i) for i in range(100))
    paths = [write_form(tmp_path / f"{i}.mid", letters * 2, seed=i) for i in range(2)]
    surveys = [survey_file(path, LimitsConfig()) for path in paths]
    assert choose_settings(TokenizerConfig(), surveys)[0].quote_bars == 100


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"type": "tsd"}, "does not tell a bar part by part"),
        ({"type": "octuple"}, "has no tokens for bars"),
        ({"layout": "stream"}, "mixes the parts of a bar"),
        ({"type": "cpword", "layout": "stream"}, "mixes the parts of a bar"),
    ],
)
def test_formats_without_bars_by_part_refuse_quotes(options, why):
    with pytest.raises(UserError, match=rf"quotes=true: .* {why}.*set tokenizer\.type=remi or"):
        build_tokenizer(TokenizerConfig(quotes=True, **options), LimitsConfig())


@pytest.mark.parametrize("quotes", [False, True])
@pytest.mark.parametrize("type", ["remi", "cpword", "octuple"])
def test_the_music_of_repeated_bars_is_found_with_and_without_quotes(tmp_path, type, quotes):
    if quotes and type == "octuple":
        return
    path = write_form(tmp_path / "form.mid", "ABACAB")
    t = tokenizer(type=type, quotes=quotes, parts="one")
    ids = t.encode(path)
    is_repeated, units = t.repeats(ids)
    assert units.sum() == t.units(ids)
    n_notes = [12, 12, 12, 6, 12, 12]  # the violin rests in the fourth bar
    assert units[is_repeated].sum() == n_notes[2] + n_notes[4] + n_notes[5]


def test_changes_of_tempo_do_not_end_repeats(tmp_path):
    path = write_form(tmp_path / "form.mid", "ABACAB", metres=((4, 4), (3, 4)))
    found = []
    for quotes in (False, True):
        t = tokenizer(**KINDS["one part, tempos and metres"], quotes=quotes)
        is_repeated, units = t.repeats(t.encode(path))
        found.append(units[is_repeated].sum())
    assert found[0] == found[1] > 0


def test_a_bar_is_repeated_where_its_part_has_played_it(tmp_path):
    bar = ["Position_0", "Pitch_60", "Duration_1.0.4"]
    tokens = ["Bar_None", "Part_0", *bar, "Bar_None", "Part_40", *bar, "Bar_None", "Part_0", *bar]
    assert repeated([[token] for token in tokens]).tolist() == [False] * 12 + [True] * 3


def test_formats_without_bars_cannot_tell_repeats(tmp_path):
    t = tokenizer(type="tsd", quotes=False)
    assert t.repeats(t.encode(write_form(tmp_path / "form.mid"))) is None
