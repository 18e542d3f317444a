"""What is heard is what is written: pitches, times, tempo; nothing clips and all is as loud."""

import ctypes.util
import importlib.util
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from miditoolkit import ControlChange, PitchBend
from soundfonts import SineSynthesizer, needs_sound, write_soundfont

from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile, Note, TempoChange
from seqgen.rendering.sound.loudness import CEILING, TARGET
from seqgen.rendering.sound.synthesis import Sound, synthesise
from seqgen.rendering.sound.synthesizer import SAMPLE_RATE, Synthesizer, load_library

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("pyloudnorm")


@pytest.fixture(scope="module")
def soundfont(tmp_path_factory) -> Path:
    return write_soundfont(tmp_path_factory.mktemp("soundfont") / "sine.sf2")


def piece(*notes, tempos=((120, 0),), is_drum=False) -> MidiFile:
    midi = MidiFile(ticks_per_beat=480)
    midi.tempo_changes = [TempoChange(*tempo) for tempo in tempos]
    midi.instruments = [Instrument(0, is_drum, notes=[Note(100, *note) for note in notes])]
    return midi


def sound_of(midi, soundfont, **options) -> Sound:
    return synthesise(midi, Synthesizer(soundfont), **options)


def frequency(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return int(spectrum.argmax()) * SAMPLE_RATE / (8 * len(samples))


def onsets(samples: np.ndarray) -> list[float]:
    """Times at which sound begins after 50 ms of near silence."""
    loud = np.flatnonzero(np.abs(samples) > 0.05 * np.abs(samples).max())
    begins = np.concatenate([[True], np.diff(loud) > 0.05 * SAMPLE_RATE])
    return (loud[begins] / SAMPLE_RATE).tolist()


@needs_sound
@pytest.mark.parametrize(("pitch", "hertz"), [(69, 440.0), (57, 220.0), (72, 523.25)])
def test_a_key_sounds_at_its_pitch(soundfont, pitch, hertz):
    sound = sound_of(piece((pitch, 0, 1920)), soundfont)
    heard = frequency(sound.samples[20_000:64_000, 0])
    assert abs(1200 * np.log2(heard / hertz)) < 5  # cents


@needs_sound
@pytest.mark.parametrize("form", ["override", "vorbis"])
def test_root_keys_of_zones_and_sf3_are_in_tune(tmp_path, form):
    soundfont = write_soundfont(tmp_path / "x.sf3", **{form: True})
    sound = sound_of(piece((69, 0, 1920)), soundfont)
    assert abs(1200 * np.log2(frequency(sound.samples[20_000:64_000, 0]) / 440)) < 5


@needs_sound
def test_notes_begin_when_the_tempo_says(soundfont):
    midi = piece(
        (69, 480, 600), (69, 960, 1080), (69, 1920, 2000), tempos=((120, 0), (60, 960), (240, 1440))
    )
    # 0.5 s to the first beat, 1 s at the second; then a beat of 1 s and one of 0.25 s.
    sound = sound_of(midi, soundfont)
    assert onsets(sound.samples[:, 0]) == pytest.approx([0.5, 1.0, 2.25], abs=0.005)


@needs_sound
@pytest.mark.parametrize(
    "notes",
    [
        [(69, 0, 1920)],
        [(pitch, 0, 3840) for pitch in range(30, 100)],  # a cluster that would clip
        [(50 + i % 30, i * 120, i * 120 + 100) for i in range(80)],
    ],
)
def test_everything_is_as_loud_and_nothing_clips(soundfont, notes):
    sound = sound_of(piece(*notes), soundfont)
    assert sound.lufs == pytest.approx(TARGET, abs=0.5)
    assert 0.01 < sound.true_peak <= CEILING * 1.01
    assert sound.samples.shape[1] == 2


@needs_sound
def test_the_softest_notes_are_heard_as_loud(soundfont):
    midi = piece((69, 0, 1920))
    midi.instruments[0].notes[0].velocity = 1
    sound = sound_of(midi, soundfont)
    assert sound.lufs == pytest.approx(TARGET, abs=0.5)
    assert 2.0 < sound.seconds < 4.0  # the tail ends where only the reverb's noise is left


@needs_sound
def test_what_was_played_before_changes_nothing(soundfont):
    synthesizer = Synthesizer(soundfont)
    midi, other = piece((69, 0, 960), (60, 100, 700)), piece((50, 0, 333))
    other.instruments[0].pitch_bends = [PitchBend(8000, 0)]
    first = synthesise(midi, synthesizer).samples
    synthesise(other, synthesizer)
    np.testing.assert_array_equal(synthesise(midi, synthesizer).samples, first)


@needs_sound
def test_drums_are_heard(soundfont):
    sound = sound_of(piece((36, 0, 480), is_drum=True), soundfont)
    assert np.sqrt((sound.samples[:10_000] ** 2).mean()) > 0.01


@needs_sound
def test_the_tail_is_kept_and_then_cut(soundfont):
    sound = sound_of(piece((69, 0, 960)), soundfont)
    assert 1.0 <= sound.seconds < 4.0
    assert np.abs(sound.samples[-10:]).max() < 1e-3


@needs_sound
def test_more_than_sixteen_instruments_keep_their_programs(tmp_path):
    soundfont = write_soundfont(tmp_path / "one.sf2", programs=(40,))
    midi = MidiFile(ticks_per_beat=480)
    for i in range(20):  # the last one alone has a sound
        notes = [Note(100, 69, 0, 1920)] if i == 19 else [Note(100, 40, 0, 10)]
        midi.instruments.append(Instrument(40 if i == 19 else 0, notes=notes))
    sound = sound_of(midi, soundfont)
    assert abs(frequency(sound.samples[20_000:64_000, 0]) - 440) < 2


@needs_sound
def test_more_instruments_than_fluidsynth_plays_are_refused(soundfont):
    midi = MidiFile(ticks_per_beat=480)
    midi.instruments = [Instrument(i % 128, notes=[Note(100, 69, 0, 10)]) for i in range(257)]
    with pytest.raises(UserError, match="it has 257 instruments, and FluidSynth plays 256"):
        sound_of(midi, soundfont)


@needs_sound
def test_an_opening_is_the_beginning_and_what_sounds_then_is_released(soundfont):
    midi = piece((69, 0, 960), (72, 960, 9600), (76, 4800, 9600))  # 1 s, then until 10 s
    opening = sound_of(midi, soundfont, opening_seconds=3.0)
    assert 3.0 <= opening.seconds < 3.5
    assert abs(frequency(opening.samples[5_000:40_000, 0]) - 440) < 1
    assert abs(frequency(opening.samples[50_000:130_000, 0]) - 523.25) < 1
    assert sound_of(midi, soundfont, opening_seconds=60.0).seconds > 9


@needs_sound
def test_progress_reaches_the_end(soundfont):
    told = []
    midi = piece(*[(60, i * 960, i * 960 + 900) for i in range(10)])
    sound_of(midi, soundfont, tell=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@needs_sound
def test_a_pedal_holds_what_was_released(soundfont):
    midi = piece((69, 0, 240), (60, 3840, 3841))
    short = sound_of(midi, soundfont).samples
    midi.instruments[0].control_changes = [ControlChange(64, 127, 0), ControlChange(64, 0, 1920)]
    held = sound_of(midi, soundfont).samples
    during = slice(SAMPLE_RATE, SAMPLE_RATE + 20_000)  # long after the key was released
    assert np.abs(held[during]).max() > 10 * np.abs(short[during]).max()


@pytest.mark.parametrize(
    ("midi", "said"),
    [
        (piece((60, 0, 480 * 120 * 10 * 60)), r"600\.0 minutes, more than 30: .*max-minutes 600"),
        (MidiFile(), "it has no notes"),
    ],
)
def test_what_cannot_be_played_is_refused_before_it_is_played(midi, said):
    with pytest.raises(UserError, match=said):
        synthesise(midi, None)


@needs_sound
def test_a_soundfont_without_the_instrument_is_said(tmp_path):
    soundfont = write_soundfont(tmp_path / "empty.sf2", programs=())
    with pytest.raises(UserError, match="nothing can be heard"):
        sound_of(piece((60, 0, 480)), soundfont)


@needs_sound
def test_a_damaged_soundfont_is_named(tmp_path):
    path = write_soundfont(tmp_path / "cut.sf2")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cannot read the soundfont .*cut\.sf2"):
        Synthesizer(path)


@needs_sound
def test_a_soundfont_may_have_any_file_name(tmp_path):
    soundfont = write_soundfont(tmp_path / os.fsdecode(b"caf\xe9.sf2"))
    assert sound_of(piece((69, 0, 480)), soundfont).seconds > 0.5


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install .* pyfluidsynth pyloudnorm soundfile"):
        load_library()


@pytest.mark.skipif(not importlib.util.find_spec("fluidsynth"), reason="needs pyfluidsynth")
def test_without_fluidsynth_its_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "fluidsynth", raising=False)
    monkeypatch.delenv("HOMEBREW_PREFIX", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(UserError, match="apt-get install libfluidsynth3"):
        load_library()


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".wav", ("WAV", "PCM_16")), (".OGG", ("OGG", "VORBIS"))]
)
def test_a_file_holds_the_samples(suffix, kind):
    t = np.arange(200_000) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * t)
    samples = np.stack([tone, tone / 2], axis=1).astype(np.float32)
    with soundfile.SoundFile(io.BytesIO(Sound(samples, 0.0, 0.3).encode(suffix))) as file:
        assert (file.format, file.subtype, file.samplerate) == (*kind, SAMPLE_RATE)
        read = file.read()
    np.testing.assert_allclose(read, samples, atol=1e-4 if suffix == ".wav" else 0.05)


def test_a_compressed_ogg_is_half_as_large_and_as_long():
    noise = np.random.default_rng(0).normal(0, 0.1, (200_000, 2)).astype(np.float32)
    sound = Sound(noise, 0.0, 0.5)
    small = sound.encode(".ogg", compression_level=1.0)
    assert soundfile.info(io.BytesIO(small)).frames == 200_000
    assert len(small) < 0.6 * len(sound.encode(".ogg"))


def test_a_sound_is_as_long_as_its_samples():
    sound = synthesise(piece((69, 0, 960)), SineSynthesizer(Path()))
    assert sound.seconds == pytest.approx(1.0, abs=0.1)
