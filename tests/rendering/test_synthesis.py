"""What is heard is what is written: pitches, times, tempo; nothing clips and all is as loud."""

from pathlib import Path

import numpy as np
import pytest
from miditoolkit import ControlChange
from soundfonts import write_soundfont

from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile, Note, TempoChange
from seqgen.rendering.sound import fluidsynth
from seqgen.rendering.sound.loudness import CEILING, TARGET
from seqgen.rendering.sound.synthesis import (
    SAMPLE_RATE,
    open_synthesizer,
    synthesise,
)

needs_fluidsynth = pytest.mark.skipif(
    fluidsynth.library() is None, reason="FluidSynth is not installed"
)
BOTH = ["symusic", pytest.param("fluidsynth", marks=needs_fluidsynth)]


@pytest.fixture(scope="module")
def soundfont(tmp_path_factory) -> Path:
    return write_soundfont(tmp_path_factory.mktemp("soundfont") / "sine.sf2")


def piece(*notes, tempos=((120, 0),), is_drum=False) -> MidiFile:
    midi = MidiFile(ticks_per_beat=480)
    midi.tempo_changes = [TempoChange(*tempo) for tempo in tempos]
    midi.instruments = [Instrument(0, is_drum, notes=[Note(100, *note) for note in notes])]
    return midi


def sound_of(midi, soundfont, name, **options):
    with open_synthesizer(soundfont, name) as synthesizer:
        return synthesise(midi, synthesizer, **options)


def frequency(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return int(spectrum.argmax()) * SAMPLE_RATE / (8 * len(samples))


def onsets(samples: np.ndarray) -> list[float]:
    """Times at which sound begins after 50 ms of near silence."""
    loud = np.flatnonzero(np.abs(samples) > 0.05 * np.abs(samples).max())
    begins = np.concatenate([[True], np.diff(loud) > 0.05 * SAMPLE_RATE])
    return (loud[begins] / SAMPLE_RATE).tolist()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("pitch", "hertz"), [(69, 440.0), (57, 220.0), (72, 523.25)])
def test_a_key_sounds_at_its_pitch(soundfont, name, pitch, hertz):
    sound = sound_of(piece((pitch, 0, 1920)), soundfont, name)
    heard = frequency(sound.samples[0, 20_000:64_000])
    assert abs(1200 * np.log2(heard / hertz)) < 5  # cents


@needs_fluidsynth
def test_fluidsynth_follows_root_keys_of_zones(tmp_path):
    soundfont = write_soundfont(tmp_path / "zone.sf2", override=True)
    sound = sound_of(piece((69, 0, 1920)), soundfont, "fluidsynth")
    assert abs(1200 * np.log2(frequency(sound.samples[0, 20_000:64_000]) / 440)) < 5


@pytest.mark.parametrize("name", BOTH)
def test_notes_begin_when_the_tempo_says(soundfont, name):
    midi = piece(
        (69, 480, 600), (69, 960, 1080), (69, 1920, 2000), tempos=((120, 0), (60, 960), (240, 1440))
    )
    # 0.5 s to the first beat, 1 s at the second; then a beat of 1 s and one of 0.25 s.
    sound = sound_of(midi, soundfont, name)
    assert onsets(sound.samples[0]) == pytest.approx([0.5, 1.0, 2.25], abs=0.005)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "notes",
    [
        [(69, 0, 1920)],
        [(pitch, 0, 3840) for pitch in range(30, 100)],  # a cluster that would clip
        [(50 + i % 30, i * 120, i * 120 + 100) for i in range(80)],
    ],
)
def test_everything_is_as_loud_and_nothing_clips(soundfont, name, notes):
    sound = sound_of(piece(*notes), soundfont, name)
    assert sound.lufs == pytest.approx(TARGET, abs=0.5)
    assert 0.01 < sound.peak <= CEILING * 1.0001
    assert sound.samples.shape[0] == 2


@pytest.mark.parametrize("name", BOTH)
def test_drums_are_heard(soundfont, name):
    sound = sound_of(piece((36, 0, 480), is_drum=True), soundfont, name)
    assert np.sqrt((sound.samples[:, :10_000] ** 2).mean()) > 0.01


@pytest.mark.parametrize("name", BOTH)
def test_the_tail_is_kept_and_then_cut(soundfont, name):
    sound = sound_of(piece((69, 0, 960)), soundfont, name)
    assert 1.0 <= sound.seconds < 4.0
    assert np.abs(sound.samples[:, -10:]).max() < 1e-3


def test_pieces_that_are_played_apart_are_the_whole(soundfont, monkeypatch):
    midi = piece(*[(60 + i % 12, i * 480, i * 480 + 900) for i in range(40)])
    whole = sound_of(midi, soundfont, "symusic")
    monkeypatch.setattr("seqgen.rendering.sound.symusic_synthesizer.PIECE_SECONDS", 3.0)
    parts = sound_of(midi, soundfont, "symusic")
    n = min(whole.samples.shape[1], parts.samples.shape[1])
    np.testing.assert_allclose(parts.samples[:, :n], whole.samples[:, :n], atol=2e-3)


@needs_fluidsynth
def test_more_than_sixteen_instruments_keep_their_programs(tmp_path):
    soundfont = write_soundfont(tmp_path / "one.sf2", programs=(40,))
    midi = MidiFile(ticks_per_beat=480)
    for i in range(20):  # the last one alone has a sound
        notes = [Note(100, 69, 0, 1920)] if i == 19 else [Note(100, 40, 0, 10)]
        midi.instruments.append(Instrument(40 if i == 19 else 0, notes=notes))
    sound = sound_of(midi, soundfont, "fluidsynth")
    assert abs(frequency(sound.samples[0, 20_000:64_000]) - 440) < 2


@pytest.mark.parametrize("name", BOTH)
def test_an_opening_is_the_beginning_and_what_sounds_then_is_released(soundfont, name):
    midi = piece((69, 0, 960), (72, 960, 9600), (76, 4800, 9600))  # 1 s, then until 10 s
    opening = sound_of(midi, soundfont, name, opening_seconds=3.0)
    assert 3.0 <= opening.seconds < 3.5
    assert abs(frequency(opening.samples[0, 5_000:40_000]) - 440) < 1
    assert abs(frequency(opening.samples[0, 50_000:130_000]) - 523.25) < 1
    assert sound_of(midi, soundfont, name, opening_seconds=60.0).seconds > 9


def test_progress_reaches_the_end(soundfont):
    told = []
    midi = piece(*[(60, i * 960, i * 960 + 900) for i in range(10)])
    sound_of(midi, soundfont, "symusic", tell=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] >= told[-1][1] - 1


@pytest.mark.parametrize(
    ("midi", "said"),
    [
        (piece((60, 0, 480 * 120 * 10 * 60)), "it lasts 600.0 minutes, more than 30"),
        (MidiFile(), "it has no notes"),
    ],
)
def test_what_cannot_be_played_is_refused_before_it_is_played(soundfont, midi, said):
    with pytest.raises(UserError, match=said):
        sound_of(midi, soundfont, "symusic")


def test_a_soundfont_without_the_instrument_is_said(tmp_path):
    soundfont = write_soundfont(tmp_path / "empty.sf2")
    midi = piece((60, 0, 480))
    midi.instruments[0].program = 99
    with pytest.raises(UserError, match="nothing can be heard"):
        sound_of(midi, soundfont, "symusic")


def test_without_fluidsynth_the_package_is_named(soundfont, monkeypatch):
    monkeypatch.setattr(fluidsynth, "library", lambda: None)
    with pytest.raises(UserError, match="apt-get install libfluidsynth3"):
        open_synthesizer(soundfont)


@pytest.mark.parametrize("name", BOTH)
def test_a_damaged_soundfont_is_named(tmp_path, name):
    path = write_soundfont(tmp_path / "cut.sf2")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cannot read the soundfont .*cut\.sf2"):
        open_synthesizer(path, name)


@needs_fluidsynth
def test_a_pedal_holds_what_was_released(soundfont):
    midi = piece((69, 0, 240), (60, 3840, 3841))
    short = sound_of(midi, soundfont, "fluidsynth").samples
    midi.instruments[0].control_changes = [
        ControlChange(64, 127, 0), ControlChange(64, 0, 1920)
    ]  # fmt: skip
    held = sound_of(midi, soundfont, "fluidsynth").samples
    during = slice(SAMPLE_RATE, SAMPLE_RATE + 20_000)  # long after the key was released
    assert np.abs(held[:, during]).max() > 10 * np.abs(short[:, during]).max()
