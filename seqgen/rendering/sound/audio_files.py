"""Samples as files: WAV by Python itself, Ogg Vorbis by the package soundfile."""

import importlib.util
import io
import wave
from pathlib import Path

import numpy as np

from seqgen.errors import UserError
from seqgen.files import atomic_path

FORMATS = (".wav", ".ogg")
FRAMES = 1 << 16  # written at a time: libsndfile keeps a Vorbis block on its stack
FULL_SCALE = 32767
OGG_PACKAGE = "soundfile"


def check_format(path: Path) -> None:
    """Raise UserError where `path` does not end in a format that can be written here."""
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path} should end in {' or '.join(FORMATS)}")
    if path.suffix.lower() == ".ogg" and importlib.util.find_spec(OGG_PACKAGE) is None:
        raise UserError(
            f"Ogg needs the package {OGG_PACKAGE}: .venv/bin/python -m pip install -c "
            f"constraints.txt {OGG_PACKAGE}, or write a .wav file"
        )


def write_audio(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Write float samples [2, n] between -1 and 1: 16 bits as WAV, or Ogg, as the name ends."""
    check_format(path)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".ogg":
            _write_ogg(temporary, audio, sample_rate)
        else:
            _write_wav(temporary, audio, sample_rate)


def _write_wav(path: Path, audio: np.ndarray, sample_rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(audio.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        for part in _parts(audio):
            whole = np.rint(np.clip(part, -1, 1) * FULL_SCALE).astype("<i2")
            file.writeframesraw(np.ascontiguousarray(whole).tobytes())


def small_ogg(audio: np.ndarray, sample_rate: int) -> bytes:
    """Return float samples [2, n] as Ogg Vorbis of some 50 kbit/s, for a page that holds them."""
    check_format(Path("x.ogg"))
    file = io.BytesIO()
    _write_ogg(file, audio, sample_rate, compression_level=1.0)
    return file.getvalue()


def _write_ogg(file: Path | io.BytesIO, audio: np.ndarray, sample_rate: int, **options) -> None:
    soundfile = importlib.import_module(OGG_PACKAGE)
    with soundfile.SoundFile(
        file, "w", sample_rate, audio.shape[0], format="OGG", subtype="VORBIS", **options
    ) as sound:
        for part in _parts(audio):
            sound.write(np.ascontiguousarray(part))


def _parts(audio: np.ndarray):
    """Yield [n, channels] in pieces."""
    for start in range(0, audio.shape[1], FRAMES):
        yield audio[:, start : start + FRAMES].T
