"""Brings music to one loudness, without clipping.

Loudness is that of ITU-R BS.1770-4 in LUFS, measured by pyloudnorm; the true peak is that of its
annex 2, the largest value of the signal four times oversampled.
Legend: n frames of two channels.
"""

import math
from functools import reduce

import numpy as np

TARGET = -18.0  # LUFS: as loud as music is played beside speech, with room for a piano's attacks
CEILING = 10 ** (-1 / 20)  # the largest true peak: 1 dB below full scale
BLOCK_SECONDS = 0.4  # loudness is measured of so much at least
TOLERANCE, MAX_PASSES = 0.02, 10  # in LU
REACH_SECONDS = 0.02  # the limiter turns down so long before and after a peak
OVERSAMPLING = 4
CHUNK, MARGIN = 1 << 20, 32  # frames oversampled at a time, and those that the filter reaches to


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Return the integrated loudness of float samples [n, 2] in LUFS; -inf for silence."""
    import pyloudnorm

    # "DeMan" is the weighting of BS.1770 at any sample rate; the library's default comes near it.
    meter = pyloudnorm.Meter(sample_rate, filter_class="DeMan", block_size=BLOCK_SECONDS)
    missing = math.ceil(BLOCK_SECONDS * sample_rate) - len(audio)
    if missing > 0:
        audio = np.pad(audio, ((0, missing), (0, 0)))
    return float(meter.integrated_loudness(audio))


def true_peaks(audio: np.ndarray) -> np.ndarray:
    """Return the true peak [n] around each frame of float32 samples [n, 2], over both channels."""
    from scipy.signal import resample_poly

    peaks = np.empty(len(audio), np.float32)
    for start in range(0, len(audio), CHUNK):
        first = max(start - MARGIN, 0)
        part = resample_poly(audio[first : start + CHUNK + MARGIN], OVERSAMPLING, 1)
        around = np.abs(part).reshape(-1, OVERSAMPLING * audio.shape[1])[start - first :][:CHUNK]
        peaks[start : start + CHUNK] = reduce(np.maximum, around.T)  # faster than .max(axis=1)
    return peaks


def normalise(audio: np.ndarray, sample_rate: int, *, target: float = TARGET) -> np.ndarray:
    """Return samples [n, 2] at `target` LUFS with no true peak above `CEILING`.

    Where peaks would pass it, a limiter turns them down, and the rest is raised for it. Silence
    stays as it is.
    """
    peaks = true_peaks(audio)
    if not peaks.any():
        return audio
    gain = 1 / float(peaks.max())  # soft music is not taken for silence
    gain *= 10 ** ((target - loudness(audio * gain, sample_rate)) / 20)
    for _ in range(MAX_PASSES):  # what the limiter takes away is made up for by more gain
        limited = audio * (gain * _limiter(peaks * gain, sample_rate))[:, None]
        short_by = target - loudness(limited, sample_rate)
        if abs(short_by) < TOLERANCE:
            break
        gain *= 10 ** (short_by / 20)
    return limited


def _limiter(peaks: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return a smooth gain [n], at most 1, under which no peak passes the ceiling.

    The lowest gain needed around a frame, averaged over as many: no average is more than needed.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    size = 2 * round(REACH_SECONDS * sample_rate) + 1
    needed = CEILING / np.maximum(peaks, CEILING)
    return uniform_filter1d(minimum_filter1d(needed, size), size)
