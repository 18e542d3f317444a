"""Loudness is what BS.1770 says, and bringing music to it neither clips nor changes its shape."""

import numpy as np
import pytest

from seqgen.rendering.sound.loudness import (
    CEILING,
    k_weighting,
    loudness,
    normalise,
)


def sine(decibels, seconds, rate, hertz=997.0):
    t = np.arange(int(seconds * rate)) / rate
    return 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * t).astype(np.float32)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_the_reference_tone_has_its_loudness(rate):
    tone = sine(0, 3, rate)
    assert loudness(np.stack([tone, 0 * tone]), rate) == pytest.approx(-3.01, abs=0.01)
    assert loudness(np.stack([tone, tone]), rate) == pytest.approx(0.0, abs=0.01)


def test_the_filters_are_those_of_the_recommendation():
    shelf, high_pass = k_weighting(48_000)
    np.testing.assert_allclose(shelf[0], [1.53512485958697, -2.69169618940638, 1.19839281085285])
    np.testing.assert_allclose(shelf[1], [1, -1.69065929318241, 0.73248077421585])
    np.testing.assert_allclose(high_pass[1], [1, -1.99004745483398, 0.99007225036621])


def test_silence_and_soft_parts_are_not_averaged_in():
    rate = 44_100
    loud, soft = sine(-20, 10, rate), sine(-60, 10, rate)
    alone = loudness(np.stack([loud] * 2), rate)
    for rest in (0 * soft, soft):
        both = np.concatenate([loud, rest])
        assert loudness(np.stack([both] * 2), rate) == pytest.approx(alone, abs=0.1)


def test_silence_has_no_loudness_and_stays():
    silence = np.zeros((2, 50_000), np.float32)
    assert loudness(silence, 44_100) == -np.inf
    assert normalise(silence, 44_100) == 0
    assert not silence.any()


@pytest.mark.parametrize("start", [-70, -40, -3])
def test_a_tone_is_brought_to_the_target_by_one_gain(start):
    audio = np.stack([sine(start, 2, 44_100)] * 2)
    before = audio.copy()
    gain = normalise(audio, 44_100, target=-20.0)
    assert loudness(audio, 44_100) == pytest.approx(-20, abs=0.05)
    np.testing.assert_allclose(audio, before * 10 ** (gain / 20), rtol=1e-4, atol=1e-7)


def test_peaks_are_turned_down_and_the_rest_is_as_loud_as_asked():
    rng = np.random.default_rng(0)
    audio = np.stack([sine(-40, 6, 44_100)] * 2)
    for place in rng.integers(0, audio.shape[1], 20):  # clicks 37 dB above it
        audio[:, place] = 0.7
    normalise(audio, 44_100, target=-18.0)
    assert np.abs(audio).max() <= CEILING * 1.0001
    assert loudness(audio, 44_100) == pytest.approx(-18, abs=0.5)


def test_a_short_sound_is_measured():
    audio = np.stack([sine(-10, 0.05, 44_100)] * 2)
    assert np.isfinite(loudness(audio, 44_100))
