"""What is written is read back as it was, and every player gives each note its own program."""

import io
import random

import mido
import numpy as np
import pytest
import symusic
from miditoolkit import (
    ControlChange,
    Instrument,
    KeySignature,
    Lyric,
    Marker,
    MidiFile,
    Note,
    PitchBend,
    TempoChange,
    TimeSignature,
)
from soundfonts import SAMPLE_RATE, needs_sound, write_soundfont

from seqgen.midi.gate import ANY_SIZE, read_midi
from seqgen.midi.repair import DENOMINATORS, KEY_NAMES, repair
from seqgen.midi.store import max_events, midi_bytes

TICKS = 480


def random_instrument(rng: random.Random, *, controls: bool) -> Instrument:
    track = Instrument(rng.randrange(128), is_drum=rng.random() < 0.2, name=rng.choice(["", "x y"]))
    ends = dict.fromkeys(range(128), 0)  # by pitch; no note ends before an earlier one of its pitch
    for start in sorted(rng.randrange(20_000) for _ in range(rng.randint(1, 30))):
        pitch = rng.choice([60, 61, rng.randrange(128)])
        ends[pitch] = max(start, ends[pitch]) + rng.randint(1, 2000)
        track.notes.append(Note(rng.randint(1, 127), pitch, start, ends[pitch]))
    for _ in range(rng.choice([0, 5]) if controls else 0):
        number = rng.choice([0, 7, 32, 64, 101, rng.randrange(120)])
        change = ControlChange(number, rng.randrange(128), rng.choice([0, rng.randrange(20_000)]))
        track.control_changes += [change] * rng.randint(1, 2)
        track.pitch_bends.append(PitchBend(rng.randint(-8192, 8191), rng.randrange(20_000)))
    return track


def random_piece(seed: int) -> MidiFile:
    rng = random.Random(seed)
    midi = MidiFile(ticks_per_beat=rng.choice([1, 24, 96, 480, 960, 32767]))

    def times(most: int) -> list[int]:
        return [rng.choice([0, rng.randrange(20_000)]) for _ in range(rng.randint(0, most))]

    n_instruments = rng.choice([1, 3, 15, 16, 40])
    controls = rng.random() < 0.7
    midi.instruments = [random_instrument(rng, controls=controls) for _ in range(n_instruments)]
    midi.tempo_changes = [TempoChange(6e7 / rng.randint(120_000, 6_000_000), t) for t in times(5)]
    midi.time_signature_changes = [
        TimeSignature(rng.randint(1, 32), rng.choice(DENOMINATORS), t) for t in times(5)
    ]
    keys = sorted(KEY_NAMES)
    midi.key_signature_changes = [KeySignature(rng.choice(keys), t) for t in times(3)]
    midi.lyrics = [Lyric(rng.choice(["la", "é", ""]), t) for t in times(3)]
    midi.markers = [Marker("verse", t) for t in times(3)]
    return repair(midi)


def full_band(n: int) -> MidiFile:
    """`n` instruments that play together, each a key of its own in each beat."""
    midi = MidiFile(ticks_per_beat=TICKS)
    for i in range(n):
        notes = [
            Note(90, (48 + 2 * i) % 128, beat * TICKS, beat * TICKS + 400) for beat in range(4)
        ]
        midi.instruments.append(Instrument(5 * i % 127 + 1, notes=notes))
    return repair(midi)


@pytest.mark.parametrize("seed", range(60))
def test_writing_and_reading_is_the_identity_on_repaired_files(seed):
    midi = random_piece(seed)
    read = read_midi(midi_bytes(midi), ANY_SIZE)
    assert read.midi == midi
    assert read.midi.max_tick == midi.max_tick
    assert read.repairs == {}


@pytest.mark.parametrize("seed", range(60))
def test_symusic_reads_the_same_notes_with_the_same_programs(seed):
    midi = random_piece(seed)
    score = symusic.Score.from_midi(midi_bytes(midi))
    found = [
        (t.program, t.is_drum, sorted((n.start, n.end, n.pitch, n.velocity) for n in t.notes))
        for t in score.tracks
        if len(t.notes)
    ]
    wanted = [
        (t.program, t.is_drum, sorted((n.start, n.end, n.pitch, n.velocity) for n in t.notes))
        for t in midi.instruments
    ]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("seed", range(10))
def test_written_events_are_at_most_those_counted_before(seed):
    midi = random_piece(seed)
    written = mido.MidiFile(file=io.BytesIO(midi_bytes(midi)))
    assert sum(len(track) for track in written.tracks) <= max_events(midi)


def test_first_track_has_tempo_and_metre_and_each_instrument_a_named_one():
    midi = full_band(2)
    midi.instruments[1].name = "Lead"
    midi.instruments.append(Instrument(0, is_drum=True, notes=[Note(90, 36, 0, 10)]))
    midi.time_signature_changes = [TimeSignature(9, 8, 0)]
    midi.markers = [Marker("verse", 0)]
    written = mido.MidiFile(file=io.BytesIO(midi_bytes(repair(midi))))
    assert (written.type, written.ticks_per_beat) == (1, TICKS)
    assert [message.type for message in written.tracks[0]] == [
        *("set_tempo", "time_signature", "marker", "end_of_track")
    ]
    names = ["", "Bright Acoustic Piano", "Lead", "Drums"]
    assert [track.name for track in written.tracks] == names
    channels = [{m.channel for m in track if not m.is_meta} for track in written.tracks[1:]]
    assert channels == [{0}, {1}, {9}]


def test_notes_end_before_others_begin_and_controllers_come_between():
    midi = full_band(1)
    midi.instruments[0].notes = [Note(90, 60, 0, 480), Note(90, 60, 480, 960)]
    midi.instruments[0].control_changes = [ControlChange(0, 8, 480), ControlChange(7, 99, 480)]
    midi.instruments[0].pitch_bends = [PitchBend(5, 480)]
    track = mido.MidiFile(file=io.BytesIO(midi_bytes(midi))).tracks[1]
    now, kinds = 0, []
    for message in track:
        now += message.time
        kinds += [message.type] if now == 480 else []
    controls = ["control_change", "control_change"]  # the first selects a bank for the program
    assert kinds == ["note_off", *controls, "program_change", "pitchwheel", "note_on"]


def test_instruments_share_channels_only_when_they_are_more_than_fifteen():
    for n, n_channels in ((15, 15), (16, 15), (40, 15)):
        written = mido.MidiFile(file=io.BytesIO(midi_bytes(full_band(n))))
        messages = [m for track in written.tracks for m in track if not m.is_meta]
        assert len({message.channel for message in messages}) == n_channels
        assert 9 not in {message.channel for message in messages}
        n_programs = sum(message.type == "program_change" for message in messages)
        assert n_programs == n if n == 15 else n_programs > n


def test_those_share_a_channel_that_do_not_sound_together():
    midi = full_band(16)
    midi.instruments[6].notes = [Note(90, 60, 10_000, 10_480)]
    written = mido.MidiFile(file=io.BytesIO(midi_bytes(midi)))
    channels = [track[-2].channel for track in written.tracks[1:]]
    assert channels[15] == channels[6]
    assert len(set(channels)) == 15


def test_those_share_a_channel_that_do_not_press_the_same_keys():
    midi = full_band(16)
    for track in midi.instruments:
        for note in track.notes:
            note.pitch = 60
    for note in midi.instruments[6].notes:
        note.pitch = 72
    written = mido.MidiFile(file=io.BytesIO(midi_bytes(midi)))
    channels = [track[-2].channel for track in written.tracks[1:]]
    assert channels[15] == channels[6]


def test_those_that_differ_in_controllers_do_not_share_a_channel_as_long_as_others_can():
    midi = full_band(17)
    midi.instruments[15].control_changes = [ControlChange(7, 20, 0)]
    written = mido.MidiFile(file=io.BytesIO(midi_bytes(midi)))
    channels = [track[-2].channel for track in written.tracks[1:]]
    assert channels.count(channels[15]) == 1
    assert not any(m.type == "midi_port" for track in written.tracks for m in track)


@needs_sound
@pytest.mark.parametrize("i", [0, 14, 15, 19])
def test_fluidsynth_plays_each_note_with_its_program(tmp_path, i):
    """Play with a soundfont of one program: the key that belongs to it is heard, and no other."""
    midi = full_band(20)
    path = tmp_path / "band.mid"
    path.write_bytes(midi_bytes(midi))
    soundfont = write_soundfont(tmp_path / "one.sf2", programs=(midi.instruments[i].program,))
    second_beat = fluidsynth_plays(path, soundfont)[slice(int(0.53 * SAMPLE_RATE), 40_000)]
    spectrum = np.abs(np.fft.rfft(second_beat * np.hanning(len(second_beat))))
    hertz = np.arange(len(spectrum)) * SAMPLE_RATE / len(second_beat)
    wanted = 440 * 2 ** ((48 + 2 * i - 69) / 12)
    assert hertz[spectrum.argmax()] == pytest.approx(wanted, rel=0.02)
    others = spectrum[np.abs(hertz - wanted) > 0.1 * wanted]
    assert others.max() < 0.02 * spectrum.max()


def fluidsynth_plays(path, soundfont, seconds=1.0) -> np.ndarray:
    """Return what FluidSynth's own player makes of a file: samples [n] of the left channel."""
    import fluidsynth

    synth = fluidsynth.Synth(samplerate=SAMPLE_RATE)
    try:
        synth.setting("player.timing-source", "sample")
        synth.setting("synth.reverb.active", 0)
        synth.setting("synth.chorus.active", 0)
        synth.sfload(str(soundfont))
        player = fluidsynth.new_fluid_player(synth.synth)
        fluidsynth.fluid_player_add(player, str(path).encode())
        fluidsynth.fluid_player_play(player)
        blocks = [synth.get_samples(512)[::2] for _ in range(round(seconds * SAMPLE_RATE / 512))]
        fluidsynth.delete_fluid_player(player)
    finally:
        synth.delete()
    return np.concatenate(blocks).astype(np.float64)


def test_instruments_with_the_same_controllers_share_a_channel_before_others_do():
    volumes = [90, 90, *range(70, 84)]  # 16 instruments with 15 choices
    midi = MidiFile(ticks_per_beat=480)
    for program, volume in enumerate(volumes):
        track = Instrument(program, notes=[Note(80, 60, 480 * program, 480 * program + 240)])
        track.control_changes = [ControlChange(7, volume, 0)]
        midi.instruments.append(track)
    written = mido.MidiFile(file=io.BytesIO(midi_bytes(repair(midi))))
    channels = [track[1].channel for track in written.tracks[1:]]
    assert channels[0] == channels[1]
    assert len(set(channels)) == 15
    assert not any(message.type == "midi_port" for track in written.tracks for message in track)
