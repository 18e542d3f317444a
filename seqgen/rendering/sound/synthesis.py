"""From a piece to sound: played, its tail kept and trimmed, brought to a common loudness.

Legend: [2, n] n frames of two channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqgen.errors import UserError
from seqgen.midi import MidiFile
from seqgen.rendering.sound.fluidsynth import FluidSynth
from seqgen.rendering.sound.loudness import loudness, normalise
from seqgen.rendering.sound.performance import performance_of
from seqgen.rendering.sound.symusic_synthesizer import SymusicSynthesizer

SAMPLE_RATE = 44_100
SYNTHESIZERS = ("auto", "fluidsynth", "symusic")
TAIL_SECONDS = 10.0  # at most, for what still sounds when the last key is released
SILENCE = 10 ** (-60 / 20)  # of the peak: the tail is cut where it stays below
FADE_SECONDS = 0.05
MAX_MINUTES = 30.0  # 300 MB of WAV, and twice as much memory
WAV_MEGABYTES_PER_MINUTE = SAMPLE_RATE * 60 * 4 / 1e6

Tell = Callable[[int, int], None]


class TooLong(UserError):
    """A piece that lasts longer than was allowed; the caller knows how to allow more."""


@dataclass(frozen=True)
class Sound:
    """Samples [2, n] as float32 between -1 and 1, and what was measured of them."""

    samples: np.ndarray
    sample_rate: int
    lufs: float
    peak: float

    @property
    def seconds(self) -> float:
        """How long it lasts, the tail included."""
        return self.samples.shape[1] / self.sample_rate


def open_synthesizer(
    soundfont: Path, name: str = "auto", *, sample_rate: int = SAMPLE_RATE
) -> FluidSynth | SymusicSynthesizer:
    """Return a synthesizer; "auto" is FluidSynth. UserError where it or the soundfont is missing.

    symusic's is not taken by itself: it plays most soundfonts out of tune.
    """
    if name not in SYNTHESIZERS:
        raise ValueError(f"synthesizer is {name!r}, accepted are {', '.join(SYNTHESIZERS)}")
    kind = SymusicSynthesizer if name == "symusic" else FluidSynth
    return kind(soundfont, sample_rate=sample_rate)


def synthesise(
    midi: MidiFile,
    synthesizer: FluidSynth | SymusicSynthesizer,
    *,
    tell: Tell = lambda done, total: None,
    max_minutes: float = MAX_MINUTES,
    opening_seconds: float = math.inf,
    sample_rate: int = SAMPLE_RATE,
) -> Sound:
    """Play a piece, or its opening; `tell` gets seconds played and seconds in all.

    Raises:
        TooLong: it lasts more than `max_minutes`.
        UserError: it has no notes, or nothing of it can be heard.
    """
    performance = performance_of(midi).opening(opening_seconds)
    minutes = performance.seconds / 60
    if not performance.parts:
        raise UserError("it has no notes")
    if minutes > max_minutes:
        raise TooLong(f"it lasts {minutes:,.1f} minutes, more than {max_minutes:g}")
    n_frames = round((performance.seconds + TAIL_SECONDS) * sample_rate)
    samples, frame, told = np.zeros((2, n_frames), np.float32), 0, 0
    for part in synthesizer.play(performance, tail_seconds=TAIL_SECONDS):
        samples[:, frame : frame + part.shape[1]] = part
        frame += part.shape[1]
        if frame // sample_rate > told:
            told = frame // sample_rate
            tell(told, n_frames // sample_rate)
    samples = _trim(samples, round(performance.seconds * sample_rate), sample_rate)
    normalise(samples, sample_rate)
    measured = loudness(samples, sample_rate)
    if not np.isfinite(measured):
        raise UserError("nothing can be heard: the soundfont has no sound for its instruments")
    return Sound(samples, sample_rate, measured, float(np.abs(samples).max()))


def _trim(samples: np.ndarray, end: int, sample_rate: int) -> np.ndarray:
    """Cut the tail, which begins at frame `end`, where it is silent, with a short fade."""
    threshold = SILENCE * float(np.abs(samples).max())
    is_heard = (np.abs(samples[:, end:]) > threshold).any(axis=0)
    n_fade = round(FADE_SECONDS * sample_rate)
    n_tail = int(is_heard.nonzero()[0][-1]) + 1 if is_heard.any() else 0
    stop = min(end + n_tail + n_fade, samples.shape[1])
    samples = samples[:, :stop]
    samples[:, -n_fade:] *= np.linspace(1, 0, min(n_fade, stop), dtype=np.float32)
    return samples
