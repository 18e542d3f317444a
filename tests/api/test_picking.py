"""Alternatives: the likeliest are so by another count, and the most different share the least."""

import numpy as np
import pytest
from making import write_model, write_song

from seqgen.api.model import load
from seqgen.api.picking import Picking, file_notes, furthest
from seqgen.decoding.search import best_of
from seqgen.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_model(folder)
    return load(folder, decoder="reference")


def same(pieces, others):
    return all(np.array_equal(a.tokens, b.tokens) for a, b in zip(pieces, others, strict=True))


def test_the_likeliest_are_those_of_all_with_the_fewest_nats_per_note(model):
    options = {"max_tokens": 40, "seed": 3}
    drawn = model.generate(samples=6, **options)
    kept = model.generate(samples=2, alternatives=6, **options)
    start = model.tokenizer.vocabulary.special_token(model.tokenizer.vocabulary.bos_id)[None]
    found = best_of(model.decoder, start, 6, max_tokens=40, seed=3)
    nats = {
        one.tokens.tobytes(): -one.log_likelihood / max(model.tokenizer.units(one.tokens), 1)
        for one in found
    }
    drawn.sort(key=lambda piece: nats[piece.tokens.tobytes()])
    assert same(kept, drawn[:2])


def test_the_most_different_share_the_fewest_notes():
    a, b, c = (frozenset((0, float(k), 60) for k in range(n, n + 4)) for n in (0, 1, 8))
    assert furthest([a, b, c], [], 1) == [2]
    assert furthest([a, b, c], [], 2) == [2, 0]
    assert furthest([a, b], [b], 2) == [0, 1]
    assert furthest([a, a], [a], 5) == [0, 1]


def test_the_most_different_of_a_prompt_are_chosen_from_its_own_alternatives(model, tmp_path):
    song = write_song(tmp_path / "song.mid")
    options = {"prompt_bars": 2, "max_tokens": 60, "seed": 5}
    drawn = model.generate(song, samples=5, **options)
    kept = model.generate(song, samples=3, alternatives=5, pick="most-different", **options)
    notes = [file_notes(piece.save(tmp_path / f"{i}.mid")) for i, piece in enumerate(drawn)]
    assert same(kept, [drawn[i] for i in furthest(notes, [], 3)])


@pytest.mark.parametrize(
    ("pick", "n", "of", "said"),
    [
        ("best", 1, 3, "must be one of asked, likeliest, most-different"),
        ("likeliest", 4, 3, "draw as many alternatives or more"),
    ],
)
def test_impossible_choices_are_refused(pick, n, of, said):
    with pytest.raises(UserError, match=said):
        Picking(pick, n, of)
