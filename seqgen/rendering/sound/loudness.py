"""How loud music is to a listener, and bringing all of it to the same loudness without clipping.

Loudness is that of ITU-R BS.1770-4, "Algorithms to measure audio programme loudness and true-peak
audio level", for two channels, in LUFS.
Legend: [2, n] n frames of two channels.
"""

import functools
import math

import numpy as np

TARGET = -18.0  # LUFS: as loud as music is played beside speech, with room for a piano's attacks
CEILING = 10 ** (-1 / 20)  # the largest sample: -1 dB below full scale
HOP_SECONDS, HOPS_PER_BLOCK = 0.1, 4  # blocks of 400 ms overlap by three quarters
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0  # LUFS, and LU below the mean of what is louder
OFFSET = -0.691  # dB: a sine of 997 Hz at full scale in one channel is -3.01 LUFS
RESPONSE = 8192  # samples: after 0.18 s nothing is left of the filter's response
HOPS_PER_PASS = 24
# The limiter's gain is set 30 times in a hop and moves over 20 ms to both sides of a peak.
PARTS, REACH = 30, 6


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Return the integrated loudness of float samples [2, n] in LUFS; -inf for silence."""
    return _gated(_by_hop(_powers(audio, sample_rate)))


def normalise(audio: np.ndarray, sample_rate: int, *, target: float = TARGET) -> float:
    """Bring samples [2, n] to `target` LUFS in place; return the gain in dB.

    Where peaks would pass `CEILING`, a limiter turns them down, and the rest is raised for it.
    Silence stays as it is.
    """
    powers = _powers(audio, sample_rate)
    before = _gated(_by_hop(powers))
    if not math.isfinite(before):
        return 0.0
    block = _hop(sample_rate) // PARTS
    peaks = _peaks(audio, block)
    gain = 10 ** ((target - before) / 20)
    for _ in range(20):  # what the limiter takes away is made up for by more gain
        curve = _limiter(peaks * gain)
        n = len(powers)
        applied = gain * np.pad(curve[:n], (0, max(0, n - len(curve))), constant_values=1.0)
        reached = _gated(_by_hop(powers * applied**2))
        if abs(reached - target) < 0.02:
            break
        gain *= 10 ** ((target - reached) / 20)
    _apply(audio, gain, _limiter(peaks * gain), block)
    return 20 * math.log10(gain)


def k_weighting(sample_rate: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return the two filters of BS.1770, a shelf and a high pass, as (b, a) at any sample rate.

    The recommendation gives coefficients for 48 kHz; their analog prototypes (frequency, quality,
    and 4 dB of the shelf) give the same ones there.
    """
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    b = [high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k]
    shelf = np.array(b) / a0, np.array([a0, 2 * (k * k - 1), 1 - k / q + k * k]) / a0
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    a = np.array([a0, 2 * (k * k - 1), 1 - k / q + k * k]) / a0
    return shelf, (np.array([1.0, -2.0, 1.0]), a)


@functools.cache
def _response(sample_rate: int) -> np.ndarray:
    """Return what both filters answer to a single 1."""
    signal = [1.0] + [0.0] * (RESPONSE - 1)
    for b, a in k_weighting(sample_rate):
        (b0, b1, b2), (_, a1, a2) = b.tolist(), a.tolist()
        x1 = x2 = y1 = y2 = 0.0
        for i, x in enumerate(signal):
            y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
            x1, x2, y1, y2 = x, x1, y, y1
            signal[i] = y
    return np.array(signal)


def _powers(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the weighted power of each part of each hop of 100 ms, both channels added.

    There are at least the four hops of a block. The filter is a product of spectra, in passes of
    bounded memory that overlap by its response.
    """
    hop = _hop(sample_rate)
    n_hops = max(audio.shape[1] // hop, HOPS_PER_BLOCK)
    size = HOPS_PER_PASS * hop
    length = 1 << (size + RESPONSE - 2).bit_length()
    spectrum = np.fft.rfft(_response(sample_rate), length)
    before = np.zeros((2, RESPONSE - 1))
    powers = []
    for start in range(0, n_hops * hop, size):
        part = audio[:, start : start + size].astype(np.float64)
        part = np.pad(part, ((0, 0), (0, size - part.shape[1])))
        joined = np.concatenate([before, part], axis=1)
        weighted = np.fft.irfft(np.fft.rfft(joined, length) * spectrum, length)
        weighted = weighted[:, RESPONSE - 1 : RESPONSE - 1 + size].reshape(2, -1, hop // PARTS)
        powers.append((weighted**2).mean(axis=2).sum(axis=0))
        before = joined[:, -(RESPONSE - 1) :]
    return np.concatenate(powers)[: n_hops * PARTS]


def _hop(sample_rate: int) -> int:
    """Return the samples of a hop, which are divided into parts without a rest."""
    return round(sample_rate * HOP_SECONDS / PARTS) * PARTS


def _by_hop(powers: np.ndarray) -> np.ndarray:
    return powers.reshape(-1, PARTS).mean(axis=1)


def _gated(powers: np.ndarray) -> float:
    """Return the loudness of blocks that are neither silent nor far softer than the others."""
    blocks = np.convolve(powers, np.full(HOPS_PER_BLOCK, 1 / HOPS_PER_BLOCK), "valid")
    blocks = blocks[_lufs(blocks) > ABSOLUTE_GATE]
    if len(blocks) == 0:
        return -math.inf
    blocks = blocks[_lufs(blocks) > _lufs(blocks.mean()) + RELATIVE_GATE]
    return float(_lufs(blocks.mean()))


def _lufs(power: np.ndarray) -> np.ndarray:
    return OFFSET + 10 * np.log10(np.maximum(power, 1e-30))


def _peaks(audio: np.ndarray, block: int) -> np.ndarray:
    """Return the largest sample of each block, over both channels."""
    starts = np.arange(0, audio.shape[1], block)
    return np.max([np.maximum.reduceat(np.abs(channel), starts) for channel in audio], axis=0)


def _limiter(peaks: np.ndarray) -> np.ndarray:
    """Return a smooth gain for each block, at most 1, under which no peak passes the ceiling.

    The lowest gain that a neighbourhood needs, averaged over a neighbourhood that is one block
    narrower to each side: no average, nor a line between two of them, lies above what is needed.
    """
    needed = CEILING / np.maximum(peaks, CEILING)
    if needed.min() == 1.0:
        return needed
    reach = REACH + 1
    padded = np.pad(needed, reach, constant_values=1.0)
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    weights = np.hanning(2 * REACH + 3)[1:-1]
    return np.convolve(np.pad(lowest, REACH, "edge"), weights / weights.sum(), "valid")


def _apply(audio: np.ndarray, gain: float, curve: np.ndarray, block: int) -> None:
    if curve.min() == 1.0:
        audio *= np.float32(gain)
        return
    centres = (np.arange(len(curve)) + 0.5) * block
    size = 1 << 20
    for start in range(0, audio.shape[1], size):
        part = audio[:, start : start + size]
        part *= (gain * np.interp(np.arange(start, start + part.shape[1]), centres, curve)).astype(
            np.float32
        )
