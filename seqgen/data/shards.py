"""Prepared data on disk: one memory-mapped array of tokens and a JSON index of pieces.

Legend: F fields, P pieces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from seqgen.errors import UserError
from seqgen.files import check_files, read_record
from seqgen.tokenizers import Tokenizer, load_tokenizer

FORMAT = 3
INDEX, TOKENS, REPORT, TOKENIZER = "index.json", "tokens.bin", "report.json", "tokenizer"


@dataclass(frozen=True)
class Piece:
    """One source file, or one part of it, in tokens.

    Attributes:
        file: its name within the corpus.
        split: train, validation or test.
        file_hash: hash of the file's content.
        units: what the first variant holds, in the tokenizer's units.
        variants: (offset, length) of each variant in the token array; the first one is the piece
            as it is in the file. BOS and EOS are part of it where the piece truly begins and ends.
    """

    file: str
    split: str
    file_hash: str
    units: int
    variants: tuple[tuple[int, int], ...]


class PreparedData:
    """Read access to a folder of prepared data."""

    def __init__(self, folder: Path):
        """Open a folder; UserError where it is not prepared data or is damaged."""
        self.folder = folder
        self.index = read_index(folder)
        pieces = self.index["pieces"]
        self.pieces = [
            Piece(**{**piece, "variants": tuple(map(tuple, piece["variants"]))}) for piece in pieces
        ]
        self._dtype = np.dtype(self.index["dtype"])
        self._n_fields = self.index["n_fields"]
        expected = self.index["n_tokens"] * self._n_fields * self._dtype.itemsize
        path = folder / TOKENS
        if not path.is_file() or path.stat().st_size != expected:
            raise UserError(
                f"prepared data in {folder} is damaged ({TOKENS} should hold {expected} bytes): "
                f"{_way_out(folder)}"
            )

    @cached_property
    def _tokens(self) -> np.ndarray:
        self._check(TOKENS)
        shape = (self.index["n_tokens"], self._n_fields)
        return np.memmap(self.folder / TOKENS, dtype=self._dtype, mode="r", shape=shape)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made these tokens."""
        self._check(TOKENIZER)
        return load_tokenizer(self.folder / TOKENIZER)

    def _check(self, part: str) -> None:
        """Compare a file, or the files of a folder, with what was prepared."""
        expected = {
            name: checksum
            for name, checksum in self.index["files"].items()
            if name.partition("/")[0] == part
        }
        check_files(self.folder, expected, way_out=_way_out(self.folder))

    def of_split(self, split: str) -> list[Piece]:
        """The pieces of one split, in order of file name."""
        return [piece for piece in self.pieces if piece.split == split]

    def read(
        self, piece: Piece, *, variant: int = 0, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Return tokens start … stop of a piece's variant, an int64 array [·, F]."""
        offset, length = piece.variants[variant]
        stop = length if stop is None else min(stop, length)
        return self._tokens[offset + start : offset + stop].astype(np.int64)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the tokens at places [...] of the token array, an int64 array [..., F]."""
        return self._tokens[places].astype(np.int64)


class VariantTable:
    """Where the variants of some pieces lie in the token array, for many pieces at a time."""

    def __init__(self, pieces: Sequence[Piece]):
        self._n_variants = np.array([len(piece.variants) for piece in pieces])
        self._firsts = np.cumsum(self._n_variants) - self._n_variants
        flat = [place for piece in pieces for place in piece.variants]
        self._offsets, self._lengths = np.array(flat, dtype=np.int64).T

    @property
    def longest(self) -> np.ndarray:
        """Tokens of each piece's longest variant [P]."""
        return np.maximum.reduceat(self._lengths, self._firsts)

    @property
    def shortest(self) -> np.ndarray:
        """Tokens of each piece's shortest variant [P]."""
        return np.minimum.reduceat(self._lengths, self._firsts)

    def choose(self, pieces: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return offset and length of a variant of each of `pieces`, numbered from 0; all [·].

        A share in [0, 1) falls to one of the piece's variants, all of them equally wide.
        """
        variants = (shares * self._n_variants[pieces]).astype(np.int64)
        rows = self._firsts[pieces] + variants
        return self._offsets[rows], self._lengths[rows]


class TokenWriter:
    """Appends pieces to a token array that is being written."""

    def __init__(self, path: Path, *, max_id: int):
        self.dtype = np.dtype(np.uint16 if max_id < 2**16 else np.uint32)
        self.n_tokens = 0
        self._path = path

    def __enter__(self) -> "TokenWriter":
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, *parts: np.ndarray) -> tuple[int, int]:
        """Write tokens [T, F], in one part or more; return their offset and length."""
        offset = self.n_tokens
        for tokens in parts:
            np.ascontiguousarray(tokens, dtype=self.dtype).tofile(self._file)
            self._n_fields = tokens.shape[1]
            self.n_tokens += len(tokens)
        return offset, self.n_tokens - offset

    def written(self) -> np.ndarray:
        """Return the whole array [·, F] once it is closed."""
        shape = (self.n_tokens, self._n_fields)
        return np.memmap(self._path, dtype=self.dtype, mode="r", shape=shape)


def read_index(folder: Path) -> dict:
    """Read the index of prepared data; UserError where there is none, or a damaged one."""
    path = folder / INDEX
    if not path.exists():
        raise UserError(f"no prepared data in {folder}")
    return read_record(path, format=FORMAT, way_out=_way_out(folder))


def _way_out(folder: Path) -> str:
    return f"delete {folder} to prepare it again"


def index_pieces(pieces: Sequence[Piece]) -> Iterator[dict]:
    """Turn pieces into what the JSON index holds."""
    return (asdict(piece) for piece in pieces)
