"""Files hold the samples; a missing package and an unknown ending are one sentence."""

import importlib.util
import wave

import numpy as np
import pytest

from seqgen.errors import UserError
from seqgen.rendering.sound.audio_files import check_format, small_ogg, write_audio

AUDIO = np.stack([np.linspace(-1, 1, 100_000), np.linspace(0.5, -0.5, 100_000)]).astype(np.float32)


def test_wav_is_stereo_of_16_bits_with_the_samples(tmp_path):
    write_audio(tmp_path / "sounds" / "x.wav", AUDIO, 44_100)
    with wave.open(str(tmp_path / "sounds" / "x.wav")) as file:
        assert file.getparams()[:4] == (2, 2, 44_100, 100_000)
        read = np.frombuffer(file.readframes(100_000), "<i2").reshape(-1, 2).T
    np.testing.assert_allclose(read / 32767, AUDIO, atol=2e-5)
    assert [p.name for p in (tmp_path / "sounds").iterdir()] == ["x.wav"]


def test_ogg_holds_the_same_music(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    t = np.arange(200_000) / 44_100
    tone = np.stack([np.sin(2 * np.pi * 440 * t)] * 2).astype(np.float32) * 0.3
    write_audio(tmp_path / "x.ogg", tone, 44_100)
    read, rate = soundfile.read(tmp_path / "x.ogg")
    assert (read.shape, rate) == ((200_000, 2), 44_100)
    assert np.abs(read.T - tone).max() < 0.05
    assert (tmp_path / "x.ogg").stat().st_size < tone.nbytes / 20


def test_a_small_ogg_is_half_as_large_and_as_long(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 200_000)).astype(np.float32)
    write_audio(tmp_path / "x.ogg", noise, 44_100)
    (tmp_path / "small.ogg").write_bytes(small_ogg(noise, 44_100))
    read, rate = soundfile.read(tmp_path / "small.ogg")
    assert (read.shape, rate) == ((200_000, 2), 44_100)
    sizes = [(tmp_path / name).stat().st_size for name in ("small.ogg", "x.ogg")]
    assert sizes[0] < 0.6 * sizes[1]


def test_ogg_without_its_package_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"soundfile: \.venv/bin/python -m pip install"):
        write_audio(tmp_path / "x.ogg", AUDIO, 44_100)
    assert not list(tmp_path.iterdir())


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"should end in \.wav or \.ogg"):
        check_format(tmp_path / "x.mp3")
