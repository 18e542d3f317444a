"""FluidSynth with one soundfont, told note by note what to play.

Legend: n frames of two channels.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from ctypes import c_int, c_void_p
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from seqgen.errors import UserError
from seqgen.rendering.sound.performance import Performance, SynthesizerCall

PACKAGES = {"fluidsynth": "pyfluidsynth", "pyloudnorm": "pyloudnorm", "soundfile": "soundfile"}
SAMPLE_RATE = 44_100
MAX_PARTS = 256  # of FluidSynth
SETTINGS = {  # the gain is of no account: music is brought to one loudness afterwards
    **{"gain": 0.2, "samplerate": SAMPLE_RATE, "channels": MAX_PARTS, "synth.polyphony": 1024},
    **{"synth.reverb.active": 1, "synth.chorus.active": 1, "synth.dynamic-sample-loading": 1},
}
MELODIC, DRUMS = 0, 1  # kinds of channels
SUSTAIN = 64  # the control of the pedal
LOG_LEVELS = 5
FAILED = -1

Tell = Callable[[int, int], None]  # frames played, and frames in all


def load_library() -> ModuleType:
    """Import pyfluidsynth, which loads FluidSynth; UserError where something is missing."""
    find = importlib.util.find_spec
    missing = [package for module, package in PACKAGES.items() if find(module) is None]
    if missing:
        raise UserError(
            f"sound needs Python packages that are not installed: .venv/bin/python -m pip install "
            f"-c constraints.txt {' '.join(missing)}"
        )
    try:
        with contextlib.redirect_stdout(None):  # where CI is set, it prints the library's path
            import fluidsynth
    except (ImportError, OSError):
        raise UserError(
            "sound needs FluidSynth, which is not installed: apt-get install libfluidsynth3 "
            "(Debian, Ubuntu; with a small soundfont) or brew install fluid-synth (macOS)"
        ) from None
    return fluidsynth


class Synthesizer:
    """FluidSynth with one soundfont."""

    def __init__(self, soundfont: Path) -> None:
        """Raise UserError where FluidSynth is missing or cannot read the soundfont."""
        self._soundfont, self._library = soundfont, load_library()
        log = self._function("fluid_set_log_function", c_int, c_void_p, c_void_p)
        for level in range(LOG_LEVELS):  # it would print what a soundfont lacks
            log(level, None, None)
        channel = (c_void_p, c_int, c_int)  # a buffer, the first place in it, and the step
        self._write = self._function("fluid_synth_write_float", c_void_p, c_int, *channel, *channel)
        self._set_kind = self._function("fluid_synth_set_channel_type", c_void_p, c_int, c_int)
        with self._synth():
            pass

    def play(self, performance: Performance, *, tail_seconds: float, tell: Tell) -> np.ndarray:
        """Return float32 samples [n, 2], also beyond -1 and 1, to `tail_seconds` after the end."""
        parts, events, seconds = performance
        if len(parts) > MAX_PARTS:
            raise UserError(f"it has {len(parts)} instruments, and FluidSynth plays {MAX_PARTS}")
        release = [SynthesizerCall(seconds, "cc", (part, SUSTAIN, 0)) for part in range(len(parts))]
        samples = np.zeros((round((seconds + tail_seconds) * SAMPLE_RATE), 2), np.float32)
        with self._synth() as synth:
            for part, instrument in enumerate(parts):
                self._set_kind(synth.synth, part, DRUMS if instrument.is_drum else MELODIC)
                synth.program_change(part, instrument.program)
            frame = 0
            for event in (*events, *release):
                until = round(event.seconds * SAMPLE_RATE)
                self._fill(samples[frame:until], synth)
                getattr(synth, event.method)(*event.arguments)
                frame = until
                tell(frame, len(samples))
            self._fill(samples[frame:], synth)
        tell(len(samples), len(samples))
        return samples

    @contextlib.contextmanager
    def _synth(self) -> Iterator[Any]:
        """Give a `Synth` of pyfluidsynth with the soundfont.

        Each piece has a new one, since a reset leaves something behind: the phase of the chorus
        and the rest of a block.
        """
        synth = self._library.Synth(**SETTINGS)
        try:
            name = os.fsencode(self._soundfont)  # `Synth.sfload` cannot encode all file names
            if self._library.fluid_synth_sfload(synth.synth, name, 1) == FAILED:
                raise UserError(f"FluidSynth cannot read the soundfont {self._soundfont}")
            yield synth
        finally:
            synth.delete()

    def _fill(self, samples: np.ndarray, synth: Any) -> None:
        """Write what sounds into samples [n, 2], which are contiguous."""
        address = samples.ctypes.data
        self._write(synth.synth, len(samples), address, 0, 2, address, 1, 2)

    def _function(self, name: str, *types: type) -> Callable[..., int]:
        """Return a function of FluidSynth that pyfluidsynth does not declare."""
        return self._library.cfunc(name, c_int, *(("_", kind, 1) for kind in types))
