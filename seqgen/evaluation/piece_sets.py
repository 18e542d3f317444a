"""The pieces that are scored: those of a split, or those of a folder of other files.

Legend: T positions, F fields.
"""

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from seqgen.data.corpora import Progress, locate, open_corpus, tracked
from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.data.splits import TEST, TRAIN, VALIDATION
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.subject import EvaluatedRun, data_of
from seqgen.files import counted
from seqgen.midi import ANY_SIZE, MidiFile, open_midi, summarize
from seqgen.tokenizers import Preview, Tokenizer

MOST_BYTES = ANY_SIZE.max_file_bytes
FEWEST_TRAINING = 8  # pieces of the training sample, also where fewer are held out


@dataclass(frozen=True)
class Amount:
    """What a piece holds: of music the notes that miditoolkit reads, and the time to their end."""

    units: int = 0  # of its tokenizer
    seconds: float = 0.0  # text has none


def count_midi(midi: MidiFile) -> Amount:
    """Count what a piece of music holds."""
    summary = summarize(midi)
    return Amount(summary.n_notes, summary.seconds)


def decoded(ids: np.ndarray, tokenizer: Tokenizer) -> Preview | None:
    """Write tokens [T, F] as a file and read it; None where they hold nothing, as no whole note."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"piece{tokenizer.suffix}"
        try:
            tokenizer.decode(ids, path)
            return tokenizer.preview(path)
        except FileRejected:
            return None


def decoded_midi(ids: np.ndarray, tokenizer: Tokenizer) -> MidiFile | None:
    """Tokens [T, F] as music; None where they are none."""
    seen = decoded(ids, tokenizer)
    return seen if isinstance(seen, MidiFile) else None


@dataclass(frozen=True)
class Item:
    """One piece, or the beginning of one.

    What a file holds and what its tokens do differ where tokens leave something out: drums, notes
    that fall together on the grid.
    """

    name: str  # its file, within the corpus
    ids: np.ndarray  # tokens [T, F], BOS and EOS included where the piece begins and ends
    in_tokens: Amount
    in_file: Amount | None  # None where the file is gone, or `ids` are not the whole of it
    preview: Preview | None = None  # what the tokens stand for, if a whole note is among them

    @property
    def midi(self) -> MidiFile | None:
        """What the tokens stand for, of music."""
        return self.preview if isinstance(self.preview, MidiFile) else None


@dataclass(frozen=True)
class PieceSet:
    """Pieces that one figure is about."""

    name: str  # "validation", "test", "training", or what the folder is called
    items: tuple[Item, ...]
    n_available: int  # how many there are to choose from; those that are skipped are among them
    skipped: tuple[tuple[str, str], ...] = ()  # files that cannot be used, with the reason
    n_known: int = 0  # files that are, to the byte, among those the model was trained on
    is_split: bool = False  # a split of the run's own data, and not other files

    @property
    def n_targets(self) -> int:
        """Predicted tokens: all but the first of each piece."""
        return sum(len(item.ids) - 1 for item in self.items)

    @property
    def ids(self) -> list[np.ndarray]:
        """Tokens [T, F] of each piece."""
        return [item.ids for item in self.items]

    @property
    def counted_in(self) -> str:
        """Where notes and seconds are counted: in "files" if all are there, else in "tokens"."""
        return "tokens" if any(item.in_file is None for item in self.items) else "files"

    @property
    def amounts(self) -> list[Amount]:
        """What pieces hold, by `counted_in`."""
        is_in_files = self.counted_in == "files"
        return [x.in_file if x.in_file and is_in_files else x.in_tokens for x in self.items]

    def facts(self) -> dict:
        """What a record says of the set."""
        return {
            "name": self.name,
            "is_split": self.is_split,
            "pieces": len(self.items),
            "available": self.n_available,
            "targets": self.n_targets,
            "counted_in": self.counted_in,
            "units": sum(amount.units for amount in self.amounts),
            "units_in_tokens": sum(item.in_tokens.units for item in self.items),
            "seconds": sum(amount.seconds for amount in self.amounts),
            "skipped": [{"file": file, "reason": reason} for file, reason in self.skipped],
            "training_files_among_them": self.n_known,
        }


@dataclass(frozen=True)
class Sets:
    """The pieces of an evaluation."""

    training: PieceSet | None  # some of those learned from; None where they no longer exist
    held_out: tuple[PieceSet, ...]  # the verdict is mainly about the first of the run's own

    @property
    def asked_for(self) -> tuple[PieceSet, ...]:
        """The held-out sets that the evaluation is of: other files, or else the splits."""
        return tuple(x for x in self.held_out if not x.is_split) or self.held_out

    @property
    def own(self) -> tuple[PieceSet, ...]:
        """The held-out sets that limits come from: the run's own splits, where there are any."""
        return tuple(x for x in self.held_out if x.is_split) or self.held_out


def turn_by_turn(pieces: Sequence[StoredPiece]) -> Iterator[tuple[StoredPiece, int]]:
    """Yield all pieces as they are (variant 0), then all of them shifted, and so on."""
    for variant in range(max((len(piece.variants) for piece in pieces), default=0)):
        yield from ((piece, variant) for piece in pieces if variant < len(piece.variants))


def choose_sets(
    run: EvaluatedRun, source: str | None, *, max_targets: int, progress: Progress
) -> Sets:
    """Find the pieces: files of the folder `source`, or the held-out splits; a training sample.

    Raises:
        UserError: there is nothing to evaluate on.
    """
    data, held_out, tokenizer = data_of(run), [], run.loaded.tokenizer
    choices: dict[str, Any] = {"max_targets": max_targets, "progress": progress}
    if source is not None:
        training = [] if isinstance(data, str) else data.of_split(TRAIN)
        known = {piece.file_hash for piece in training}
        cache = Path("prepared") / "corpora"
        held_out.append(folder_set(source, tokenizer, cache=cache, known=known, **choices))
    if isinstance(data, str):
        if source is None:
            raise UserError(f"{data}: restore it, or choose other files with --data FOLDER")
        return Sets(None, tuple(held_out))
    # With other files, the run's own held-out pieces tell over-fitting from another kind of music.
    names = (VALIDATION, TEST) if source is None else (VALIDATION,)
    splits = [split_set(data, name, **choices) for name in names]
    held_out += [pieces for pieces in splits if pieces.items]
    if not held_out:
        raise UserError(
            f"{run.path} has no validation or test piece: choose other files with --data FOLDER"
        )
    n = max(len(held_out[0].items), FEWEST_TRAINING)
    return Sets(split_set(data, TRAIN, at_most=n, **choices), tuple(held_out))


def split_set(
    data: PreparedData,
    split: str,
    *,
    max_targets: int,
    at_most: int | None = None,
    progress: Progress,
) -> PieceSet:
    """Take pieces of a split in the order of their hash, up to `max_targets` and `at_most`.

    They are whole, unless the first alone is longer: it is cut, and not counted in its file.
    """
    available = data.of_split(split).by_hash()
    n_whole = int((np.cumsum(available.lengths - 1) <= max_targets).sum())
    chosen = available[: max(1, n_whole)][:at_most]
    name, items = "training" if split == TRAIN else split, []
    for piece in tracked(chosen, f"{name}: counting {data.tokenizer.unit}s", progress):
        path = _original(data, piece) if n_whole else None
        ids = data.read(piece, stop=max_targets + 1)
        items.append(item_of(piece.file, ids, path, data.tokenizer))
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
    hashes, skipped = {}, []
    for label in tracked(corpus.labels, "hashing files", progress):
        try:
            hashes[label] = _hash(corpus.path(label))
        except OSError as error:
            skipped.append((label, error.strerror or type(error).__name__))
    new = sorted((found, label) for label, found in hashes.items() if found not in known)
    n_known = len(hashes) - len(new)
    vocabulary = tokenizer.vocabulary
    bos, eos = (vocabulary.special_token(i)[None] for i in (vocabulary.bos_id, vocabulary.eos_id))
    items: list[Item] = []
    room = max_targets
    for _, label in tracked(new, "reading files", progress):
        if room < 1:
            continue
        try:
            file = corpus.path(label)
            ids = np.concatenate([bos, tokenizer.encode(file), eos])
        except FileRejected as rejected:
            skipped.append((label, rejected.reason))
            continue
        is_whole = len(ids) <= room + 1
        if is_whole or not items:
            items.append(item_of(label, ids[: room + 1], file if is_whole else None, tokenizer))
        room -= len(ids) - 1
    if not items:
        raise UserError(f"--data {source}: {_no_items(len(corpus.labels), n_known, skipped)}")
    return PieceSet(corpus.name, tuple(items), len(corpus.labels), tuple(skipped), n_known)


def item_of(name: str, ids: np.ndarray, path: Path | None, tokenizer: Tokenizer) -> Item:
    """A piece with what its tokens hold, and what its file does."""
    seen = decoded(ids, tokenizer)
    held = count_midi(seen) if isinstance(seen, MidiFile) else Amount()
    if tokenizer.unit != "note":
        held = Amount(tokenizer.units(ids), held.seconds)
        return Item(name, ids, held, held, seen)
    in_file = None if path is None else count_midi(open_midi(path, ANY_SIZE))
    return Item(name, ids, held, in_file, seen)


def _no_items(n: int, n_known: int, skipped: list[tuple[str, str]]) -> str:
    """Say why none of n files can be used."""
    if n_known == n:
        return f"the model was trained on all files in it ({n})"
    why = f"; the first, {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
    learned = f" (training files of the model among them: {n_known})" if n_known else ""
    return f"none of {counted(n, 'file')} can be used{learned}{why}"


def _original(data: PreparedData, piece: StoredPiece) -> Path | None:
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
