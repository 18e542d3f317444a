"""Loudness is what BS.1770 says, and bringing music to it neither clips nor changes its shape."""

import numpy as np
import pytest

from seqgen.rendering.sound.loudness import CEILING, loudness, normalise, true_peaks

pytest.importorskip("pyloudnorm")

RATE = 44_100


def sine(decibels, seconds, *, rate=RATE, hertz=997.0, phase=0.0):
    t = np.arange(int(seconds * rate)) / rate
    return (10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * t + phase)).astype(np.float32)


def stereo(channel):
    return np.stack([channel, channel], axis=1)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_the_reference_tone_has_its_loudness(rate):
    tone = sine(0, 3, rate=rate)
    left = np.stack([tone, 0 * tone], axis=1)
    assert loudness(left, rate) == pytest.approx(-3.01, abs=0.01)
    assert loudness(stereo(tone), rate) == pytest.approx(0.0, abs=0.01)


def test_silence_and_soft_parts_are_not_averaged_in():
    loud, soft = sine(-20, 10), sine(-60, 10)
    alone = loudness(stereo(loud), RATE)
    for rest in (0 * soft, soft):
        both = np.concatenate([loud, rest])
        assert loudness(stereo(both), RATE) == pytest.approx(alone, abs=0.1)


def test_silence_has_no_loudness_and_stays():
    silence = np.zeros((50_000, 2), np.float32)
    assert loudness(silence, RATE) == -np.inf
    assert not normalise(silence, RATE).any()


@pytest.mark.parametrize("start", [-110, -70, -40, -3])
def test_a_tone_is_brought_to_the_target_by_one_gain(start):
    audio = stereo(sine(start, 2))
    played = normalise(audio, RATE, target=-20.0)
    assert loudness(played, RATE) == pytest.approx(-20, abs=0.05)
    np.testing.assert_allclose(played, audio * 10 ** ((-20 - start) / 20), rtol=1e-2, atol=1e-5)


def test_peaks_are_turned_down_and_the_rest_is_as_loud_as_asked():
    audio = stereo(sine(-40, 6))
    for place in np.random.default_rng(0).integers(0, len(audio), 20):  # clicks 37 dB above it
        audio[place] = 0.7
    played = normalise(audio, RATE)
    assert true_peaks(played).max() <= CEILING * 1.01
    assert loudness(played, RATE) == pytest.approx(-18, abs=0.5)


def test_a_peak_between_samples_is_found(monkeypatch):
    between = stereo(sine(0, 1, hertz=RATE / 4, phase=np.pi / 4))  # samples at 0.707, peaks at 1
    assert np.abs(between).max() == pytest.approx(0.707, abs=0.001)
    whole = true_peaks(between)
    assert whole[1000:-1000].max() == pytest.approx(1.0, abs=0.01)
    monkeypatch.setattr("seqgen.rendering.sound.loudness.CHUNK", 1000)
    np.testing.assert_allclose(true_peaks(between), whole, rtol=1e-5)
    assert true_peaks(normalise(between, RATE, target=0.0)).max() <= CEILING * 1.01


def test_a_short_sound_is_measured():
    assert np.isfinite(loudness(stereo(sine(-10, 0.05)), RATE))
