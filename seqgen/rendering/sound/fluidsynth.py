"""FluidSynth, the system's library, told note by note what to play.

https://www.fluidsynth.org/api/ has the functions; versions 2 and 3 of the library share them.
Legend: n frames of two channels.
"""

import ctypes
import ctypes.util
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from seqgen.errors import UserError
from seqgen.rendering.sound.performance import SUSTAIN, Event, Performance

LIBRARIES = ("libfluidsynth.so.3", "libfluidsynth.so.2", "libfluidsynth.3.dylib")
PACKAGE = "libfluidsynth3"
MAX_PARTS = 256  # of the library
DRUMS, MELODIC = 1, 0  # kinds of channels
BLOCK = 8192  # frames
FAILED = -1


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library, silenced, or None where it is not installed."""
    for name in (*LIBRARIES, ctypes.util.find_library("fluidsynth")):
        if name is None:
            continue
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        found.new_fluid_settings.restype = ctypes.c_void_p
        found.new_fluid_synth.restype = ctypes.c_void_p
        for level in range(5):  # it would print what it misses in a soundfont
            found.fluid_set_log_function(level, None, None)
        return found
    return None


class FluidSynth:
    """A synthesizer with one soundfont; close it after use (it is a context manager)."""

    name = "FluidSynth"

    def __init__(self, soundfont: Path, *, sample_rate: int) -> None:
        found = library()
        if found is None:
            raise UserError(
                f"FluidSynth is missing, which plays soundfonts: apt-get install {PACKAGE} (it "
                f"brings a soundfont where there is none), or try --synthesizer symusic, which "
                f"plays many soundfonts out of tune"
            )
        self._library = found
        self._settings = ctypes.c_void_p(found.new_fluid_settings())
        self._set("synth.midi-channels", MAX_PARTS)
        self._set("synth.polyphony", 1024)
        self._set("synth.dynamic-sample-loading", 1)
        found.fluid_settings_setnum(
            self._settings, b"synth.sample-rate", ctypes.c_double(sample_rate)
        )
        self._synth = ctypes.c_void_p(found.new_fluid_synth(self._settings))
        number = found.fluid_synth_sfload(self._synth, str(soundfont).encode(), 1)
        if number == FAILED:
            self.close()
            raise UserError(f"FluidSynth cannot read the soundfont {soundfont}")
        self._sample_rate = sample_rate

    def __enter__(self) -> "FluidSynth":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the synthesizer; it cannot play afterwards."""
        self._library.delete_fluid_synth(self._synth)
        self._library.delete_fluid_settings(self._settings)
        self._synth = self._settings = ctypes.c_void_p()

    def play(self, performance: Performance, *, tail_seconds: float) -> Iterator[np.ndarray]:
        """Yield float32 samples [2, n], to `tail_seconds` after the last note's end."""
        if len(performance.parts) > MAX_PARTS:
            raise UserError(
                f"{len(performance.parts)} instruments are more than the {MAX_PARTS} that "
                f"FluidSynth plays"
            )
        self._library.fluid_synth_system_reset(self._synth)
        for part, instrument in enumerate(performance.parts):
            kind = DRUMS if instrument.is_drum else MELODIC
            self._library.fluid_synth_set_channel_type(self._synth, part, kind)
            self._library.fluid_synth_program_change(self._synth, part, instrument.program)
        frame = 0
        for event in performance.events:
            until = round(event.seconds * self._sample_rate)
            yield from self._sound(until - frame)
            frame = until
            self._tell(event)
        for part in range(len(performance.parts)):
            self._library.fluid_synth_cc(self._synth, part, SUSTAIN, 0)
        end = round((performance.seconds + tail_seconds) * self._sample_rate)
        yield from self._sound(end - frame)

    def _set(self, name: str, value: int) -> None:
        self._library.fluid_settings_setint(self._settings, name.encode(), value)

    def _tell(self, event: Event) -> None:
        synth, call = self._synth, self._library
        if event.kind == "on":
            call.fluid_synth_noteon(synth, event.part, event.first, event.second)
        elif event.kind == "off":
            call.fluid_synth_noteoff(synth, event.part, event.first)
        elif event.kind == "control":
            call.fluid_synth_cc(synth, event.part, event.first, event.second)
        else:
            call.fluid_synth_pitch_bend(synth, event.part, event.first + 8192)

    def _sound(self, n_frames: int) -> Iterator[np.ndarray]:
        for start in range(0, n_frames, BLOCK):
            n = min(BLOCK, n_frames - start)
            samples = np.empty((2, n), np.float32)
            left, right = (ctypes.c_void_p(channel.ctypes.data) for channel in samples)
            self._library.fluid_synth_write_float(self._synth, n, left, 0, 1, right, 0, 1)
            yield samples
