"""MIDI goes to ids and back, whole, in every format; the grammar knows what real music does."""

from itertools import pairwise

import mido
import numpy as np
import pytest
import torch
from making import TICKS, random_walks, write_song, write_songs

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.midi import (
    ANY_SIZE,
    Instrument,
    MidiFile,
    Note,
    TempoChange,
    TimeSignature,
    open_midi,
    summarize,
)
from seqgen.tokenizers import Shift, build_tokenizer, load_tokenizer
from seqgen.vocabulary import KEEP, RESET

TYPES = ["remi", "tsd", "midilike", "structured"]
RICH = {
    "parts": "tracks",
    "use_velocities": True,
    "use_tempos": True,
    "use_time_signatures": True,
}
METRE = {"use_tempos": True, "use_time_signatures": True}


def tokenizer(type="remi", **options):
    """A tokenizer with these options, but for those that its format lacks."""
    if type == "structured":
        options = {key: value for key, value in options.items() if key not in METRE}
    return build_tokenizer(TokenizerConfig(type=type, **options), LimitsConfig())


def notes(midi, quantum=TICKS // 4):
    """Onset, pitch and end of all notes in quantised steps of a sixteenth."""
    scale = TICKS / midi.ticks_per_beat / quantum
    return sorted(
        (round(n.start * scale), n.pitch, round(n.end * scale))
        for track in midi.instruments
        for n in track.notes
    )


@pytest.fixture
def song(tmp_path):
    return write_song(tmp_path / "song.mid")


@pytest.mark.parametrize("options", [{}, RICH], ids=["compact", "rich"])
@pytest.mark.parametrize("type", TYPES)
def test_round_trip_keeps_every_note(tmp_path, song, type, options):
    plain = tokenizer(type, **options)
    merged = plain.train([plain.encode(song)], vocab_size=plain.vocabulary.sizes[0] + 30)
    for t in (plain, merged):
        t.decode(t.encode(song), tmp_path / "back.mid")
        assert notes(open_midi(tmp_path / "back.mid")) == notes(open_midi(song))


def test_round_trip_keeps_instruments_and_drums_when_asked(tmp_path):
    midi = MidiFile(ticks_per_beat=TICKS)
    for program, is_drum, pitch in ((0, False, 60), (40, False, 72), (0, True, 36)):
        track = Instrument(program, is_drum=is_drum)
        track.notes = [Note(80, pitch, i * TICKS, (i + 1) * TICKS) for i in range(8)]
        midi.instruments.append(track)
    midi.dump(str(tmp_path / "band.mid"))
    t = tokenizer(parts="tracks")
    t.decode(t.encode(tmp_path / "band.mid"), tmp_path / "back.mid")
    back = open_midi(tmp_path / "back.mid")
    kinds = sorted((i.program, i.is_drum, len(i.notes)) for i in back.instruments)
    assert kinds == [(0, False, 8), (0, True, 8), (40, False, 8)]
    t = tokenizer()
    t.decode(t.encode(tmp_path / "band.mid"), tmp_path / "merged.mid")
    merged = open_midi(tmp_path / "merged.mid")
    assert [(i.is_drum, len(i.notes)) for i in merged.instruments] == [(False, 16)]


def test_only_drums_is_refused_with_the_way_out(tmp_path):
    midi = MidiFile(ticks_per_beat=TICKS)
    drums = Instrument(0, is_drum=True)
    drums.notes = [Note(80, 36, i * TICKS, (i + 1) * TICKS) for i in range(8)]
    midi.instruments = [drums]
    midi.dump(str(tmp_path / "drums.mid"))
    with pytest.raises(FileRejected, match="parts=tracks"):
        tokenizer().encode(tmp_path / "drums.mid")
    assert tokenizer(parts="tracks").encode(tmp_path / "drums.mid").shape[1] == 1


@pytest.mark.parametrize("options", [{}, RICH], ids=["compact", "rich"])
@pytest.mark.parametrize("type", TYPES)
def test_real_pieces_obey_the_grammar_also_when_merged(tmp_path, type, options):
    folder = write_songs(tmp_path, 6)
    files = sorted(folder.glob("*.mid"))
    plain = tokenizer(type, **options)
    merged = plain.train(map(plain.encode, files), vocab_size=plain.vocabulary.sizes[0] + 40)
    for t in (plain, merged):
        v = t.vocabulary
        for file in files:
            ids = [v.bos_id, *t.encode(file)[:, 0], v.eos_id]
            registers = np.full((1, v.n_registers), RESET)
            for i, (a, b) in enumerate(pairwise(ids)):
                made = v.grammar.changes[:, a]
                registers = np.where(made == KEEP, registers, made)
                allowed = v.allowed(
                    np.array([[a]]), has_unit=np.array([i > 0]), registers=registers
                )
                assert allowed[0, b], (t.names()[a], t.names()[b])
    assert len(merged.encode(files[0])) < len(plain.encode(files[0]))
    assert merged.units(merged.encode(files[0])) == plain.units(plain.encode(files[0]))


@pytest.mark.parametrize("merged", [False, True], ids=["plain", "bpe"])
def test_a_loaded_tokenizer_is_the_same(tmp_path, merged):
    files = sorted(write_songs(tmp_path / "songs", 5).glob("*.mid"))
    t = tokenizer("tsd", use_velocities=True)
    if merged:
        t = t.train(map(t.encode, files), vocab_size=t.vocabulary.sizes[0] + 30)
    (tmp_path / "saved").mkdir()
    t.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.fingerprint() == t.fingerprint()
    assert again.vocabulary == t.vocabulary
    assert np.array_equal(again.encode(files[0]), t.encode(files[0]))


def test_fingerprints_tell_tokenizers_apart():
    options = [{}, {"type": "tsd"}, {"use_tempos": True}, {"positions_per_beat": 8}]
    assert len({tokenizer(**o).fingerprint() for o in options}) == len(options)


def test_transposing_moves_every_pitch_and_nothing_else(tmp_path, song):
    t = tokenizer(use_velocities=True)
    plain, up, louder = t.examine(song, [Shift(), Shift(2), Shift(velocity=20)]).variants
    for name, ids in (("plain", plain), ("up", up)):
        t.decode(ids, tmp_path / f"{name}.mid")
    expected = [(s, p + 2, e) for s, p, e in notes(open_midi(tmp_path / "plain.mid"))]
    assert notes(open_midi(tmp_path / "up.mid")) == sorted(expected)
    assert len(louder) == len(plain)
    assert not np.array_equal(louder, plain)


def test_a_shift_beyond_midis_pitches_is_left_out(tmp_path):
    midi = MidiFile(ticks_per_beat=TICKS)
    track = Instrument(0)
    track.notes = [Note(80, 126, i * TICKS, (i + 1) * TICKS) for i in range(8)]
    midi.instruments = [track]
    midi.dump(str(tmp_path / "high.mid"))
    variants = tokenizer().examine(tmp_path / "high.mid", [Shift(t) for t in (0, 1, 2)]).variants
    assert len(variants) == 2


def test_units_are_notes(song):
    for type in TYPES:
        t = tokenizer(type)
        assert t.units(t.encode(song)) == 64


def test_an_unfinished_note_at_the_end_is_left_out(tmp_path, song):
    t = tokenizer()
    ids = t.encode(song)
    cut = next(i for i in range(60, 80) if t.names()[ids[i, 0]].startswith("Pitch"))
    t.decode(ids[: cut + 1], tmp_path / "cut.mid")
    t.decode(ids[:cut], tmp_path / "whole.mid")
    assert notes(open_midi(tmp_path / "cut.mid")) == notes(open_midi(tmp_path / "whole.mid"))


def test_written_files_have_a_fine_grid_and_the_asked_tempo(tmp_path, song):
    t = tokenizer(tempo=90)
    t.decode(t.encode(song), tmp_path / "a.mid")
    t.decode(t.encode(song), tmp_path / "b.mid", tempo=70)
    a, b = open_midi(tmp_path / "a.mid"), open_midi(tmp_path / "b.mid")
    assert a.ticks_per_beat == 480
    assert round(a.tempo_changes[0].tempo) == 90
    assert round(b.tempo_changes[0].tempo) == 70
    assert round(t.tempo(song)) == 100


@pytest.mark.parametrize("options", [METRE, RICH], ids=["metre", "rich"])
@pytest.mark.parametrize("type", TYPES)
def test_ids_in_any_order_make_a_file_as_long_as_its_notes(tmp_path, type, options):
    t, path = tokenizer(type, **options), tmp_path / "a.mid"
    rng, n_read = np.random.default_rng(0), 0
    for _ in range(12):
        t.decode(rng.integers(3, t.vocabulary.sizes[0], (600, 1)), path)
        written = mido.MidiFile(path)
        if any(message.type == "note_on" for track in written.tracks for message in track):
            n_read += 1
            n_ticks = summarize(open_midi(path, ANY_SIZE)).n_ticks
            longest = max(sum(message.time for message in track) for track in written.tracks)
            assert longest == pytest.approx(n_ticks, abs=1)
    assert n_read > 0


@pytest.mark.parametrize("options", [{}, RICH], ids=["compact", "rich"])
@pytest.mark.parametrize("type", TYPES)
def test_the_clock_agrees_with_the_file(song, type, options):
    t = tokenizer(type, **options)
    clock = t.clock(tempo=100)
    for token in t.encode(song):
        clock.feed(token)
    # The last onset is beat 31 of 32, in bar 8; a note-off token comes one beat later.
    last_beat = 32 if type == "midilike" else 31
    assert clock.seconds == pytest.approx(last_beat * 0.6, rel=0.02)
    assert clock.bars == (9 if type == "midilike" else 8)


def test_the_clock_follows_the_meter(tmp_path):
    midi = open_midi(write_song(tmp_path / "a.mid", bars=3))
    midi.time_signature_changes[0].numerator = 3
    midi.tempo_changes = [TempoChange(60, 0)]
    midi.dump(str(tmp_path / "b.mid"))
    t = tokenizer(use_time_signatures=True)
    clock = t.clock(tempo=60)
    for token in t.encode(tmp_path / "b.mid"):
        clock.feed(token)
    assert clock.bars == 4  # twelve beats in bars of three
    assert clock.seconds == pytest.approx(11)


@pytest.mark.parametrize("options", [{}, RICH], ids=["compact", "rich"])
@pytest.mark.parametrize("type", TYPES)
def test_whatever_the_grammar_lets_through_decodes_to_notes(tmp_path, type, options):
    t = tokenizer(type, **options)
    logits = [torch.zeros(12, t.vocabulary.sizes[0])]
    for ids in random_walks(t.vocabulary, 12, 120, lambda: logits):
        t.decode(ids, tmp_path / "walk.mid")
        assert open_midi(tmp_path / "walk.mid", LimitsConfig(max_minutes=1e4)).instruments


@pytest.mark.parametrize("options", [{}, RICH], ids=["compact", "rich"])
@pytest.mark.parametrize("type", TYPES)
def test_what_is_written_passes_the_gate_however_many_notes_share_a_key(tmp_path, type, options):
    """Notes that a file has one after another may fall together on the grid of the tokens."""
    midi = MidiFile(ticks_per_beat=TICKS * 20)
    for program in (0, 40):
        notes = [Note(80, 60, i, i + 1) for i in range(400)]
        notes += [Note(80, 62, i * TICKS, (i + 40) * TICKS) for i in range(100)]
        midi.instruments.append(Instrument(program, notes=notes))
    midi.dump(str(tmp_path / "trill.mid"))
    t = tokenizer(type, **options)
    ids = t.encode(tmp_path / "trill.mid")
    assert t.units(ids) == 1000
    t.decode(ids, tmp_path / "back.mid")
    back = open_midi(tmp_path / "back.mid")
    kept = [note.pitch for track in back.instruments for note in track.notes]
    assert (kept.count(60), kept.count(62)) == (256, 200)


def test_tokens_that_a_format_lacks_are_refused():
    with pytest.raises(UserError, match="the format structured has no such tokens"):
        build_tokenizer(TokenizerConfig(type="structured", use_tempos=True), LimitsConfig())


def test_merges_must_exceed_the_plain_vocabulary():
    with pytest.raises(UserError, match="must be above the"):
        tokenizer(bpe_vocab_size=50)


@pytest.mark.parametrize("type", TYPES)
def test_merging_ids_is_what_encoding_does_and_leaves_special_ids_alone(tmp_path, type):
    plain = tokenizer(type)
    ids = [plain.encode(file) for file in write_songs(tmp_path, 4).glob("*.mid")]
    merged = plain.train(ids, vocab_size=plain.vocabulary.sizes[0] + 40)
    v = merged.vocabulary
    for file, piece in zip(tmp_path.glob("*.mid"), ids, strict=True):
        framed = np.concatenate([[[v.bos_id]], piece, [[v.eos_id]]])
        expected = np.concatenate([[[v.bos_id]], merged.encode(file), [[v.eos_id]]])
        assert np.array_equal(merged.merge(framed), expected)
        assert len(expected) < len(framed)


@pytest.mark.parametrize("type", TYPES)
def test_no_merge_holds_a_special_id(song, type):
    plain = tokenizer(type)
    v = plain.vocabulary
    framed = np.concatenate([[[v.bos_id]], plain.encode(song), [[v.eos_id]]])
    merged = plain.train([framed] * 3, vocab_size=v.sizes[0] + 60)
    for name in merged.names()[v.sizes[0] :]:
        assert not {"BOS_None", "EOS_None"} & set(name.split("+")), name


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*tokenizer\.json.*: copy the folder again"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"type": "remi", "config": {"type": "remix"}}')
    with pytest.raises(UserError, match="no usable tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("quotes", [False, True])
def test_files_in_some_of_the_metres_of_a_vocabulary_are_read(tmp_path, quotes):
    metres = ["2/4", "6/8", "1/32"]  # of the file: 2/4 and 6/8
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.time_signature_changes = [TimeSignature(2, 4, 0), TimeSignature(6, 8, 2 * TICKS)]
    notes = [Note(80, 60 + i, i * TICKS, (i + 1) * TICKS) for i in range(5)]
    midi.instruments = [Instrument(0, notes=notes)]
    midi.dump(str(tmp_path / "song.mid"))
    t = tokenizer(use_time_signatures=True, time_signatures=metres, quotes=quotes)
    t.decode(t.encode(tmp_path / "song.mid"), tmp_path / "again.mid")
    again = open_midi(tmp_path / "again.mid")
    assert [n.start / again.ticks_per_beat for n in again.instruments[0].notes] == [0, 1, 2, 3, 4]
    found = [(c.numerator, c.denominator) for c in again.time_signature_changes]
    assert found == [(2, 4), (6, 8)]
