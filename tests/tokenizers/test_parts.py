"""Several parts go through tokens as they are: each note in its track, in time and in its metre."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from making import TICKS, write_band

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
    midi_bytes,
    open_midi,
)
from seqgen.midi.bends import semitones_of
from seqgen.sampling import Sampler, Sampling
from seqgen.tokenizers import Original, Shift, build_tokenizer
from seqgen.tokenizers.midi.metres import metres_of
from seqgen.tokenizers.midi.parts import MERGED, STANDARD_KIT, Part, assign, tell, untell
from seqgen.vocabulary import Vocabulary

ALL = {
    "parts": "tracks",
    "use_velocities": True,
    "n_velocities": 127,
    "use_tempos": True,
    "use_time_signatures": True,
    "use_sustain_pedals": True,
    "use_pitch_bends": True,
    "positions_per_beat": 24,
    "max_note_beats": 16,
    "time_signatures": ["4/4", "9/8", "5/4", "7/16"],
}


def tokenizer(**options):
    return build_tokenizer(TokenizerConfig(**{**ALL, **options}), LimitsConfig())


def heard(midi):
    """What sounds: for each track its program, and onset, end, pitch and velocity in quarters."""
    tracks = []
    for track in midi.instruments:
        scale = midi.ticks_per_beat
        notes = sorted((n.start / scale, n.end / scale, n.pitch, n.velocity) for n in track.notes)
        tracks.append((track.program, track.is_drum, notes))
    return sorted(tracks)


@pytest.mark.parametrize("layout", ["bars", "stream"])
@pytest.mark.parametrize("metre", [(4, 4), (9, 8), (5, 4), (7, 16)])
def test_a_band_comes_back_note_for_note(tmp_path, layout, metre):
    path = write_band(tmp_path / "band.mid", metre=metre)
    t = tokenizer(layout=layout)
    t.decode(t.encode(path), tmp_path / "back.mid")
    before, after = open_midi(path), open_midi(tmp_path / "back.mid")
    assert heard(after) == heard(before)
    changes = after.time_signature_changes
    assert [(c.numerator, c.denominator, c.time) for c in changes] == [(*metre, 0)]
    assert after.tempo_changes[0].tempo == pytest.approx(before.tempo_changes[0].tempo, abs=0.5)


def test_pedal_and_bends_come_back(tmp_path):
    path = write_band(tmp_path / "band.mid")
    midi = open_midi(path)
    track = midi.instruments[0]
    track.control_changes = [ControlChange(64, 127, 0), ControlChange(64, 0, 2 * TICKS)]
    track.pitch_bends = [PitchBend(4096, TICKS), PitchBend(0, 2 * TICKS)]
    path.write_bytes(midi_bytes(midi))
    t = tokenizer()
    t.decode(t.encode(path), tmp_path / "back.mid")
    back = open_midi(tmp_path / "back.mid").instruments[0]
    assert [(p.start, p.end) for p in back.pedals] == [(0, 2 * TICKS)]
    bends = [(bend.time, bend.pitch) for bend in back.pitch_bends]
    assert [time for time, _ in bends] == [TICKS, 2 * TICKS]
    assert bends[0][1] == pytest.approx(4096, abs=256)
    assert bends[1][1] == 0


def test_a_note_ends_before_its_key_is_struck_again(tmp_path):
    """Onsets and lengths are rounded one by one; a release too late would end the next note."""
    midi = MidiFile(ticks_per_beat=TICKS)
    starts = np.cumsum([150 + i * 173 % 550 for i in range(100)]).tolist()
    notes = [Note(80, 60, a, b) for a, b in pairwise(starts)]
    midi.instruments = [Instrument(0, notes=notes)]
    path = tmp_path / "legato.mid"
    path.write_bytes(midi_bytes(midi))
    for positions in (4, 24):
        t = tokenizer(positions_per_beat=positions)
        t.decode(t.encode(path), tmp_path / "back.mid")
        back = open_midi(tmp_path / "back.mid").instruments[0].notes
        assert len(back) == len(notes)
        assert all(a.end <= b.start for a, b in pairwise(back))


@pytest.mark.parametrize("later", [(4, 4), (7, 16)])
def test_a_pedal_changed_between_two_positions_is_released(tmp_path, later):
    """Pianists press it again right after the release: MidiTok would leave it down."""
    midi = open_midi(write_band(tmp_path / "band.mid"))
    midi.time_signature_changes.append(TimeSignature(*later, 8 * TICKS))
    midi.instruments[0].control_changes = [
        ControlChange(64, value, i * TICKS + tick)
        for i in range(16)
        for value, tick in ((127, 20), (0, TICKS - 20))
    ]
    (tmp_path / "pedal.mid").write_bytes(midi_bytes(midi))
    t = tokenizer(positions_per_beat=4)
    account = t.examine(tmp_path / "pedal.mid", [Shift()]).account
    assert "presses of the sustain pedal" not in account["lost"]
    t.decode(t.encode(tmp_path / "pedal.mid"), tmp_path / "back.mid")
    pedals = open_midi(tmp_path / "back.mid").instruments[0].pedals
    assert [round(p.end / TICKS) for p in pedals] == list(range(1, 17))
    assert [p.end % TICKS for p in pedals[:8]] == [0] * 8
    gaps = [b.start - a.end for a, b in pairwise(pedals)]
    assert gaps[:7] == [TICKS // 4] * 7
    assert all(0 < gap <= TICKS // 4 for gap in gaps)


def test_of_bends_at_one_position_the_last_holds(tmp_path):
    """MidiTok keeps the furthest: a note bent for a moment would stay bent."""
    midi = open_midi(write_band(tmp_path / "band.mid"))
    midi.instruments[0].pitch_bends = [
        *(PitchBend(8000, 0), PitchBend(0, 9), PitchBend(-3000, TICKS), PitchBend(0, TICKS)),
        *(PitchBend(4096, 2 * TICKS), PitchBend(0, 3 * TICKS)),
    ]
    (tmp_path / "bends.mid").write_bytes(midi_bytes(midi))
    t = tokenizer(positions_per_beat=4)
    assert t.examine(tmp_path / "bends.mid", [Shift()]).account["lost"]["pitch bends"] == 2
    t.decode(t.encode(tmp_path / "bends.mid"), tmp_path / "back.mid")
    bends = open_midi(tmp_path / "back.mid").instruments[0].pitch_bends
    held = [(bend.time, round(bend.pitch / 1024)) for bend in bends]
    assert held == [(0, 0), (TICKS, 0), (2 * TICKS, 4), (3 * TICKS, 0)]


def test_bends_reach_as_far_as_in_the_file_also_behind_a_prompt(tmp_path):
    midi = open_midi(write_band(tmp_path / "band.mid"))
    track = midi.instruments[0]
    track.control_changes = [ControlChange(n, v, 0) for n, v in ((101, 0), (100, 0), (6, 8))]
    track.pitch_bends = [PitchBend(1024, 0), PitchBend(0, TICKS), PitchBend(1024, 9 * TICKS)]
    track.pitch_bends += [PitchBend(8191, 10 * TICKS), PitchBend(0, 11 * TICKS)]
    path = tmp_path / "bends.mid"
    path.write_bytes(midi_bytes(midi))
    t = tokenizer()
    ids = np.concatenate([[[t.vocabulary.bos_id]], t.encode(path)])
    lost = t.examine(path, [Shift()]).account["lost"]
    assert lost["bends by more than two semitones"] == 1

    t.decode(ids, tmp_path / "alone.mid")
    alone = open_midi(tmp_path / "alone.mid").instruments[0]
    assert semitones_of(alone) == pytest.approx([1, 0, 1, 2, 0], abs=0.07)

    cut = np.flatnonzero(ids[:, 0] == t.bar[0])[2] + 1
    t.decode(ids, tmp_path / "more.mid", original=Original(path, cut, until=8.0))
    more = open_midi(tmp_path / "more.mid").instruments[0]
    assert semitones_of(more) == pytest.approx([1, 0, 1, 2, 0], abs=0.07)


@pytest.mark.parametrize("parts", ["one", "tracks"])
def test_the_pedal_of_any_instrument_is_told(tmp_path, parts):
    """MidiTok's single tracks have tokens for the pedal of program 0 alone; drums have none."""
    midi = open_midi(write_band(tmp_path / "band.mid"))
    for track in midi.instruments:
        track.control_changes = [ControlChange(64, 127, 0), ControlChange(64, 0, 2 * TICKS)]
    (tmp_path / "pedal.mid").write_bytes(midi_bytes(midi))
    t = tokenizer(parts=parts, part_names=["4"] if parts == "one" else None)
    t.decode(t.encode(tmp_path / "pedal.mid"), tmp_path / "back.mid")
    back = open_midi(tmp_path / "back.mid").instruments
    pedals = [[(p.start, p.end) for p in track.pedals] for track in back if not track.is_drum]
    assert pedals == [[(0, 2 * TICKS)]] * (1 if parts == "one" else 3)
    assert parts == "tracks" or back[0].program == 4


def test_a_note_that_is_held_in_a_prompt_ends_with_what_follows(tmp_path):
    path = write_band(tmp_path / "band.mid")
    midi = open_midi(path)
    held = midi.instruments[0].notes[0]
    held.end = 400 * TICKS
    path.write_bytes(midi_bytes(midi))
    t = tokenizer()
    ids = np.concatenate([[[t.vocabulary.bos_id]], t.encode(path)])
    cut = np.flatnonzero(ids[:, 0] == t.bar[0])[2] + 1
    t.decode(ids, tmp_path / "more.mid", original=Original(path, cut, until=8.0))
    ends = [n.end for track in open_midi(tmp_path / "more.mid").instruments for n in track.notes]
    assert max(ends) <= 17 * 4 * TICKS  # the longest note that tokens have, in the last bar


def test_a_prompt_is_described_with_what_its_tokens_lack(tmp_path):
    path = write_band(tmp_path / "band.mid", metre=(9, 8))
    t = tokenizer(time_signatures=["4/4"], part_names=["0", "40"], use_velocities=False)
    about, left_out = t.describe(path, until=8.0)
    assert about == "2 bars of 9/8 at 87 bpm, 82 notes, 4 tracks"
    told = " ".join(left_out)
    for lost in (
        "changes of metre to 9/8, which the vocabulary lacks (1)",
        "tracks of Electric Bass (finger) told as Violin",
        "drum tracks left out (1)",
        "notes with another velocity",
        "ends inside a bar",
    ):
        assert lost in told, left_out


def test_drum_keys_beyond_general_midi_are_kept(tmp_path):
    midi = MidiFile(ticks_per_beat=TICKS)
    keys = [36, 22, 38, 26, 0, 127]
    notes = [Note(80, key, i * TICKS, (i + 1) * TICKS) for i, key in enumerate(keys)]
    midi.instruments = [Instrument(0, is_drum=True, notes=notes)]
    (tmp_path / "kit.mid").write_bytes(midi_bytes(midi))
    t = tokenizer()
    t.decode(t.encode(tmp_path / "kit.mid"), tmp_path / "back.mid")
    [track] = open_midi(tmp_path / "back.mid").instruments
    assert [note.pitch for note in track.notes] == keys


def test_tracks_of_one_program_keep_apart_by_role_and_by_number():
    parts = [Part.named(name) for name in ("0.melody", "0", "0.2", "40", "drums")]
    tracks = [
        Instrument(0, name="Chords"),
        Instrument(0, name="MELODY!"),
        Instrument(0, name="other"),
        Instrument(0, name="third"),
        Instrument(41, name="viola"),
        Instrument(0, is_drum=True),
    ]
    found, changed = assign(tracks, parts)
    assert [parts[k].name for k in found] == ["0", "0.melody", "0.2", "0.2", "40", "drums"]
    assert changed == {MERGED: 1, "tracks of Viola told as Violin": 1}


def test_what_no_part_can_play_is_left_out_and_named(tmp_path):
    drums = [Part.named("drums")]
    tracks = [Instrument(3), Instrument(25, is_drum=True)]
    found, changed = assign(tracks, drums)
    assert found == [-1, 0]
    assert changed == {"pitched tracks left out": 1, STANDARD_KIT: 1}
    with_role = [Part.named("drums.kit"), *drums]
    found, changed = assign([Instrument(25, is_drum=True, name="Kit")], with_role)
    assert (found, changed) == ([0], {STANDARD_KIT: 1})
    path = write_band(tmp_path / "band.mid")
    midi = open_midi(path)
    midi.instruments = midi.instruments[:3]
    path.write_bytes(midi_bytes(midi))
    with pytest.raises(FileRejected, match="pitched instruments only"):
        tokenizer(part_names=["drums"]).encode(path)


@pytest.mark.parametrize("name", ["128", "-1", "piano", "0.Melody", "0.a_b"])
def test_a_name_of_no_part_is_refused(name):
    with pytest.raises(ValueError, match="names no part"):
        Part.named(name)
    with pytest.raises(UserError, match=r"part_names: .* names no part"):
        tokenizer(part_names=["0", name])


def test_a_vocabulary_without_parts_is_refused():
    with pytest.raises(UserError, match="part_names is empty"):
        tokenizer(part_names=[])


def test_what_is_told_by_bars_is_untold():
    piano = ["Bar_None", "TimeSig_4/4", "Position_0", "Tempo_120", "Pitch_60", "Duration_1"]
    piano += ["Bar_None", "TimeSig_4/4", "Position_4", "Tempo_90", "Position_8", "Pitch_62"]
    piano += ["Duration_1"]
    violin = ["Bar_None", "TimeSig_4/4", "Position_0", "Tempo_120", "Bar_None", "TimeSig_4/4"]
    violin += ["Position_2", "Pitch_70", "Duration_1"]
    told = tell([("0", piano), ("40", violin)])
    assert told == [
        *("Bar_None", "TimeSig_4/4", "TempoPosition_0", "Tempo_120"),
        *("Part_0", "Position_0", "Pitch_60", "Duration_1"),
        *("Bar_None", "TimeSig_4/4", "TempoPosition_4", "Tempo_90"),
        *("Part_0", "Position_8", "Pitch_62", "Duration_1"),
        *("Part_40", "Position_2", "Pitch_70", "Duration_1"),
    ]
    time, first, second = untell(told, ["0", "40"])
    assert [token for token in time if token.startswith("Tempo")] == ["Tempo_120", "Tempo_90"]
    assert first == [
        *("Bar_None", "TimeSig_4/4"),
        *("Position_0", "Pitch_60", "Duration_1", "Bar_None", "TimeSig_4/4"),
        *("Position_8", "Pitch_62", "Duration_1"),
    ]
    assert second == violin[:2] + violin[4:]


def drawn(vocabulary: Vocabulary, prompt, *, seed, length=200):
    """Ids drawn from nothing but the grammar, behind a prompt [T, 1]."""
    sampler = Sampler(vocabulary, 1)
    sampler.enter(0, Sampling(), seed=(seed, 0), prompt=prompt)
    slots, logits = torch.tensor([0]), [torch.zeros(1, vocabulary.sizes[0])]
    ids = list(prompt[:, 0])
    while len(ids) < length + len(prompt) and ids[-1] != vocabulary.eos_id:
        sampler.prepare([0])
        ids.append(int(sampler.draw(logits, slots)))
    return np.array(ids)[:, None]


@pytest.mark.parametrize("merged", [False, True], ids=["plain", "merged"])
@pytest.mark.parametrize("layout", ["bars", "stream"])
def test_no_note_is_drawn_before_the_end_of_the_prompt(tmp_path, layout, merged):
    path = write_band(tmp_path / "band.mid", metre=(9, 8))
    t = tokenizer(layout=layout, part_names=["0", "40", "33", "drums"])
    if merged:
        t = t.train([t.encode(path)], vocab_size=t.vocabulary.sizes[0] + 50)
    ids = np.concatenate([[[t.vocabulary.bos_id]], t.encode(path)])
    if t.tells_parts:
        ids = np.concatenate([ids, t.bar[None]])
    clock = t.clock()
    for token in ids:
        clock.feed(token)
    t.decode(ids, tmp_path / "prompt.mid")
    n_before = len(
        np.concatenate([track[2] for track in heard(open_midi(tmp_path / "prompt.mid"))])
    )
    for seed in range(6):
        t.decode(drawn(t.vocabulary, ids, seed=seed), tmp_path / "more.mid")
        midi = open_midi(tmp_path / "more.mid", LimitsConfig(max_minutes=1e4))
        onsets = [note[0] for track in heard(midi) for note in track[2]]
        assert sum(onset < clock.quarters - 1e-6 for onset in onsets) <= n_before
        per_bar = 4.5
        for track in midi.instruments:
            assert all(0 <= note.start / TICKS % per_bar < per_bar for note in track.notes)


def test_a_continuation_begins_with_the_file_itself(tmp_path):
    """Timing between the grid, velocities, names and controllers of the file are kept."""
    path = write_band(tmp_path / "band.mid")
    midi = open_midi(path)
    for track in midi.instruments:
        track.name = f"my {track.program}"
        track.control_changes = [ControlChange(7, 99, 0)]
        for note in track.notes:
            note.start += 7
            note.end += 7
    path.write_bytes(midi_bytes(midi))
    t = tokenizer(use_velocities=False, use_tempos=False, positions_per_beat=4)
    ids = t.encode(path)
    clock, cut = t.clock(), 0
    while clock.bars < 3:
        clock.feed(ids[cut])
        cut += 1
    longer = np.concatenate([[[t.vocabulary.bos_id]], ids])
    original = Original(path, cut + 1, until=8.0)
    t.decode(longer, tmp_path / "more.mid", original=original)
    before, after = open_midi(path), open_midi(tmp_path / "more.mid")
    assert [track.name for track in after.instruments] == [t.name for t in before.instruments]
    assert after.tempo_changes[0].tempo == pytest.approx(before.tempo_changes[0].tempo)
    border = 2 * 4 * TICKS
    for old, new in zip(before.instruments, after.instruments, strict=True):
        kept = [(n.start, n.end, n.pitch, n.velocity) for n in old.notes if n.start < border]
        begun = [(n.start, n.end, n.pitch, n.velocity) for n in new.notes if n.start < border]
        assert begun == kept
        assert len(new.notes) == len(old.notes)
        later = [n for n in new.notes if n.start >= border]
        assert all(n.start % (TICKS // 4) == 0 for n in later)
        assert [(c.number, c.value) for c in new.control_changes] == [(7, 99)]


def test_what_continues_several_tracks_as_one_has_a_track_of_its_own(tmp_path):
    path = write_band(tmp_path / "band.mid")
    t = tokenizer(parts="one", part_names=["0"])
    ids = np.concatenate([[[t.vocabulary.bos_id]], t.encode(path)])
    cut = np.flatnonzero(ids[:, 0] == t.bar[0])[2] + 1
    t.decode(ids, tmp_path / "more.mid", original=Original(path, cut, until=8.0))
    names = [track.name for track in open_midi(tmp_path / "more.mid").instruments]
    assert names[-1] == "Acoustic Grand Piano"
    assert len(names) == 5


@pytest.mark.parametrize("type", ["remi", "tsd", "midilike"])
def test_a_whole_file_is_kept_where_its_last_bar_is_open(tmp_path, type):
    midi = MidiFile(ticks_per_beat=TICKS)
    notes = [Note(70 + i, 60 + i, i * TICKS + 11, (i + 1) * TICKS + 5) for i in range(6)]
    midi.instruments = [Instrument(0, name="hand", notes=notes)]
    path = tmp_path / "a.mid"
    path.write_bytes(midi_bytes(midi))
    t = build_tokenizer(TokenizerConfig(type=type), LimitsConfig())
    ids = np.concatenate([[[t.vocabulary.bos_id]], t.encode(path)])
    longer = MidiFile(ticks_per_beat=TICKS)
    more = [Note(90, 72, 5 * TICKS, 6 * TICKS), Note(90, 74, 7 * TICKS, 8 * TICKS)]
    longer.instruments = [Instrument(0, notes=[*notes, *more])]
    (tmp_path / "longer.mid").write_bytes(midi_bytes(longer))
    together = np.concatenate([[[t.vocabulary.bos_id]], t.encode(tmp_path / "longer.mid")])
    n_same = int((together[: len(ids)] == ids[: len(together)]).all(axis=1).argmin() or len(ids))
    t.decode(together, tmp_path / "more.mid", original=Original(path, n_same))
    [back] = open_midi(tmp_path / "more.mid").instruments
    heard = [(n.start, n.end, n.pitch, n.velocity) for n in back.notes]
    for note in notes:
        assert heard.count((note.start, note.end, note.pitch, note.velocity)) == 1
    assert [n.pitch for n in back.notes].count(72) == [n.pitch for n in back.notes].count(74) == 1


def test_the_tempo_of_a_written_file_can_be_set(tmp_path):
    path = write_band(tmp_path / "band.mid")
    for options in ({}, {"use_tempos": False, "tempo": 111.0}):
        t = tokenizer(**options)
        t.decode(t.encode(path), tmp_path / "a.mid")
        t.decode(t.encode(path), tmp_path / "b.mid", tempo=60)
        own = open_midi(path).tempo_changes[0].tempo if not options else 111
        found = [open_midi(tmp_path / name).tempo_changes[0].tempo for name in ("a.mid", "b.mid")]
        assert found == [pytest.approx(own, abs=0.5), pytest.approx(60)]


def test_a_bar_that_is_cut_short_becomes_a_bar_of_its_length():
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.time_signature_changes = [TimeSignature(4, 4, 0), TimeSignature(3, 4, 7 * TICKS)]
    metres, changed = metres_of(midi, None)
    assert metres == [(0, 4, 4), (4 * TICKS, 3, 4)]  # three quarters, and then 3/4 as well
    midi.time_signature_changes[1] = TimeSignature(6, 8, int(5.5 * TICKS))
    metres, changed = metres_of(midi, None)
    assert metres == [(0, 4, 4), (4 * TICKS, 3, 8), (int(5.5 * TICKS), 6, 8)]
    assert not changed


def test_a_metre_that_the_vocabulary_lacks_is_told_as_one_of_equal_length():
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.time_signature_changes = [TimeSignature(6, 8, 0), TimeSignature(11, 16, 12 * TICKS)]
    metres, changed = metres_of(midi, ["3/4", "4/4"])
    assert metres == [(0, 3, 4)]
    assert sum(changed.values()) == 1


def test_a_transposed_variant_is_that_of_a_transposed_file(tmp_path):
    path = write_band(tmp_path / "band.mid")
    t = tokenizer()
    [plain, up] = t.examine(path, [Shift(), Shift(3)]).variants
    midi = open_midi(path)
    for track in midi.instruments:
        for note in track.notes:
            note.pitch += 0 if track.is_drum else 3
    (tmp_path / "up.mid").write_bytes(midi_bytes(midi))
    assert np.array_equal(up, t.encode(tmp_path / "up.mid"))
    assert not np.array_equal(plain, up)


def test_tempos_between_notes_and_bars_are_kept(tmp_path):
    path = write_band(tmp_path / "band.mid")
    midi = open_midi(path)
    midi.tempo_changes += [TempoChange(60, 6 * TICKS), TempoChange(90, 8 * TICKS)]
    path.write_bytes(midi_bytes(midi))
    t = tokenizer()
    t.decode(t.encode(path), tmp_path / "back.mid")
    back = open_midi(tmp_path / "back.mid").tempo_changes
    assert [change.time for change in back] == [0, 6 * TICKS, 8 * TICKS]
    assert [change.tempo for change in back[1:]] == pytest.approx([60, 90], abs=0.5)
    clock = t.clock()
    for token in t.encode(path):
        clock.feed(token)
    onset = max(note.start for track in midi.instruments for note in track.notes) / TICKS
    seconds = 6 * 60 / midi.tempo_changes[0].tempo + 2 + (onset - 8) * 60 / 90
    assert clock.quarters == pytest.approx(onset)
    assert clock.seconds == pytest.approx(seconds, rel=0.01)
