"""Uploaded MIDI files: read by the gate in a process of its own, which may die.

That process imports this module: it must stay light.
"""

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from seqgen.config import LimitsConfig
from seqgen.data.encoding import Readers, Work
from seqgen.errors import FileRejected
from seqgen.midi import midi_bytes, read_midi

LIMITS = LimitsConfig(max_read_seconds=30, max_memory_bytes=1_000_000_000, max_minutes=30.0)


@dataclass(frozen=True)
class Clean:
    """A repaired file, and how often what was done to repair it, and what of it was left out."""

    content: bytes
    repairs: dict[str, int]
    left_out: dict[str, int]


def clean(path: str) -> Clean:
    """Read a file through the gate; FileRejected where it cannot be used."""
    read = read_midi(path, LIMITS)
    return Clean(midi_bytes(read.midi), read.repairs, read.left_out)


def load_gate() -> Work:
    """Return the work of the reading process."""
    return clean


class Gate:
    """Reads what people send, one file at a time."""

    def __init__(self) -> None:
        self._readers = Readers(LIMITS, workers=1)
        self._lock = threading.Lock()

    def read(self, content: bytes, name: str) -> Clean:
        """Return the repaired file; FileRejected, which calls it by `name`, where it is refused."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload.mid"
            path.write_bytes(content)
            [result] = self._readers.read([(str(path),)], load_gate, tell=lambda done, total: None)
        if isinstance(result, FileRejected):
            raise FileRejected(result.kind, name, result.reason)
        return result

    def close(self) -> None:
        """End the process."""
        self._readers.__exit__()
