"""The pieces that are scored: those of a split, or those of a folder of other files.

Legend: T positions, F fields.
"""

import errno
import hashlib
import os
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seqgen.data.batches import held_out_pieces
from seqgen.data.corpora import Corpus, Progress, locate, open_corpus, tracked
from seqgen.data.shards import Piece, PreparedData
from seqgen.data.splits import TEST, TRAIN, VALIDATION
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.scales import Amount, count_midi, count_tokens
from seqgen.evaluation.subject import EvaluatedRun, data_of
from seqgen.midi import ANY_SIZE, open_midi
from seqgen.tokenizers import Tokenizer

MOST_BYTES = ANY_SIZE.max_file_bytes
TRAINING = "training"
FEWEST_TRAINING = 8  # pieces of the training sample, also where fewer are held out


@dataclass(frozen=True)
class Item:
    """One piece, or the beginning of one.

    Attributes:
        name: its file, within the corpus.
        ids: tokens [T, F], BOS and EOS included where the piece begins and ends.
        path: the file, where it is still there and `ids` are the whole of it.
        in_tokens: what the tokens stand for; None before it is counted.
        in_file: what the file holds; None before it is counted, and where there is no `path`.
    """

    name: str
    ids: np.ndarray
    path: Path | None = None
    in_tokens: Amount | None = None
    in_file: Amount | None = None

    @property
    def n_targets(self) -> int:
        """Tokens but the first, which nothing predicts."""
        return len(self.ids) - 1


@dataclass(frozen=True)
class PieceSet:
    """Pieces that one figure is about.

    Attributes:
        name: "validation", "test", "training", or what the folder is called.
        items: the pieces.
        n_available: how many there are to choose from; those that are skipped are among them.
        skipped: files that cannot be used, with the reason.
        is_split: whether they are a split of the run's own data, and not other files.
        n_known: files that are, to the byte, among those the model was trained on.
    """

    name: str
    items: tuple[Item, ...]
    n_available: int
    skipped: tuple[tuple[str, str], ...] = ()
    n_known: int = 0
    is_split: bool = False

    @property
    def n_targets(self) -> int:
        """Predicted tokens of all pieces."""
        return sum(item.n_targets for item in self.items)

    @property
    def ids(self) -> list[np.ndarray]:
        """Tokens [T, F] of each piece."""
        return [item.ids for item in self.items]

    @property
    def in_files(self) -> list[Amount]:
        """What those pieces hold whose files are there."""
        return [item.in_file for item in self.items if item.in_file is not None]

    @property
    def in_tokens(self) -> list[Amount]:
        """What the tokens of pieces stand for."""
        return [item.in_tokens for item in self.items if item.in_tokens is not None]

    @property
    def amounts(self) -> list[Amount]:
        """What pieces hold in their files if all are there, else in their tokens."""
        return self.in_files if len(self.in_files) == len(self.items) else self.in_tokens

    def counted(self, tokenizer: Tokenizer, *, progress: Progress) -> "PieceSet":
        """Return the set with what its pieces hold in their files and in their tokens.

        They differ where tokens leave something out: drums, notes that fall together on the grid.
        """
        items = []
        for item in tracked(self.items, f"{self.name}: counting {tokenizer.unit}s", progress):
            amount = count_tokens(item.ids, tokenizer)
            item = replace(item, in_tokens=amount, in_file=amount)
            if tokenizer.suffix == ".mid":
                path = item.path
                in_file = None if path is None else count_midi(open_midi(path, ANY_SIZE))
                item = replace(item, in_file=in_file)
            items.append(item)
        return replace(self, items=tuple(items))

    def facts(self) -> dict:
        """What a record says of the set, after `counted`."""
        return {
            "name": self.name,
            "is_split": self.is_split,
            "pieces": len(self.items),
            "available": self.n_available,
            "targets": self.n_targets,
            "counted_in": "files" if len(self.in_files) == len(self.items) else "tokens",
            "units": sum(amount.units for amount in self.amounts),
            "units_in_tokens": sum(amount.units for amount in self.in_tokens),
            "seconds": sum(amount.seconds for amount in self.amounts),
            "skipped": [{"file": file, "reason": reason} for file, reason in self.skipped],
            "training_files_among_them": self.n_known,
        }


@dataclass(frozen=True)
class Sets:
    """The pieces of an evaluation.

    Attributes:
        training: some of those learned from; None where they no longer exist.
        held_out: held-out pieces: the set that the verdict is mainly about.
    """

    training: PieceSet | None
    held_out: tuple[PieceSet, ...]

    @property
    def asked_for(self) -> tuple[PieceSet, ...]:
        """The held-out sets that the evaluation is of: other files, or else the splits."""
        others = tuple(pieces for pieces in self.held_out if not pieces.is_split)
        return others or self.held_out

    @property
    def own(self) -> tuple[PieceSet, ...]:
        """The held-out sets that limits come from: the run's own splits, where there are any."""
        splits = tuple(pieces for pieces in self.held_out if pieces.is_split)
        return splits or self.held_out


def choose_sets(
    run: EvaluatedRun, source: str | None, *, max_targets: int, progress: Progress
) -> Sets:
    """Find the pieces: files of the folder `source`, or the held-out splits; a training sample.

    Raises:
        UserError: there is nothing to evaluate on.
    """
    data, held_out = data_of(run), []
    if source is not None:
        training = [] if isinstance(data, str) else data.of_split(TRAIN)
        held_out.append(
            folder_set(
                source,
                run.loaded.tokenizer,
                cache=Path("prepared") / "corpora",
                max_targets=max_targets,
                known={piece.file_hash for piece in training},
                progress=progress,
            )
        )
    if isinstance(data, str):
        if source is None:
            raise UserError(f"{data}: restore it, or choose other files with --data FOLDER")
        return Sets(None, tuple(held_out))
    # With other files, the run's own held-out pieces tell over-fitting from another kind of music.
    names = (VALIDATION, TEST) if source is None else (VALIDATION,)
    splits = [split_set(data, name, name=name, max_targets=max_targets) for name in names]
    held_out += [pieces for pieces in splits if pieces.items]
    if not held_out:
        raise UserError(
            f"{run.path} has no validation or test piece: choose other files with --data FOLDER"
        )
    n = max(len(held_out[0].items), FEWEST_TRAINING)
    sample = split_set(data, TRAIN, name=TRAINING, max_targets=max_targets, at_most=n)
    return Sets(sample, tuple(held_out))


def split_set(
    data: PreparedData, split: str, *, name: str, max_targets: int, at_most: int | None = None
) -> PieceSet:
    """Take pieces of a split in the order of their hash, up to `max_targets` and `at_most`.

    They are whole, unless the first alone is longer: it is cut, and not counted in its file.
    """
    available = data.of_split(split)
    whole = {piece.variants[0][0]: piece.variants[0][1] for piece in available}
    chosen = held_out_pieces(data, split, max_targets=max_targets)[:at_most]
    items: list[Item] = []
    for piece in chosen:
        is_whole = whole[piece.variants[0][0]] == piece.variants[0][1]
        if items and not is_whole:
            break  # a part of a piece has no notes to be counted in its file
        path = _original(data, piece) if is_whole else None
        items.append(Item(piece.file, data.read(piece), path))
    return PieceSet(name, tuple(items), len(available), is_split=True)


def folder_set(
    source: str,
    tokenizer: Tokenizer,
    *,
    cache: Path,
    max_targets: int,
    known: Set[str] = frozenset(),
    progress: Progress,
) -> PieceSet:
    """Read files of a folder with the tokenizer, until `max_targets`.

    They come in the order of their hash, as pieces of a split do, and whole, as there. Files that
    the model was trained on, whose hashes are `known`, are left out. UserError if none is usable.
    """
    corpus = open_corpus(source, tokenizer.suffixes, cache=cache, option="--data ")
    vocabulary = tokenizer.vocabulary
    bos, eos = (vocabulary.special_token(i)[None] for i in (vocabulary.bos_id, vocabulary.eos_id))
    items: list[Item] = []
    n_known, room = 0, max_targets
    hashes, skipped = _hashes(corpus, progress)
    for file in tracked(sorted(hashes, key=hashes.__getitem__), "reading files", progress):
        if hashes[file] in known:
            n_known += 1
            continue
        if room < 1:
            continue
        try:
            ids = np.concatenate([bos, tokenizer.encode(file), eos])
        except FileRejected as rejected:
            skipped.append((corpus.label(file), rejected.reason))
            continue
        is_whole = len(ids) <= room + 1
        if items and not is_whole:
            room = 0
            continue
        items.append(Item(corpus.label(file), ids[: room + 1], file if is_whole else None))
        room -= items[-1].n_targets
    if not items:
        raise UserError(f"--data {source}: {_no_items(len(corpus.files), n_known, skipped)}")
    return PieceSet(corpus.name, tuple(items), len(corpus.files), tuple(skipped), n_known)


def _no_items(n: int, n_known: int, skipped: list[tuple[str, str]]) -> str:
    """Say why none of n files can be used."""
    if n_known == n:
        return f"the model was trained on all of its {n} files"
    why = f"; the first, {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
    learned = f" ({n_known} are training files of the model)" if n_known else ""
    return f"none of {n} files can be used{learned}{why}"


def _hashes(corpus: Corpus, progress: Progress) -> tuple[dict[Path, str], list[tuple[str, str]]]:
    """Hash all files; return the hashes, and which files cannot be read, with the reason."""
    hashes, rejected = {}, []
    for file in tracked(corpus.files, "hashing files", progress):
        try:
            hashes[file] = _hash(file)
        except OSError as error:
            rejected.append((corpus.label(file), error.strerror or type(error).__name__))
    return hashes, rejected


def _original(data: PreparedData, piece: Piece) -> Path | None:
    """The file a piece was made of, if it is there unchanged."""
    path = locate(data.index["sources"], piece.file)
    try:
        return path if path and _hash(path) == piece.file_hash else None
    except OSError:
        return None


def _hash(path: Path) -> str:
    """Hash a file as `content_hash` does, without holding it in memory; OSError if it is huge."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES:,} bytes")
        return hashlib.file_digest(file, "sha256").hexdigest()
