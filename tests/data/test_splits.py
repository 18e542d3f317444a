"""The split of a file follows from its content alone."""

import numpy as np

from seqgen.data import splits
from seqgen.data.shards import HASH
from seqgen.data.splits import SPLITS, TEST, TRAIN, VALIDATION, content_hash, split_of


def hashes(n):
    return [content_hash(str(i).encode()) for i in range(n)]


def assign(hashes, **shares):
    found = splits.assign(np.array([bytes.fromhex(h) for h in hashes], dtype=HASH), **shares)
    return [SPLITS[number] for number in found]


def test_shares_are_about_as_asked():
    found = assign(hashes(3000), validation=0.1, test=0.2)
    assert abs(found.count(VALIDATION) / 3000 - 0.1) < 0.02
    assert abs(found.count(TEST) / 3000 - 0.2) < 0.03


def test_a_file_keeps_its_split_when_others_come_and_go():
    many = hashes(300)
    before = dict(zip(many, assign(many, validation=0.1, test=0.1), strict=True))
    after = dict(zip(many[::2], assign(many[::2], validation=0.1, test=0.1), strict=True))
    assert all(before[h] == split for h, split in after.items())


def test_copies_share_a_split():
    many = hashes(40) * 2
    found = assign(many, validation=0.3, test=0.3)
    assert found[:40] == found[40:]


def test_a_small_corpus_still_trains_and_validates():
    many = hashes(300)
    for n in range(2, 6):
        for i in range(len(many) - n):
            found = assign(many[i : i + n], validation=0.4, test=0.4)
            assert TRAIN in found
            assert VALIDATION in found


def test_nothing_is_held_out_when_nothing_is_asked():
    assert set(assign(hashes(50), validation=0.0, test=0.0)) == {TRAIN}


def test_one_distinct_file_is_for_training():
    assert assign(hashes(1) * 3, validation=0.1, test=0.1) == [TRAIN] * 3


def test_the_rule_is_pinned():
    assert split_of("0" * 64, validation=0.1, test=0.1) == VALIDATION
    assert split_of("2" + "0" * 63, validation=0.1, test=0.1) == TEST
    assert split_of("f" * 64, validation=0.1, test=0.1) == TRAIN
