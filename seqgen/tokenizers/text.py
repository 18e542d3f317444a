"""Text as UTF-8 bytes: 256 ids; shows that the model depends on nothing musical.

Legend: T positions.
"""

from collections.abc import Sequence
from math import inf
from pathlib import Path

import numpy as np

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected
from seqgen.midi import ANY_SIZE
from seqgen.tokenizers.base import Encoded, Shift, Tokenizer, read_bytes
from seqgen.vocabulary import Field, Vocabulary

PAD, BOS, EOS = 256, 257, 258


class ByteTokenizer(Tokenizer):
    """One token per byte, F = 1."""

    types = ("bytes",)
    kind = "text"
    unit = "byte"
    suffix = ".txt"
    suffixes = frozenset({".txt", ".text", ".md"})

    def __init__(self, config: TokenizerConfig, limits: LimitsConfig):
        super().__init__(TokenizerConfig(type="bytes"), limits)
        self.vocabulary = Vocabulary((Field("byte", 259),), bos_id=BOS, eos_id=EOS, pad_id=PAD)

    def encode(self, path: Path) -> np.ndarray:
        """Read a UTF-8 file into ids [T, 1]."""
        return self._read(path).astype(np.int64)

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a file into bytes as they are: a text may be large."""
        ids = self._read(path)
        return Encoded([ids for shift in shifts if shift == Shift()], len(ids), {})

    def content(self, ids: np.ndarray) -> bytes:
        """Return the bytes; an unfinished character at the end is left out."""
        content = bytes(self.plain(ids)[:, 0].astype(np.uint8))
        return content.decode("utf-8", errors="ignore").encode()

    @classmethod
    def preview(cls, path: Path) -> str:
        """Read the text of a file; what is not UTF-8 is replaced."""
        return read_bytes(path, ANY_SIZE).decode("utf-8", errors="replace")

    def describe(self, path: Path, *, until: float = inf) -> tuple[str, list[str]]:
        """Count bytes; bytes hold all of a text."""
        return f"{len(self._read(path)):,} bytes", []

    def measure(self, path: Path) -> tuple[dict[str, float], str]:
        """Count bytes; a generated text may be empty."""
        n = path.stat().st_size
        return {"bytes": n}, f"{n} bytes"

    def names(self, field: int = 0) -> list[str]:
        """Show printable bytes as characters, others as numbers."""
        plain = [chr(i) if 32 < i < 127 else f"0x{i:02x}" for i in range(256)]
        return [*plain, "PAD", "BOS", "EOS"]

    def _read(self, path: Path) -> np.ndarray:
        """Return the bytes of a UTF-8 file [T, 1]."""
        content = read_bytes(path, self._limits)
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
