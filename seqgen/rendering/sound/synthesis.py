"""From a piece to sound: played, its tail kept and trimmed, brought to a common loudness.

Legend: n frames of two channels.
"""

import io
import math
from dataclasses import dataclass

import numpy as np

from seqgen.errors import UserError
from seqgen.midi import MidiFile
from seqgen.rendering.sound.loudness import loudness, normalise, true_peaks
from seqgen.rendering.sound.performance import performance_of
from seqgen.rendering.sound.synthesizer import SAMPLE_RATE, Synthesizer, Tell

FORMATS = {".wav": ("WAV", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
TAIL_SECONDS = 10.0  # at most, for what still sounds when the last key is released
SILENCE = 10 ** (-60 / 20)  # of the peak: the tail is cut where it stays below
INAUDIBLE = 1e-7  # below the softest note, above what FluidSynth's reverb makes of silence
FADE_SECONDS = 0.05
MAX_MINUTES = 30.0
MEGABYTES_PER_MINUTE = 120  # of memory
FRAMES = 1 << 16  # encoded at a time: libsndfile keeps a Vorbis block on its stack


@dataclass(frozen=True)
class Sound:
    """Samples [n, 2] as float32 between -1 and 1, and what was measured of them."""

    samples: np.ndarray
    lufs: float
    true_peak: float

    @property
    def seconds(self) -> float:
        """How long it lasts, the tail included."""
        return len(self.samples) / SAMPLE_RATE

    def encode(self, suffix: str, **options: float) -> bytes:
        """Return the content of a file that ends in `suffix`, one of `FORMATS`."""
        import soundfile

        file = io.BytesIO()
        name, subtype = FORMATS[suffix.lower()]
        with soundfile.SoundFile(
            file, "w", SAMPLE_RATE, 2, format=name, subtype=subtype, **options
        ) as sound:
            for start in range(0, len(self.samples), FRAMES):
                sound.write(self.samples[start : start + FRAMES])
        return file.getvalue()


def synthesise(
    midi: MidiFile,
    synthesizer: Synthesizer,
    *,
    tell: Tell = lambda done, total: None,
    max_minutes: float = MAX_MINUTES,
    opening_seconds: float = math.inf,
) -> Sound:
    """Play a piece, or its opening.

    Raises:
        UserError: it has no notes, lasts too long, or nothing of it can be heard.
    """
    performance = performance_of(midi, opening_seconds=opening_seconds)
    minutes = performance.seconds / 60
    if not performance.parts:
        raise UserError("it has no notes")
    if minutes > max_minutes:
        raise UserError(
            f"it lasts {minutes:,.1f} minutes, more than {max_minutes:g}: `listen --max-minutes "
            f"{math.ceil(minutes)}` plays it and needs {MEGABYTES_PER_MINUTE} MB of memory a minute"
        )
    samples = synthesizer.play(performance, tail_seconds=TAIL_SECONDS, tell=tell)
    if np.abs(samples).max() < INAUDIBLE:
        raise UserError("nothing can be heard: the soundfont has no sound for its instruments")
    samples = normalise(_trim(samples, round(performance.seconds * SAMPLE_RATE)), SAMPLE_RATE)
    return Sound(samples, loudness(samples, SAMPLE_RATE), float(true_peaks(samples).max()))


def _trim(samples: np.ndarray, end: int) -> np.ndarray:
    """Cut the tail, which begins at frame `end`, where it is silent, with a short fade."""
    threshold = max(SILENCE * float(np.abs(samples).max()), INAUDIBLE)
    is_heard = (np.abs(samples[end:]) > threshold).any(axis=1)
    n_fade = round(FADE_SECONDS * SAMPLE_RATE)
    n_tail = int(is_heard.nonzero()[0][-1]) + 1 if is_heard.any() else 0
    samples = samples[: end + n_tail + n_fade]
    n_fade = min(n_fade, len(samples))
    samples[-n_fade:] *= np.linspace(1, 0, n_fade, dtype=np.float32)[:, None]
    return samples
