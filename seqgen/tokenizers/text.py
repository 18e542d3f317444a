"""Text as UTF-8 bytes: 256 ids; shows that the model depends on nothing musical.

Legend: T positions.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.files import write_bytes, write_json
from seqgen.midi import MidiFile
from seqgen.tokenizers.base import Edit, Encoded, Original, Shift
from seqgen.vocabulary import Field, Vocabulary

PAD, BOS, EOS = 256, 257, 258


class ByteTokenizer:
    """One token per byte, F = 1."""

    unit = "byte"
    suffix = ".txt"
    suffixes = frozenset({".txt", ".text", ".md"})
    bar: np.ndarray | None = None
    tells_parts = False

    def __init__(self, limits: LimitsConfig):
        self.vocabulary = Vocabulary((Field("byte", 259),), bos_id=BOS, eos_id=EOS, pad_id=PAD)
        self.config = TokenizerConfig(type="bytes")
        self._limits = limits

    def encode(self, path: Path) -> np.ndarray:
        """Read a UTF-8 file into ids [T, 1]."""
        return self._read(path).astype(np.int64)

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a file; text has no shifts but the one that changes nothing."""
        ids = self._read(path)
        return Encoded([ids for shift in shifts if shift == Shift()], self.units(ids), {})

    def decode(
        self,
        ids: np.ndarray,
        path: Path,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> None:
        """Write the bytes; an unfinished character at the end is left out."""
        content = bytes(ids[ids[:, 0] < 256, 0].astype(np.uint8))
        write_bytes(path, content.decode("utf-8", errors="ignore").encode())

    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Refuse: text cannot be played."""
        raise UserError("this run writes text, which cannot be played: choose one for music")

    def describe(self, path: Path, *, until: float) -> tuple[str, list[str]]:
        """Count bytes; bytes hold all of a text."""
        return f"{len(self._read(path)):,} bytes", []

    def told_notes(self, ids: np.ndarray) -> None:
        """Tell nothing: a token is not of one note."""

    def repeats(self, ids: np.ndarray) -> None:
        """Text has no bars."""

    def write_out(self, ids: np.ndarray) -> np.ndarray:
        """Return ids [T, 1] as they are."""
        return ids

    def quote_bars(self, ids: np.ndarray, *, back: int, n_bars: int) -> np.ndarray:
        """Refuse: text has no bars."""
        raise UserError("text has no bars to quote")

    def units(self, ids: np.ndarray) -> int:
        """Count bytes."""
        return int((ids[:, 0] < 256).sum())

    def tempo(self, path: Path) -> None:
        """Text has no tempo."""
        return

    def clock(self, *, tempo: float | None = None) -> None:
        """Text has no time."""
        return

    def train(self, pieces: Iterable[np.ndarray], *, vocab_size: int) -> "ByteTokenizer":
        """Refuse: bytes are not merged."""
        raise NotImplementedError("bytes have no merged tokens")

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """Return ids as they are: bytes are not merged."""
        return ids

    def names(self) -> list[str]:
        """Show printable bytes as characters, others as numbers."""
        plain = [chr(i) if 32 < i < 127 else f"0x{i:02x}" for i in range(256)]
        return [*plain, "PAD", "BOS", "EOS"]

    def fingerprint(self) -> str:
        """Hash the kind and the special ids."""
        return hashlib.sha256(b"bytes-256-257-258").hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write which tokenizer this is."""
        write_json(
            folder / "tokenizer.json", {"type": "bytes", "limits": self._limits.model_dump()}
        )

    def _read(self, path: Path) -> np.ndarray:
        """Return the bytes of a UTF-8 file [T, 1] as they are: a text may be large."""
        limit = self._limits.max_file_bytes
        try:
            with Path(path).open("rb") as file:
                content = file.read(limit + 1)
        except OSError as error:
            raise FileRejected("unreadable", str(path), f"{error.strerror}") from None
        if len(content) > limit:
            reason = f"it is larger than {self._limits.named('max_file_bytes')}"
            raise FileRejected("over-limit", str(path), reason)
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FileRejected("unsupported", str(path), _not_utf_8(content, error)) from None
        if not content.strip():
            raise FileRejected("empty", str(path), "it holds no text")
        return np.frombuffer(content, dtype=np.uint8)[:, None]


def _not_utf_8(content: bytes, error: UnicodeDecodeError) -> str:
    line = content.count(b"\n", 0, error.start) + 1
    return (
        f"byte {error.start} (0x{content[error.start]:02x}, in line {line}) is not UTF-8: save it "
        f"as UTF-8, with an editor or `iconv -f LATIN1 -t UTF-8`, or remove what is not UTF-8 with "
        f"`iconv -c -f UTF-8 -t UTF-8`"
    )
