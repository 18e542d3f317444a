"""The tables say what the vocabulary says."""

import numpy as np
import pytest
from sampling_cases import grammatical

from seqgen.sampling.rules import Rules


@pytest.mark.parametrize("has_unit", [False, True])
def test_tables_equal_the_vocabulary_after_every_id(has_unit):
    v = grammatical()
    rules = Rules.of(v, device="cpu")
    ids = np.arange(v.sizes[0])
    expected = v.allowed(ids[:, None], has_unit=np.full(len(ids), has_unit))
    assert np.array_equal(rules.allowed[rules.last_group, int(has_unit), : len(ids)], expected)
    assert rules.completes_unit.tolist() == v.grammar.completes_unit.tolist()


def test_free_streams_draw_all_but_bos_and_pad():
    v = grammatical()
    free = Rules.of(v, device="cpu").allowed[0, :, : v.sizes[0]]
    assert not free[:, [v.bos_id, v.pad_id]].any()
    assert free.sum(1).tolist() == [v.sizes[0] - 2] * 2


def test_later_fields_hold_no_special_id(toy_vocabulary):
    allowed = Rules.of(toy_vocabulary, device="cpu").allowed
    for start, size in ((12, 20), (32, 9)):
        assert not allowed[..., start : start + 3].any()
        assert allowed[..., start + 3 : start + size].all()
