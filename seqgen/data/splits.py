"""Which source file is for training, validation or test: decided before any window is cut.

Legend: P pieces.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from seqgen.data.shards import HASH, SPLITS, TEST, TRAIN, VALIDATION, StoredPiece
from seqgen.tokenizers import Tokenizer

__all__ = [
    *("SPLITS", "TEST", "TRAIN", "VALIDATION"),
    *("assign", "content_hash", "cut", "split_of", "to_hashes"),
]


def content_hash(content: bytes) -> str:
    """Hash a file's content; copies of one file share it and so end in the same split."""
    return hashlib.sha256(content).hexdigest()


def split_of(file_hash: str, *, validation: float, test: float) -> str:
    """Assign a file by its hash alone: the same file is in the same split in every corpus."""
    hashes = np.array([bytes.fromhex(file_hash)], dtype=HASH)
    return SPLITS[_by_hash(hashes, validation=validation, test=test)[0]]


def assign(hashes: np.ndarray, *, validation: float, test: float) -> np.ndarray:
    """Assign files to splits, with at least one distinct file to train on and one to hold out.

    In a small corpus the stable rule may leave training or validation empty; then the distinct
    file with the lowest hash of the fullest split moves. With one distinct file all is training:
    its tokens are to be cut instead.

    Args:
        hashes: of the files' content [P].

    Returns:
        numbers in SPLITS [P].
    """
    if (hashes == hashes[0]).all():
        return np.zeros(len(hashes), dtype=np.uint8)
    splits = _by_hash(hashes, validation=validation, test=test)
    _fill(hashes, splits, TRAIN)
    if validation > 0:
        _fill(hashes, splits, VALIDATION)
    return splits


def _by_hash(hashes: np.ndarray, *, validation: float, test: float) -> np.ndarray:
    """Return numbers in SPLITS [P]: the first 52 bits of a hash are its place in [0, 1)."""
    places = (np.ascontiguousarray(hashes).view(">u8")[::4] >> 12) / 2**52
    held_out = np.where(places < validation, SPLITS.index(VALIDATION), SPLITS.index(TEST))
    is_held_out = places < validation + test
    return np.where(is_held_out, held_out, SPLITS.index(TRAIN)).astype(np.uint8)


def _fill(hashes: np.ndarray, splits: np.ndarray, wanted: str) -> None:
    """Move one file, with its copies, to a split that has none."""
    if (splits == SPLITS.index(wanted)).any():
        return
    members = {split: np.unique(hashes[splits == i]) for i, split in enumerate(SPLITS)}
    # With as many in each, the test split gives: it is the one that may stay empty.
    fullest = max(members, key=lambda split: (len(members[split]), split == TEST))
    splits[hashes == members[fullest][0]] = SPLITS.index(wanted)


def cut(
    piece: StoredPiece, tokens: np.ndarray, tokenizer: Tokenizer, shares: dict[str, float]
) -> Iterator[StoredPiece]:
    """Cut a piece of a corpus of one: its beginning is for training, its end is held out.

    BOS and EOS stay with the first and last part: no part begins or ends where the piece does not.
    """
    offset, length = piece.variants[0]
    n_validation, n_test = (int((length - 2) * shares[split]) for split in SPLITS[1:])
    stops = [length - n_validation - n_test, length - n_test, length]
    start = 0
    for split, stop in zip(SPLITS, stops, strict=True):
        if stop - start >= 2:  # one token to see, one to predict
            ends = (tokens[offset : offset + end] for end in (start, stop))
            before, after = (tokenizer.units(ids) for ids in ends)
            name = f"{piece.file} tokens {start}-{stop} of {length}"
            place = ((offset + start, stop - start),)
            yield StoredPiece(name, split, piece.file_hash, after - before, place)
        start = stop
