"""A tiny soundfont made for tests: one sine, on all keys of some programs and of the drums."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from seqgen.errors import UserError
from seqgen.rendering.sound.performance import Performance
from seqgen.rendering.sound.synthesizer import load_library

SAMPLE_RATE = 44_100
PERIODS, ROOT = 100, 69  # the sine's key is A4, at 440 Hz to a hundredth of a cent
SAMPLE_MODES, ROOT_KEY, INSTRUMENT, SAMPLE = 54, 58, 41, 53
RELEASE = 38  # in timecents
MONO, VORBIS = 1, 0x10  # types of samples


def _why_silent() -> str:
    """Return what is missing for sound; nothing where all is there."""
    try:
        load_library()
    except UserError as error:
        return str(error)
    return ""


needs_sound = pytest.mark.skipif(bool(_why_silent()), reason=_why_silent() or "never")


class SineSynthesizer:
    """Stands for FluidSynth, which need not be installed: a sine as long as notes sound."""

    def __init__(self, soundfont: Path) -> None:
        pass

    def play(self, performance: Performance, *, tail_seconds: float, tell) -> np.ndarray:
        n = round((performance.seconds + tail_seconds) * SAMPLE_RATE)
        t = np.arange(n) / SAMPLE_RATE
        sine = 0.1 * np.sin(2 * np.pi * 440 * t) * (t < performance.seconds)
        tell(n, n)
        return np.stack([sine, sine], 1).astype(np.float32)


def write_soundfont(
    path: Path, *, programs=(0,), root: int = ROOT, override: bool = False, vorbis: bool = False
) -> Path:
    """Write an SF2 file, or SF3 with `vorbis`.

    With `override`, the root key stands in the zone and not in the sample.
    """
    n = round(PERIODS * SAMPLE_RATE / 440)
    sine = np.rint(16_000 * np.sin(2 * np.pi * PERIODS * np.arange(n) / n)).astype("<i2")
    samples = _vorbis(sine) if vorbis else sine.tobytes() + bytes(2 * 46)
    end, kind = (len(samples), MONO | VORBIS) if vorbis else (n, MONO)
    banks = [(0, program) for program in programs] + [(128, 0)]
    generators = [(RELEASE, -2400), (SAMPLE_MODES, 1)]
    generators += [(ROOT_KEY, root)] if override else []
    generators += [(SAMPLE, 0)]
    presets = [_preset(program, bank, i) for i, (bank, program) in enumerate(banks)]
    header = struct.pack(
        "<20sIIIIIBbHH", b"sine", 0, end, 0, n, SAMPLE_RATE, 60 if override else root, 0, 0, kind
    )
    pdta = {
        "phdr": b"".join(presets) + _preset(0, 0, len(banks)),
        "pbag": b"".join(struct.pack("<HH", i, 0) for i in range(len(banks) + 1)),
        "pmod": bytes(10),
        "pgen": struct.pack("<HH", INSTRUMENT, 0) * len(banks) + bytes(4),
        "inst": struct.pack("<20sH", b"sine", 0) + struct.pack("<20sH", b"EOI", 1),
        "ibag": struct.pack("<HHHH", 0, 0, len(generators), 0),
        "imod": bytes(10),
        "igen": b"".join(struct.pack("<Hh", *pair) for pair in generators) + bytes(4),
        "shdr": header + struct.pack("<20sIIIIIBbHH", b"EOS", *(0,) * 9),
    }
    info = _chunk("ifil", struct.pack("<HH", 3 if vorbis else 2, 1))
    info += _chunk("isng", b"EMU8000\0") + _chunk("INAM", b"sine\0\0")
    content = _list("INFO", info) + _list("sdta", _chunk("smpl", samples))
    content += _list("pdta", b"".join(_chunk(name, data) for name, data in pdta.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_chunk("RIFF", b"sfbk" + content))
    return path


def _vorbis(samples: np.ndarray) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    return file.getvalue()


def _preset(program: int, bank: int, bag: int) -> bytes:
    return struct.pack("<20sHHHIII", b"sine", program, bank, bag, 0, 0, 0)


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _list(name: str, data: bytes) -> bytes:
    return _chunk("LIST", name.encode() + data)
