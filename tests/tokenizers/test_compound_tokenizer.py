"""Compound words hold what plain tokens of one stream hold, and what is drawn of them is music."""

import miditok
import numpy as np
import pytest
import torch
from making import TICKS, random_walks, write_song

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.midi import (
    ControlChange,
    Instrument,
    MidiFile,
    Note,
    PitchBend,
    TempoChange,
    TimeSignature,
    read_midi,
)
from seqgen.tokenizers import build_tokenizer, choose_settings, survey_file
from seqgen.tokenizers.midi.compound import BARS, COMPOUND, group

EVERYTHING = {
    "parts": "tracks",
    "part_names": ["0", "40", "drums"],
    "use_velocities": True,
    "use_tempos": True,
    "use_time_signatures": True,
    "use_sustain_pedals": True,
    "use_pitch_bends": True,
    "time_signatures": ["4/4", "3/4", "6/8"],
    "max_bars": 40,
}
SETTINGS = {
    "compact": {},
    "everything": EVERYTHING,
    "no velocities": EVERYTHING | {"use_velocities": False, "use_tempos": False},
    "one part with pedals": {"use_sustain_pedals": True, "use_tempos": True},
    "metres only": {"use_time_signatures": True},
    "another order": EVERYTHING | {"field_order": ["duration", "pitch", "velocity"]},
}


def build(type, settings):
    return build_tokenizer(TokenizerConfig(type=type, **settings), LimitsConfig())


def write_everything(path):
    """Metres that change in bars without a note, tempos likewise, drums, pedals and bends."""
    beat, bar = TICKS, 4 * TICKS
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.time_signature_changes = [
        TimeSignature(4, 4, 0),
        TimeSignature(3, 4, 2 * bar),  # no note in this bar
        TimeSignature(6, 8, 2 * bar + 3 * beat),
        TimeSignature(4, 4, 2 * bar + 9 * beat),
    ]
    after = 2 * bar + 9 * beat
    midi.tempo_changes = [
        TempoChange(100, 0),
        TempoChange(140, beat),  # no note here
        TempoChange(90, 2 * beat),
        TempoChange(120, after + bar + beat),
        TempoChange(60, after + bar + 2 * beat),
    ]
    piano, violin, drums = Instrument(0), Instrument(40), Instrument(0, is_drum=True)
    for start in (0, 2 * beat, bar, 2 * bar + 3 * beat, after, after + 3 * bar):
        piano.notes.append(Note(80, 60, start, start + beat))
        piano.notes.append(Note(60, 64, start, start + 2 * beat))
        drums.notes.append(Note(100, 36, start, start + beat // 2))
    violin.notes = [Note(90, 72, beat, 2 * beat), Note(90, 74, after + beat, after + 2 * beat)]
    violin.pitch_bends = [PitchBend(2000, beat), PitchBend(0, 2 * beat)]
    drums.pitch_bends = [PitchBend(2000, beat)]  # which one stream does not tell
    piano.control_changes = [
        ControlChange(64, value, tick)
        for tick, value in ((beat, 127), (3 * beat, 0), (after, 127), (after + bar, 0))
    ]
    midi.instruments = [piano, violin, drums]
    midi.dump(str(path))
    return path


@pytest.fixture(params=COMPOUND)
def type(request):
    return request.param


@pytest.fixture(params=SETTINGS)
def tokenizer(request, type):
    return build(type, SETTINGS[request.param])


def plain_of(tokenizer, path):
    """The tokens of the single stream that compound ones are made of."""
    config = tokenizer.config.model_copy(update={"type": "remi", "layout": "stream"})
    remi = build_tokenizer(config, LimitsConfig())
    names = remi.names()
    return [names[i] for i in remi.encode(path)[:, 0]]


def test_nothing_of_the_plain_tokens_is_lost(tmp_path, tokenizer):
    for path in (write_everything(tmp_path / "a.mid"), write_song(tmp_path / "b.mid", seed=3)):
        plain, ids = plain_of(tokenizer, path), tokenizer.encode(path)
        unpacker = tokenizer._unpacker()
        assert [x for token in ids for x in unpacker.take(token)] == plain
        assert len(ids) < len(plain)
        assert np.array_equal(tokenizer.vocabulary.fill_unused(ids), ids)


def test_a_file_comes_back_with_all_that_tokens_carry(tmp_path, type):
    tokenizer = build(type, EVERYTHING)
    path, written = write_everything(tmp_path / "a.mid"), tmp_path / "b.mid"
    tokenizer.decode(tokenizer.encode(path), written)
    before, after = (read_midi(file, LimitsConfig()).midi for file in (path, written))
    metres = [
        [
            (m.numerator, m.denominator, m.time / midi.ticks_per_beat)
            for m in midi.time_signature_changes
        ]
        for midi in (before, after)
    ]
    assert metres[0] == metres[1]
    tempos = [
        [(t.time / m.ticks_per_beat, t.tempo) for t in m.tempo_changes] for m in (before, after)
    ]
    np.testing.assert_allclose(*tempos, rtol=0.01)
    assert len(after.instruments) == 3
    assert sum(len(track.pedals) for track in after.instruments) == 2
    assert sum(len(track.notes) for track in after.instruments) == 20
    assert tokenizer.units(tokenizer.encode(path)) == 20


def test_the_clock_is_that_of_the_plain_tokens(tmp_path, type):
    tokenizer, path = build(type, EVERYTHING), write_everything(tmp_path / "a.mid")
    clock, plain_clock = tokenizer.clock(), tokenizer._plain.clock()
    for token in tokenizer.encode(path):
        clock.feed(token)
    for token in tokenizer._plain.encode(path):
        plain_clock.feed(token)
    assert (clock.bars, clock.quarters) == (plain_clock.bars, plain_clock.quarters)
    assert clock.seconds == pytest.approx(plain_clock.seconds)


def test_cpword_groups_as_miditok_does(tmp_path):
    path = write_song(tmp_path / "a.mid")
    tokenizer = build("cpword", {"use_velocities": True})
    plain = plain_of(tokenizer, path)
    config = miditok.TokenizerConfig(
        pitch_range=(0, 127),
        beat_res={(0, 8): 4},
        num_velocities=16,
        use_programs=False,
        use_chords=False,
        use_tempos=False,
        use_time_signatures=False,
        encode_ids_split="no",
    )
    theirs = miditok.CPWord(config)
    remi = miditok.REMI(config)
    score = remi.decode([miditok.TokSequence(tokens=plain, ids=[remi.vocab[x] for x in plain])])
    expected = [
        [x for x in token if not x.startswith(("Ignore", "Family"))]
        for token in theirs.encode(score)[0].tokens
    ]
    unpacker = tokenizer._unpacker()
    assert [unpacker.take(token) for token in tokenizer.encode(path)] == expected


def drawn_at_random(tokenizer):
    """Six pieces [T, F] that only the grammar has chosen."""
    v = tokenizer.vocabulary

    def logits():
        drawn = [torch.randn(6, size) for size in v.sizes]
        if v.fields[1].name == "bar":  # bars come one after the other
            drawn[1][:, 3:] -= 0.5 * torch.arange(v.sizes[1] - 3)
        return drawn

    return random_walks(v, 6, 60, logits)


def test_whatever_is_drawn_goes_forward_and_becomes_a_file(tmp_path, tokenizer):
    for ids in drawn_at_random(tokenizer):
        clock, now = tokenizer.clock(), (0, 0.0)
        for token in ids:
            clock.feed(token)
            assert (clock.bars, clock.quarters) >= now
            now = clock.bars, clock.quarters
        if tokenizer.units(ids):
            tokenizer.decode(ids, tmp_path / "a.mid")
            assert read_midi(tmp_path / "a.mid", LimitsConfig()).midi.instruments


def test_positions_of_one_bar_rise(tokenizer):
    names = tokenizer.words.fields
    at = names.index("position")
    numbered = "bar" in names  # in each token, and not by tokens between
    for ids in drawn_at_random(tokenizer):
        bar, position = None, -1
        for token in ids:
            kind = tokenizer.words.kinds[token[0]]
            number = token[names.index("bar")] if numbered else None
            if kind in BARS or number != bar:
                assert bar is None or number is None or number >= bar
                bar, position = number, -1
            if tokenizer.vocabulary.uses[token[0], at]:
                assert token[at] >= position + (not numbered)
                position = token[at]


def test_the_named_fields_come_first(type):
    fields = build(type, SETTINGS["another order"]).words.fields
    assert fields[:4] == ["kind", "duration", "pitch", "velocity"]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (["pitch", "position", "metre"], "metre, position must keep this order"),
        (["pitch", "colour"], "the fields of these tokens are "),
    ],
)
def test_an_order_that_cannot_be_told_is_refused(type, order, said):
    with pytest.raises(UserError, match=said):
        build(type, EVERYTHING | {"field_order": order})


def test_tokens_of_one_field_have_no_order():
    with pytest.raises(ValueError, match="type=remi has one"):
        TokenizerConfig(field_order=["pitch"])


def test_more_bars_than_numbers_are_refused_and_not_cut(tmp_path):
    path = write_song(tmp_path / "a.mid", bars=9)
    with pytest.raises(FileRejected, match=r"9 bars, and the tokens number 8.*max_bars"):
        build("octuple", {"max_bars": 8}).encode(path)
    assert len(build("octuple", {"max_bars": 9}).encode(path)) == 72


def test_the_corpus_decides_how_many_bars_have_numbers(tmp_path):
    paths = [write_song(tmp_path / f"{bars}.mid", bars=bars) for bars in (3, 30, 12)]
    surveys = [survey_file(path, LimitsConfig()) for path in paths]
    assert [one.bars for one in surveys] == [3, 30, 12]
    settings, why = choose_settings(TokenizerConfig(type="octuple"), surveys)
    assert settings.max_bars >= 30
    assert "longest file has 30" in why["max_bars"]
    assert "max_bars" not in choose_settings(TokenizerConfig(type="cpword"), surveys)[1]
    everything = survey_file(write_everything(tmp_path / "a.mid"), LimitsConfig())
    assert everything.bars == 2 + 1 + 2 + 4
    midi = MidiFile(str(paths[0]))
    midi.instruments[0].control_changes = [
        ControlChange(64, 127, 0),
        ControlChange(64, 0, 50 * 4 * TICKS),
    ]
    midi.dump(str(paths[0]))
    assert survey_file(paths[0], LimitsConfig()).bars == 51


def test_compound_words_are_not_merged(type):
    with pytest.raises(UserError, match=f"bpe_vocab_size.*{type}"):
        build_tokenizer(TokenizerConfig(type=type, bpe_vocab_size=500), LimitsConfig())
    with pytest.raises(UserError, match="cannot be merged"):
        build(type, {}).train([], vocab_size=500)


def test_drums_alone_have_neither_pitch_nor_program(type):
    words = build(type, {"parts": "tracks", "part_names": ["drums"], "use_pitch_bends": True}).words
    assert {"note", "bend", "program", "pitch"}.isdisjoint({*words.kinds, *words.fields})
    assert "drum" in words.kinds


def test_other_drums_than_the_vocabulary_has_need_no_field():
    words = build("cpword", {"parts": "tracks", "part_names": ["0", "40"]}).words
    assert "drum" not in words.kinds
    assert "drum" not in words.fields
    assert [token[0] for token in group(["Bar_None"], words)] == [words.kinds.index("bar")]
