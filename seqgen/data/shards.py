"""Prepared data on disk: a mapped array of tokens, and mapped tables of the pieces in it.

Legend: F fields, P pieces, V variants.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, overload

import numpy as np

from seqgen.errors import UserError
from seqgen.files import check_files, read_record
from seqgen.tokenizers import Tokenizer, load_tokenizer

FORMAT = 4
INDEX, TOKENS, REPORT, TOKENIZER = "index.json", "tokens.bin", "report.json", "tokenizer"
PIECES, VARIANTS, NAMES = "pieces.bin", "variants.bin", "names.bin"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
HASH = np.dtype("V32")  # SHA-256
ROW = np.dtype(
    [
        ("file_hash", HASH),
        ("name_end", "<i8"),  # in the names; a name begins where that of the row before ends
        ("units", "<i8"),
        ("first_variant", "<i8"),  # its variants follow one another
        ("n_variants", "<i4"),
        ("split", "u1"),  # a number in SPLITS
    ]
)


@dataclass(frozen=True)
class StoredPiece:
    """One source file, or one part of it, in tokens.

    Attributes:
        file: its name within the corpus.
        split: train, validation or test.
        file_hash: hash of the file's content, in hexadecimal.
        units: what the first variant holds, in the tokenizer's units.
        variants: (offset, length) of each variant in the token array; the first one is the piece
            as it is in the file. BOS and EOS are part of it where the piece truly begins and ends.
    """

    file: str
    split: str
    file_hash: str
    units: int
    variants: tuple[tuple[int, int], ...]


class Table(NamedTuple):
    """Pieces in arrays.

    Attributes:
        rows: [P] of `ROW`.
        variants: offset and length of each variant of each piece in the token array [V, 2].
        names: of all files, one after another, as bytes.
    """

    rows: np.ndarray
    variants: np.ndarray
    names: np.ndarray


class Pieces(Sequence[StoredPiece]):
    """Pieces of a table, each made when it is asked for, so that millions take little memory."""

    def __init__(self, table: Table, chosen: np.ndarray | None = None):
        """Take pieces by their numbers in the table [P]; None: all of them."""
        self._table = table
        self._chosen = np.arange(len(table.rows)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, number: int) -> StoredPiece: ...
    @overload
    def __getitem__(self, number: slice | np.ndarray) -> "Pieces": ...
    def __getitem__(self, number: int | slice | np.ndarray) -> "StoredPiece | Pieces":
        if isinstance(number, slice | np.ndarray):
            return Pieces(self._table, self._chosen[number])
        row = self._table.rows[self._chosen[number]]
        first, n = int(row["first_variant"]), int(row["n_variants"])
        return StoredPiece(
            self.file(number),
            SPLITS[row["split"]],
            row["file_hash"].tobytes().hex(),
            int(row["units"]),
            tuple((int(o), int(n)) for o, n in self._table.variants[first : first + n]),
        )

    def file(self, number: int) -> str:
        """Return the name of a piece's file."""
        place = self._chosen[number]
        ends = self._table.rows["name_end"]
        start = ends[place - 1] if place else 0
        return os.fsdecode(self._table.names[start : ends[place]].tobytes())

    def column(self, name: str) -> np.ndarray:
        """Return a column of `ROW` for these pieces [P]."""
        return self._table.rows[name][self._chosen]

    def of_split(self, split: str) -> "Pieces":
        """Return those of one split, in the same order."""
        return self[np.flatnonzero(self.column("split") == SPLITS.index(split))]

    def by_hash(self) -> "Pieces":
        """Return them in the order of their hashes, which is none of names or collections."""
        return self[np.argsort(self.column("file_hash"), kind="stable")]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each piece as it is in the file [P]."""
        return self._table.variants[self.column("first_variant"), 1]

    @property
    def longest(self) -> np.ndarray:
        """Tokens of each piece's longest variant [P]."""
        return self._of_variants(np.maximum)

    @property
    def shortest(self) -> np.ndarray:
        """Tokens of each piece's shortest variant [P]."""
        return self._of_variants(np.minimum)

    def _of_variants(self, choose: np.ufunc) -> np.ndarray:
        firsts, counts = self.column("first_variant"), self.column("n_variants")
        chosen = self._table.variants[firsts, 1]
        for variant in range(1, counts.max(initial=0)):
            has = np.flatnonzero(counts > variant)
            lengths = self._table.variants[firsts[has] + variant, 1]
            chosen[has] = choose(chosen[has], lengths)
        return chosen

    def choose(self, pieces: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return offset and length of a variant of each of `pieces`, numbered from 0; all [·].

        A share in [0, 1) falls to one of the piece's variants, all of them equally wide.
        """
        rows = self._table.rows[self._chosen[pieces]]
        variants = (shares * rows["n_variants"]).astype(np.int64)
        offsets, lengths = self._table.variants[rows["first_variant"] + variants].T
        return offsets, lengths


class PreparedData:
    """Read access to a folder of prepared data."""

    def __init__(self, folder: Path):
        """Open a folder; UserError where it is not prepared data or is damaged."""
        self.folder = folder
        self.index = read_index(folder)
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
    def pieces(self) -> Pieces:
        """All pieces, in order of file name."""
        for part in (PIECES, VARIANTS, NAMES):
            self._check(part)
        return Pieces(open_table(self.folder))

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

    def of_split(self, split: str) -> Pieces:
        """The pieces of one split, in order of file name."""
        return self.pieces.of_split(split)

    def read(
        self, piece: StoredPiece, *, variant: int = 0, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Return tokens start … stop of a piece's variant, an int64 array [·, F]."""
        offset, length = piece.variants[variant]
        stop = length if stop is None else min(stop, length)
        return self._tokens[offset + start : offset + stop].astype(np.int64)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the tokens at places [...] of the token array, an int64 array [..., F]."""
        return self._tokens[places].astype(np.int64)


def make_table(pieces: Iterable[StoredPiece]) -> Table:
    """Put pieces into arrays."""
    rows, names = [], bytearray()
    variants: list[tuple[int, int]] = []
    for piece in pieces:
        names += os.fsencode(piece.file)
        rows.append(
            (
                bytes.fromhex(piece.file_hash),
                len(names),
                piece.units,
                len(variants),
                len(piece.variants),
                SPLITS.index(piece.split),
            )
        )
        variants += piece.variants
    return Table(
        np.array(rows, dtype=ROW),
        np.array(variants, dtype=np.int64).reshape(-1, 2),
        np.array(names, dtype=np.uint8),
    )


def open_table(folder: Path, *, mode: Literal["r", "r+"] = "r") -> Table:
    """Map the tables of a folder; `mode` is that of `numpy.memmap`."""

    def mapped(name: str, dtype: np.dtype) -> np.ndarray:
        path = folder / name
        empty = not path.stat().st_size  # which cannot be mapped
        return np.zeros(0, dtype) if empty else np.memmap(path, dtype=dtype, mode=mode)

    variants = mapped(VARIANTS, np.dtype("<i8")).reshape(-1, 2)
    return Table(mapped(PIECES, ROW), variants, mapped(NAMES, np.dtype(np.uint8)))


class TableWriter:
    """Appends tables to those of a folder that is being written."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._n_variants = self._n_bytes = 0

    def __enter__(self) -> "TableWriter":
        with ExitStack() as stack:
            paths = [self._folder / name for name in (PIECES, VARIANTS, NAMES)]
            self._files = [stack.enter_context(path.open("wb")) for path in paths]
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def append(self, table: Table, *, offset: int = 0) -> None:
        """Append pieces whose tokens lie `offset` further on than their variants say."""
        rows, variants = table.rows.copy(), np.add(table.variants, [offset, 0])
        rows["name_end"] += self._n_bytes
        rows["first_variant"] += self._n_variants
        for part, file in zip((rows, variants, table.names), self._files, strict=True):
            part.tofile(file)
        self._n_variants += len(variants)
        self._n_bytes += len(table.names)


class TokenWriter:
    """Appends pieces to a token array that is being written."""

    def __init__(self, path: Path, *, max_id: int):
        self.dtype = token_dtype(max_id)
        self.n_tokens = 0
        self._path = path

    def __enter__(self) -> "TokenWriter":
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, tokens: np.ndarray) -> tuple[int, int]:
        """Write tokens [T, F]; return their offset and length."""
        offset = self.n_tokens
        np.ascontiguousarray(tokens, dtype=self.dtype).tofile(self._file)
        self._n_fields = tokens.shape[1]
        self.n_tokens += len(tokens)
        return offset, len(tokens)

    def written(self) -> np.ndarray:
        """Return the whole array [·, F] once it is closed."""
        shape = (self.n_tokens, self._n_fields)
        return np.memmap(self._path, dtype=self.dtype, mode="r", shape=shape)


def token_dtype(max_id: int) -> np.dtype:
    """Return the smallest type of integer in which tokens are stored."""
    return np.dtype(np.uint16 if max_id < 2**16 else np.uint32)


def read_index(folder: Path) -> dict:
    """Read the index of prepared data; UserError where there is none, or a damaged one."""
    path = folder / INDEX
    if not path.exists():
        raise UserError(f"no prepared data in {folder}")
    return read_record(path, format=FORMAT, way_out=_way_out(folder))


def _way_out(folder: Path) -> str:
    return f"delete {folder} to prepare it again"
