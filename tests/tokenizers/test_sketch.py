"""A sketch of a file knows its notes, but not how they are written."""

import numpy as np
from making import TICKS, write_song

from seqgen.midi import MidiFile, Note, open_midi
from seqgen.tokenizers.midi.sketch import sketch_of


def test_another_key_and_a_later_beginning_add_one_number_to_all(tmp_path):
    path = write_song(tmp_path / "a.mid")
    first = sketch_of(open_midi(path))
    midi = open_midi(path)
    for track in midi.instruments:
        track.notes = [Note(9, n.pitch + 5, n.start + TICKS, n.end + TICKS) for n in track.notes]
    second = sketch_of(midi)
    np.testing.assert_array_equal(first.grams, second.grams)
    moves = np.concatenate([second.points - first.points, second.starts - first.starts])
    assert len(set(moves.tolist())) == 1


def test_runs_of_a_track_are_among_those_of_the_file(tmp_path):
    midi = open_midi(write_song(tmp_path / "a.mid"))
    whole = sketch_of(midi)
    for track in midi.instruments:
        alone = MidiFile(ticks_per_beat=midi.ticks_per_beat)
        alone.instruments = [track]
        part = sketch_of(alone)
        assert np.isin(part.points, whole.points).all()
        assert np.isin(part.grams, whole.grams).sum() >= len(track.notes) - 7


def test_sketches_are_the_same_everywhere(tmp_path):
    sketch = sketch_of(open_midi(write_song(tmp_path / "a.mid", seed=1)))
    assert (sketch.points.dtype, sketch.grams.dtype) == (np.int32, np.uint32)
    assert (np.diff(sketch.points) > 0).all()
    assert (np.diff(sketch.grams.astype(np.int64)) > 0).all()
