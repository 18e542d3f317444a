"""Which source file is for training, validation or test: decided before any window is cut."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from seqgen.data.shards import Piece
from seqgen.tokenizers import Tokenizer

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


def content_hash(content: bytes) -> str:
    """Hash a file's content; copies of one file share it and so end in the same split."""
    return hashlib.sha256(content).hexdigest()


def split_of(file_hash: str, *, validation: float, test: float) -> str:
    """Assign a file by its hash alone: the same file is in the same split in every corpus."""
    place = int(file_hash[:13], 16) / 16**13
    if place < validation:
        return VALIDATION
    return TEST if place < validation + test else TRAIN


def assign(hashes: Sequence[str], *, validation: float, test: float) -> list[str]:
    """Assign files to splits, with at least one distinct file to train on and one to hold out.

    In a small corpus the stable rule may leave training or validation empty; then the distinct
    file with the lowest hash of the fullest split moves. With one distinct file all is training:
    its tokens are to be cut instead.
    """
    splits = {h: split_of(h, validation=validation, test=test) for h in hashes}
    if len(splits) > 1:
        _fill(splits, TRAIN)
        if validation > 0:
            _fill(splits, VALIDATION)
    else:
        splits = dict.fromkeys(splits, TRAIN)
    return [splits[h] for h in hashes]


def _fill(splits: dict[str, str], wanted: str) -> None:
    members = defaultdict(list)
    for file_hash, split in sorted(splits.items()):
        members[split].append(file_hash)
    if not members[wanted]:
        # With as many in each, the test split gives: it is the one that may stay empty.
        fullest = max(members, key=lambda split: (len(members[split]), split == TEST))
        splits[members[fullest][0]] = wanted


def split_pieces(
    pieces: list[Piece],
    groups: Sequence[str],
    tokens: np.ndarray,
    tokenizer: Tokenizer,
    shares: dict[str, float],
    *,
    published: Mapping[str, str],
) -> list[Piece]:
    """Give every piece its published split; of the others, those of one group the same.

    Where all are of one group, and none has a published split, each is cut into three parts
    instead.
    """
    if len(set(groups)) == 1 and not published:
        distinct = {piece.file_hash: piece for piece in reversed(pieces)}
        return [
            part for p in reversed(distinct.values()) for part in _cut(p, tokens, tokenizer, shares)
        ]
    others = [g for g, piece in zip(groups, pieces, strict=True) if piece.file not in published]
    assigned = dict(zip(others, assign(others, **shares), strict=True)) if others else {}
    splits = [
        published.get(piece.file) or assigned[group]
        for piece, group in zip(pieces, groups, strict=True)
    ]
    return [
        replace(piece, split=split, variants=piece.variants[: None if split == TRAIN else 1])
        for piece, split in zip(pieces, splits, strict=True)
    ]


def _cut(
    piece: Piece, tokens: np.ndarray, tokenizer: Tokenizer, shares: dict[str, float]
) -> list[Piece]:
    """Cut the only piece of a corpus: its beginning is for training, its end is held out.

    BOS and EOS stay with the first and last part: no part begins or ends where the piece does not.
    """
    offset, length = piece.variants[0]
    n_validation, n_test = (int((length - 2) * shares[split]) for split in SPLITS[1:])
    stops = [length - n_validation - n_test, length - n_test, length]
    parts, start = [], 0
    for split, stop in zip(SPLITS, stops, strict=True):
        if stop - start >= 2:  # one token to see, one to predict
            ends = (tokens[offset : offset + end] for end in (start, stop))
            before, after = (tokenizer.units(ids) for ids in ends)
            name = f"{piece.file} tokens {start}-{stop} of {length}"
            place = ((offset + start, stop - start),)
            parts.append(Piece(name, split, piece.file_hash, after - before, place))
        start = stop
    return parts
