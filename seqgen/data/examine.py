"""The two passes over the files of a corpus: surveying them, and turning them into tokens.

Legend: F fields, P pieces.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from seqgen.config import LimitsConfig
from seqgen.data.corpora import Places
from seqgen.data.encoding import Job, Work
from seqgen.data.shards import TRAIN, StoredPiece, Table, make_table, token_dtype
from seqgen.data.splits import content_hash, split_of
from seqgen.errors import FileRejected
from seqgen.files import json_ready
from seqgen.tasks import pair_examiner
from seqgen.tokenizers import (
    Encoded,
    Shift,
    Sketch,
    Tokenizer,
    add_accounts,
    load_tokenizer,
    modality,
    total_account,
)


@dataclass(frozen=True)
class Surveying:
    """Surveys files: what settings of tokens are chosen from.

    Attributes:
        places: of the files.
        limits: for each file.
        type: that of the tokens (`tokenizer.type`).
    """

    places: Places
    limits: LimitsConfig
    type: str

    def job(self, label: str) -> Job:
        """Return the path of a file."""
        return (self.places.path(label),)

    def load(self) -> Work:
        """Return what surveys a file."""
        return partial(modality(self.type).survey, limits=self.limits)

    def join(self, _: Sequence[str], results: Sequence[Any]) -> Any:
        """Add the surveys up."""
        surveys = (one for one in results if not isinstance(one, FileRejected))
        return modality(self.type).add_surveys(surveys)


@dataclass(frozen=True)
class Tokenized:
    """What is kept of a shard of files.

    Attributes:
        tokens: of all variants of all pieces, one after another [·, F].
        table: the pieces, all for training so far.
        lines: JSON of what became of each file, a line each.
        skipped: files that cannot be used, and why.
        account: of all files; see `add_accounts`.
        sketches: of the pieces, one after another: points, grams and starts, as int32.
        sizes: points and grams of each piece's sketch [P, 2].
    """

    tokens: np.ndarray
    table: Table
    lines: str
    skipped: list[dict]
    account: dict
    sketches: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Tokenizing:
    """Turns files into tokens.

    Attributes:
        places, published: where the files of the corpus are, and the splits that some have.
        limits: for each file.
        pairs: how files are told as pairs (`data.pairs`), if they are.
        tokenizer: the files of the tokenizer, by name.
        max_id, bos, eos: its largest id, and its special tokens [1, F].
        shifts: the variants of a training piece, the unchanged one first.
        shares: of the splits.
        all_may_train: whether any file may be for training in the end, whatever its hash says.
        sketched: whether sketches are kept.
    """

    places: Places
    published: Mapping[str, str]
    limits: LimitsConfig
    pairs: str | None
    tokenizer: Mapping[str, bytes]
    max_id: int
    bos: np.ndarray
    eos: np.ndarray
    shifts: Sequence[Shift]
    shares: Mapping[str, float]
    all_may_train: bool
    sketched: bool

    def job(self, label: str) -> Job:
        """Return the path of a file, and its published split."""
        return self.places.path(label), self.published.get(label)

    def load(self) -> Work:
        """Return what hashes and tokenizes a file."""
        with TemporaryDirectory() as folder:
            for name, content in self.tokenizer.items():
                (Path(folder) / name).write_bytes(content)
            tokenizer = load_tokenizer(Path(folder), self.limits)
        if self.pairs is not None:
            return partial(self._examine, pair_examiner(self.pairs, tokenizer))
        return partial(self._examine, tokenizer.examine)

    def _examine(
        self,
        examine: Callable[[Path, Sequence[Shift]], Encoded],
        path: Path,
        published: str | None,
    ) -> tuple[str, Encoded]:
        file_hash = content_hash(_read(path, self.limits))
        split = published or split_of(file_hash, **self.shares)
        may_train = self.all_may_train or split == TRAIN
        return file_hash, examine(path, self.shifts if may_train else [Shift()])

    def join(
        self, labels: Sequence[str], results: Sequence[tuple[str, Encoded] | FileRejected]
    ) -> Tokenized:
        """Put the tokens of all files into one array."""
        dtype = token_dtype(self.max_id)
        tokens = [np.zeros((0, self.bos.shape[1]), dtype)]
        sketches, sizes = [np.zeros(0, np.int32)], []
        pieces, lines, skipped, accounts, n_tokens = [], [], [], [], 0
        for label, result in zip(labels, results, strict=True):
            line: dict[str, Any] = {"file": label}
            if isinstance(result, FileRejected):
                line |= {"kind": result.kind, "reason": result.reason}
                skipped.append(line)
            else:
                file_hash, encoded = result
                places = []
                for ids in encoded.variants:
                    places.append((n_tokens, len(ids) + 2))
                    tokens += [part.astype(dtype) for part in (self.bos, ids, self.eos)]
                    n_tokens += len(ids) + 2
                pieces.append(StoredPiece(label, TRAIN, file_hash, encoded.units, tuple(places)))
                if encoded.account:
                    accounts.append(encoded.account)
                    line["account"] = total_account([encoded.account])
                sketch = encoded.sketch if self.sketched else None
                sketches += _columns(sketch)
                sizes.append((len(sketch.points), len(sketch.grams)) if sketch else (0, 0))
            lines.append(json.dumps(json_ready(line)) + "\n")
        return Tokenized(
            np.concatenate(tokens),
            make_table(pieces),
            "".join(lines),
            skipped,
            add_accounts(accounts),
            np.concatenate(sketches),
            np.array(sizes, dtype=np.int64).reshape(-1, 2),
        )


def _columns(sketch: Sketch | None) -> list[np.ndarray]:
    if sketch is None:
        return []
    return [sketch.points, sketch.grams.view(np.int32), sketch.starts]


class Sketches(Sequence[Sketch]):
    """The sketches of some pieces in a file of what `Tokenized.sketches` holds."""

    def __init__(self, path: Path, sizes: np.ndarray, chosen: np.ndarray):
        """Open the file; `sizes` are those of all pieces [P, 2], `chosen` their numbers [·]."""
        self._path, self._sizes, self._chosen = path, sizes, chosen
        ends = np.cumsum(sizes @ [1, 2])
        self._places = ends - sizes @ [1, 2]

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, number: Any) -> Any:
        piece = self._chosen[number]
        n_points, n_grams = self._sizes[piece]
        values = np.fromfile(
            self._path, np.int32, n_points + 2 * n_grams, offset=4 * int(self._places[piece])
        )
        points, grams, starts = np.split(values, [n_points, n_points + n_grams])
        return Sketch(points, grams.view(np.uint32), starts)


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Return what `Tokenizer.save` writes, by name."""
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _read(file: Path, limits: LimitsConfig) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(limits.max_file_bytes + 1)
    except OSError:
        return b""  # the gate will say what is wrong with it
