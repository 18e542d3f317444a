"""Which source file is for training, validation or test: decided before any window is cut."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

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
