"""A grid tells what each voice sounds in each step, from the first note on, in any key."""

import numpy as np
import pytest

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.midi import Instrument, MidiFile, Note, open_midi
from seqgen.tokenizers import Shift, build_tokenizer
from seqgen.tokenizers.grid import BOS, EOS, FIRST, PITCHES, SILENT, voices_to_midi

GRID = np.array([[72, 67, 64, -1], [72, 67, -1, 48], [74, 67, -1, 50], [74, 67, -1, 50]])


def grid_tokenizer(**settings):
    return build_tokenizer(TokenizerConfig(type="grid", **settings), LimitsConfig())


@pytest.fixture
def tokenizer():
    return grid_tokenizer()


def write(path, *parts):
    """Write a piece of parts, each a list of (pitch, first sixteenth, end)."""
    midi = MidiFile(ticks_per_beat=480)
    midi.instruments = [
        Instrument(0, notes=[Note(80, pitch, 120 * a, 120 * b) for pitch, a, b in part])
        for part in parts
    ]
    midi.dump(str(path))
    return path


@pytest.fixture
def chorale(tmp_path):
    """GRID as a file, which begins after three beats."""
    return write(
        tmp_path / "chorale.mid",
        [(72, 12, 14), (74, 14, 16)],
        [(67, 12, 16)],
        [(64, 12, 13)],
        [(48, 13, 14), (50, 14, 16)],
    )


def pitches(ids):
    cells = ids[:, 1] - FIRST
    return np.where(cells == PITCHES, SILENT, cells).reshape(-1, 4)


def test_a_cell_is_what_a_voice_sounds_from_the_first_note_on(tokenizer, chorale):
    ids = tokenizer.encode(chorale)
    np.testing.assert_array_equal(pitches(ids), GRID)
    np.testing.assert_array_equal(ids[:, 0], FIRST + np.arange(16))
    assert tokenizer.units(ids) == GRID.size


def test_places_begin_again_with_each_bar_of_four_beats(tmp_path):
    tokenizer = grid_tokenizer(positions_per_beat=1)
    voice = [(60, 0, 4 * 6)]  # six beats
    ids = tokenizer.encode(write(tmp_path / "a.mid", voice, voice, voice, voice))
    np.testing.assert_array_equal(ids[:, 0] - FIRST, np.arange(24) % 16)


def test_pitches_are_transposed_and_silence_is_not(tokenizer, chorale):
    up, down = tokenizer.examine(chorale, [Shift(2), Shift(-50), Shift(-48)]).variants
    np.testing.assert_array_equal(pitches(up), np.where(GRID < 0, GRID, GRID + 2))
    np.testing.assert_array_equal(pitches(down), np.where(GRID < 0, GRID, GRID - 48))


def test_steps_of_one_pitch_are_one_note_and_half_a_step_is_left_out(tmp_path, tokenizer, chorale):
    ids = tokenizer.encode(chorale)
    tokenizer.decode(ids[:-2], tmp_path / "b.mid", tempo=75)
    midi = open_midi(tmp_path / "b.mid", LimitsConfig())
    voices = [[(n.pitch, n.start // 120, n.end // 120) for n in t.notes] for t in midi.instruments]
    assert voices == [
        [(72, 0, 2), (74, 2, 3)],
        [(67, 0, 3)],
        [(64, 0, 1)],
        [(48, 1, 2), (50, 2, 3)],
    ]
    assert round(midi.tempo_changes[0].tempo) == 75


def test_a_written_grid_is_read_as_it_was(tmp_path, tokenizer):
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 128, (40, 4))
    grid[1:-1][rng.random((38, 4)) < 0.3] = SILENT
    path = tmp_path / "a.mid"
    voices_to_midi(grid, per_beat=4).dump(str(path))
    np.testing.assert_array_equal(pitches(tokenizer.encode(path)), grid)


def test_the_grammar_leaves_one_place_and_ends_after_whole_steps_only(tokenizer, chorale):
    v = tokenizer.vocabulary
    ids = np.concatenate([v.special_token(BOS)[None], tokenizer.encode(chorale)])
    for t, token in enumerate(ids):
        allowed = np.flatnonzero(v.allowed(token[None], has_unit=np.array([t >= 4]))[0])
        follows = {FIRST + t % 64} | ({EOS} if t and t % 4 == 0 else set())
        assert set(allowed) == follows


def test_time_is_counted_in_steps_and_bars_of_four_beats(tokenizer):
    clock = tokenizer.clock(tempo=60)
    assert (clock.bars, clock.quarters, clock.seconds) == (0, 0, 0)
    for place in [*range(64), 0]:
        clock.feed(np.array([FIRST + place, FIRST]))
    assert (clock.bars, clock.quarters, clock.bar_start, clock.seconds) == (2, 4, 4, 4)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([[(60, 0, 4)]] * 5, "it has 5 tracks, and a grid has 4 melodic voices"),
        ([[(60, 0, 4), (64, 2, 6)]], "track 1 sounds several notes at once"),
    ],
)
def test_what_is_no_grid_is_refused(tmp_path, tokenizer, parts, message):
    with pytest.raises(FileRejected, match=message):
        tokenizer.encode(write(tmp_path / "a.mid", *parts))


def test_drums_are_refused(tmp_path, tokenizer, chorale):
    midi = MidiFile(str(chorale))
    midi.instruments[3].is_drum = True
    midi.dump(str(tmp_path / "b.mid"))
    with pytest.raises(FileRejected, match="it has drums"):
        tokenizer.encode(tmp_path / "b.mid")


def test_notes_shorter_than_half_a_step_alone_are_refused(tmp_path):
    with pytest.raises(FileRejected, match="shorter than a step"):
        grid_tokenizer(positions_per_beat=1).encode(write(tmp_path / "a.mid", [(60, 0, 1)]))


def test_merges_are_refused():
    with pytest.raises(UserError, match="bpe_vocab_size"):
        grid_tokenizer(bpe_vocab_size=500)
