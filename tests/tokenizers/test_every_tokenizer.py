"""What the rest of seqgen relies on holds for every tokenizer that a configuration accepts."""

import numpy as np
import pytest
from making import write_song

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.tokenizers import TYPES, Shift, build_tokenizer, load_tokenizer
from seqgen.tokenizers.pixels import png


@pytest.fixture(params=TYPES)
def tokenizer(request):
    return build_tokenizer(TokenizerConfig(type=request.param), LimitsConfig())


@pytest.fixture
def path(tmp_path, tokenizer):
    """A file that the tokenizer reads: a song, an image, or for all others a text."""
    path = tmp_path / f"a{tokenizer.suffix}"
    if tokenizer.kind == "music":
        return write_song(path)
    if tokenizer.kind == "images":
        pixels = np.arange(28 * 28) % 256
        path.write_bytes(png(pixels.astype(np.uint8).reshape(28, 28, 1)))
        return path
    path.write_text("a plain text\nof two lines\n")
    return path


def test_ids_are_in_the_vocabulary_and_none_is_special(tokenizer, path):
    ids, vocabulary = tokenizer.encode(path), tokenizer.vocabulary
    assert ids.dtype == np.int64
    assert ids.shape == (len(ids), len(vocabulary.fields))
    assert len(ids) >= tokenizer.units(ids) > 0
    assert (ids >= 0).all()
    assert (ids < vocabulary.sizes).all()
    assert not np.isin(ids[:, 0], vocabulary.special_ids).any()
    assert len(tokenizer.names()) == vocabulary.sizes[0]


def test_a_written_file_is_read_as_the_ids_it_was_written_from(tmp_path, tokenizer, path):
    vocabulary = tokenizer.vocabulary
    bos, eos = (vocabulary.special_token(i)[None] for i in (vocabulary.bos_id, vocabulary.eos_id))
    written = tmp_path / f"b{tokenizer.suffix}"
    tokenizer.decode(np.concatenate([bos, tokenizer.encode(path), eos]), written)
    assert np.array_equal(tokenizer.encode(written), tokenizer.encode(path))


def test_no_shift_changes_nothing(tokenizer, path):
    [ids] = tokenizer.examine(path, [Shift()]).variants
    assert np.array_equal(ids, tokenizer.encode(path))
    assert np.array_equal(tokenizer.merge(ids), ids)


def test_a_loaded_tokenizer_is_the_one_that_was_saved(tmp_path, tokenizer, path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.config == tokenizer.config
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert np.array_equal(loaded.encode(path), tokenizer.encode(path))


def test_tokenizers_differ_in_their_fingerprints():
    made = [build_tokenizer(TokenizerConfig(type=type), LimitsConfig()) for type in TYPES]
    assert len({tokenizer.fingerprint() for tokenizer in made}) == len(TYPES)


def test_each_note_is_told_by_tokens_of_which_one_names_its_pitch(tokenizer, path):
    if not tokenizer.is_music:
        assert tokenizer.told_notes(tokenizer.encode(path)) is None
        return
    ids = tokenizer.encode(path)
    midi = tokenizer.played(ids)
    played = [
        (round(note.start / midi.ticks_per_beat, 3), note.pitch)
        for track in midi.instruments
        for note in track.notes
    ]
    told = tokenizer.told_notes(ids)
    assert sorted((round(note.start, 3), note.pitch) for note in told) == sorted(played)
    for note in told:
        assert note.at in note.tokens
        name = tokenizer.names(note.field)[ids[note.at, note.field]]
        assert name.endswith(f"_{note.pitch}")
