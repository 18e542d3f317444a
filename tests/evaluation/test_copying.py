"""Legend: songs are lists of (start in ticks, pitch)."""

import json
import random

import numpy as np
import pytest

from seqgen.evaluation.copying import runs
from seqgen.evaluation.copying.limits import find_likeness, find_limits
from seqgen.evaluation.copying.material import note_material, token_material
from seqgen.evaluation.copying.report import find_copies
from seqgen.evaluation.copying.runs import SharedRuns, longest_matches, shared_runs
from seqgen.midi import Instrument, MidiFile, Note, TempoChange, TimeSignature

TICKS = 480


def random_song(seed, *, n_bars=12):
    """Two voices on a grid of quavers, some of them silent."""
    rng = random.Random(seed)
    song = []
    for quaver in range(8 * n_bars):
        song += [(quaver * TICKS // 2, rng.randint(60, 80))] * (rng.random() < 0.8)
        song += [(quaver * TICKS // 2, rng.randint(40, 55))] * (rng.random() < 0.5)
    return song


def runs_of(piece, *training):
    (runs,) = shared_runs(training, [piece])
    return runs


def midi_of(song, *, transpose=0, ticks=TICKS, tempo=120, n_tracks=1):
    """Write a song as a file in memory, its notes dealt out to some tracks."""
    midi = MidiFile(ticks_per_beat=ticks)
    midi.tempo_changes = [TempoChange(tempo, 0)]
    midi.instruments = [Instrument(program, name="") for program in range(n_tracks)]
    for i, (start, pitch) in enumerate(song):
        start = start * ticks // TICKS
        note = Note(80, pitch + transpose, start, start + ticks // 2)
        midi.instruments[i % n_tracks].notes.append(note)
    return midi


def notes(name, song, **changes):
    return note_material(name, midi_of(song, **changes))


def altered(song, *, share, seed):
    rng = random.Random(seed)
    return [(start, pitch + 6 * (rng.random() < share)) for start, pitch in song]


def with_excerpt(song, excerpt, *, after_bars):
    """A song with bars of another one put in between, a fourth higher."""
    cut, first = after_bars * 4 * TICKS, excerpt[0][0] // (4 * TICKS) * 4 * TICKS
    length = (excerpt[-1][0] - first) // (4 * TICKS) * 4 * TICKS + 4 * TICKS
    before = [note for note in song if note[0] < cut]
    inside = [(start - first + cut, pitch + 5) for start, pitch in excerpt]
    after = [(start + length, pitch) for start, pitch in song if start >= cut]
    return before + inside + after


def test_longest_run_equals_a_double_loop_over_pieces_of_several_fields():
    for seed in range(25):
        generator = np.random.default_rng(seed)
        pieces = [generator.integers(0, 2, (generator.integers(0, 15), 3)) for _ in range(5)]
        training = [token_material(str(i), piece) for i, piece in enumerate(pieces)]
        query = generator.integers(0, 3, (20, 3))
        runs = runs_of(token_material("query", query), *training)
        rows = query.tolist()
        parts = {
            tuple(map(tuple, piece.tolist()[i:j]))
            for piece in pieces
            for i in range(len(piece))
            for j in range(i + 1, len(piece) + 1)
        }
        found = [
            j - i
            for i in range(20)
            for j in range(i + 1, 21)
            if tuple(map(tuple, rows[i:j])) in parts
        ]
        assert runs.longest == max(found, default=0)
        for start, length, number, place in zip(
            runs.starts, runs.lengths, runs.pieces, runs.training_starts, strict=True
        ):
            source = training[number].symbols
            np.testing.assert_array_equal(
                query[start : start + length], source[place : place + length]
            )


def test_a_compound_token_is_one_symbol_and_all_its_fields_count():
    learned = token_material("a", np.array([[1, 2], [3, 4], [5, 6]]))
    runs = runs_of(token_material("b", np.array([[1, 2], [3, 4], [5, 7]])), learned)
    assert (runs.longest, runs.n_new) == (2, 3)
    assert runs_of(token_material("c", np.array([[2, 1], [9, 4]])), learned).longest == 0


def test_symbols_that_were_never_learned_are_equal_to_none():
    learned = token_material("a", np.array([1, 2, 3]))
    assert runs_of(token_material("b", np.array([9, 9, 0, 2**40, 2])), learned).longest == 1


def test_runs_do_not_cross_pieces():
    learned = [token_material("a", np.array([1, 2])), token_material("b", np.array([3, 4]))]
    runs = runs_of(token_material("c", np.array([1, 2, 3, 4])), *learned)
    assert runs.lengths.tolist() == [2, 2]
    assert runs.pieces.tolist() == [0, 1]


@pytest.mark.parametrize(
    "changes",
    [{"transpose": -7}, {"ticks": 96}, {"tempo": 61.5}, {"n_tracks": 3}],
    ids=lambda changes: next(iter(changes)),
)
def test_note_steps_do_not_depend_on(changes):
    song = random_song(0)
    np.testing.assert_array_equal(notes("a", song, **changes).symbols, notes("b", song).symbols)


def test_note_steps_survive_quantisation_and_a_later_beginning():
    song = random_song(0)
    rng = random.Random(1)
    moved = [(start + rng.randint(-50, 50) + 6 * TICKS, pitch) for start, pitch in song]
    np.testing.assert_array_equal(notes("a", moved).symbols, notes("b", song).symbols)


def test_drums_and_doubled_notes_are_left_out():
    song = random_song(0)
    midi = midi_of(song + song[10:20], n_tracks=2)
    midi.instruments.append(Instrument(0, is_drum=True))
    midi.instruments[-1].notes = [Note(90, 38, start, start + 10) for start, _ in song]
    np.testing.assert_array_equal(note_material("a", midi).symbols, notes("b", song).symbols)


def test_bars_follow_time_signatures():
    midi = midi_of([(beat * TICKS, 60) for beat in range(8)])
    assert note_material("a", midi).bars.tolist() == [1] * 4 + [2] * 4
    midi.time_signature_changes = [TimeSignature(3, 4, 0)]
    assert note_material("a", midi).bars.tolist() == [1] * 3 + [2] * 3 + [3] * 2


def test_pieces_of_no_note_and_of_one_share_nothing():
    song = random_song(0)
    training = [notes("song", song), notes("none", []), notes("one", song[:1])]
    generated = [notes("none", []), notes("one", song[:1])]
    report = find_copies(generated, [], training)
    found = [(p["n_units"], p["longest"], p["closest"]) for p in report["generated"]["pieces"]]
    assert found == [(0, 0, None), (1, 0, None)]
    assert runs_of(generated[1], *training[1:]).longest == 0


def test_repeated_notes_are_not_fresh():
    pulse = notes("pulse", [(i * TICKS, 60) for i in range(40)])
    runs = runs_of(pulse, pulse)
    assert (runs.longest, runs.fresh.tolist()) == (40, [5])
    song = notes("song", random_song(3))
    runs = runs_of(song, song)
    assert runs.fresh.tolist() == [runs.longest] == [song.n_units]


def test_coverage_counts_each_unit_once_and_long_runs_only():
    starts, lengths = np.array([0, 3, 8]), np.array([5, 4, 2])
    is_new = np.ones(10, dtype=bool)
    runs = SharedRuns(is_new, starts, lengths, lengths, np.zeros(3), np.zeros(3))
    assert runs.coverage(4) == 0.7
    assert runs.coverage(2) == 0.9
    assert runs.coverage(6) == 0.0
    is_new[:5] = False
    assert runs.coverage(4) == 0.4
    is_new[:] = False
    assert runs.coverage(4) == 0.0


def test_what_a_piece_repeats_counts_once():
    copied, own = random_song(1, n_bars=4), random_song(2, n_bars=8)
    length = 4 * 4 * TICKS

    def later(song, n):
        return [(start + n * length, pitch) for start, pitch in song]

    once = notes("once", copied + later(own, 1))
    often = notes(
        "often", copied + [x for i in (1, 2, 3) for x in later(copied, i)] + later(own, 4)
    )
    training = [notes("song", copied + later(random_song(3), 1))]
    for piece in (once, often):
        runs = runs_of(piece, *training)
        assert runs.n_new == pytest.approx(once.n_units, abs=8)
        assert runs.coverage(32) == pytest.approx(len(copied) / once.n_units, abs=0.05)
        assert find_likeness(training, piece, runs).share < 0.5


def test_an_excerpt_is_found_with_its_name_and_place():
    songs = [random_song(seed) for seed in range(30)]
    training = [notes(f"song {seed}", song) for seed, song in enumerate(songs)]
    excerpt = [note for note in songs[17] if 4 <= note[0] // (4 * TICKS) < 9]
    mixed = with_excerpt(random_song(99), excerpt, after_bars=3)
    held_out = [notes("held", random_song(100 + seed)) for seed in range(25)]
    [piece] = find_copies([notes("mixed", mixed)], held_out, training)["generated"]["pieces"]
    here, there = piece["here"], piece["there"]
    assert piece["exceeded"] == ("run",)
    assert piece["closest"] == there["name"] == "song 17"
    assert (here["bars"], there["bars"]) == ((4, 8), (5, 9))
    first = songs[17].index(excerpt[0])
    assert abs(there["first"] - 1 - first) <= 1  # a note beside it may fit by chance
    assert abs(piece["longest"] - len(excerpt)) <= 2


@pytest.mark.parametrize("n_held_out", [0, 5, 30])
def test_copies_are_flagged_and_real_pieces_are_not(n_held_out):
    songs = [random_song(seed) for seed in range(30)]
    training = [notes(f"song {seed}", song) for seed, song in enumerate(songs)]
    held_out = [notes("held", random_song(100 + seed)) for seed in range(n_held_out)]
    copies = [notes(str(i), songs[i], transpose=i % 11 - 5, ticks=220) for i in range(10)]
    edited = [notes(str(i), altered(songs[i], share=0.1, seed=i), transpose=3) for i in range(10)]
    others = [notes("new", random_song(200 + seed)) for seed in range(20)]
    report = find_copies([*copies, *edited, *others], held_out, training)
    pieces = report["generated"]["pieces"]
    assert all(piece["is_copy"] for piece in pieces[:20])
    assert [piece["closest"] for piece in pieces[:20]] == 2 * [f"song {i}" for i in range(10)]
    others = [*pieces[20:], *report["held_out"]["pieces"]]
    assert not any(piece["is_copy"] for piece in others)


def test_likeness_finds_the_piece_below_many_changes():
    songs = [random_song(seed) for seed in range(10)]
    training = [notes(str(seed), song) for seed, song in enumerate(songs)]
    rng = random.Random(1)
    fewer = [note for note in songs[4] if rng.random() < 0.8]
    more = songs[4] + [(rng.randint(0, 95) * TICKS // 2, rng.randint(81, 90)) for _ in range(20)]
    for changed, share in (
        (altered(songs[4], share=0.15, seed=1), 0.85),
        (fewer, len(fewer) / len(songs[4])),
        (more, len(songs[4]) / len(more)),
    ):
        piece = notes("changed", changed, transpose=-2)
        found = find_likeness(training, piece, runs_of(piece, *training))
        assert (found.name, found.semitones) == ("4", -2)
        assert found.share == pytest.approx(share, abs=0.06)


def test_a_few_notes_of_a_piece_are_not_like_it():
    song = random_song(0)
    piece = notes("few", song[:6] + song[-6:])
    whole = notes("song", song)
    found = find_likeness([whole], piece, runs_of(piece, whole))
    assert found.share == pytest.approx(12 / len(song))


def test_a_few_real_pieces_that_the_corpus_holds_twice_hide_no_copy():
    songs = [random_song(seed) for seed in range(40)]
    training = [notes(f"song {seed}", song) for seed, song in enumerate(songs)]
    held_out = [notes("held", random_song(100 + seed)) for seed in range(38)]
    twice = [notes("twice", songs[seed], transpose=2) for seed in range(2)]
    copy = notes("copy", songs[5], transpose=1)
    report = find_copies([copy], [*held_out, *twice], training)
    assert report["generated"]["pieces"][0]["exceeded"] == ("run", "coverage", "likeness")
    flagged = [piece["name"] for piece in report["held_out"]["pieces"] if piece["is_copy"]]
    assert flagged == ["twice", "twice"]


def test_the_run_limit_is_the_outer_fence_of_the_held_out_runs():
    def runs(length):
        one = np.array([length])
        return SharedRuns(np.ones(1000, dtype=bool), np.zeros(1, dtype=int), one, one, one, one)

    lengths = [40] * 10 + [80] * 10 + [160] * 10
    limits = find_limits([runs(length) for length in lengths], [None] * 30)
    assert limits.run == pytest.approx(160 * 4**3)
    assert not limits.exceeded(runs(500), None)
    few = find_limits([runs(40)] * 4 + [runs(100)], [None] * 5)
    assert few.run == pytest.approx(150)


def test_token_copies_are_found_in_any_variant_of_a_training_piece():
    generator = np.random.default_rng(0)
    pieces = [generator.integers(0, 50, 300) for _ in range(20)]
    training = [
        token_material(f"piece {i}", piece + shift)
        for i, piece in enumerate(pieces)
        for shift in (0, 1, 2)
    ]
    held_out = [token_material("held", generator.integers(0, 50, 300)) for _ in range(20)]
    told = []
    report = find_copies(
        [token_material("copy", pieces[7] + 2)],
        held_out,
        training,
        progress=lambda *step: told.append(step),
    )
    [piece] = report["generated"]["pieces"]
    assert (piece["longest"], piece["closest"], piece["likeness"]) == (300, "piece 7", None)
    assert piece["exceeded"] == ("run", "coverage")
    assert (report["n_training"], report["n_training_units"]) == (20, 18000)
    assert told[59:61] == [
        ("copying: reading training pieces", 60, 60),
        ("copying: comparing pieces", 1, 21),
    ]


def test_the_record_is_plain_json_with_the_baseline_beside():
    songs = [random_song(seed) for seed in range(5)]
    training = [notes(f"song {seed}", song) for seed, song in enumerate(songs)]
    held_out = [notes("held", random_song(9))]
    report = find_copies([notes("copy", songs[2])], held_out, training)
    record = json.loads(json.dumps(report, allow_nan=False))
    copied = record["generated"]["pieces"][0]
    assert (copied["closest"], copied["is_copy"]) == ("song 2", True)
    assert record["generated"]["summary"]["longest"]["max"] == copied["longest"] == len(songs[2])
    assert record["held_out"]["summary"]["n_copies"] == 0
    assert record["limits"]["least"] == 32


def test_however_few_symbols_are_compared_at_a_time_the_same_runs_are_found(monkeypatch):
    generator = np.random.default_rng(0)
    training, pieces = (
        [token_material(str(i), generator.integers(0, 3, (n, 2))) for i, n in enumerate(sizes)]
        for sizes in ((30, 0, 500, 40, 300), (80, 0, 60))
    )
    whole = shared_runs(training, pieces)
    monkeypatch.setattr(runs, "MOST_SYMBOLS", 50)
    for a, b, piece in zip(whole, shared_runs(iter(training), pieces), pieces, strict=True):
        np.testing.assert_array_equal(
            (a.starts, a.lengths, a.fresh), (b.starts, b.lengths, b.fresh)
        )
        for start, length, number, place in zip(
            b.starts, b.lengths, b.pieces, b.training_starts, strict=True
        ):
            source = training[number].symbols[place : place + length]
            np.testing.assert_array_equal(piece.symbols[start : start + length], source)


def test_one_run_of_nearly_the_whole_piece_is_a_copy_however_short_it_is():
    songs = [random_song(seed) for seed in range(30)]
    training = [notes(f"song {seed}", song) for seed, song in enumerate(songs)]
    held_out = [notes(f"twice {seed}", songs[seed]) for seed in range(20)]  # all of them long
    short = notes("short", [note for note in songs[25] if note[0] < 3 * 4 * TICKS])
    short = token_material("short", short.symbols)
    training = [token_material(x.name, x.symbols) for x in training]
    held_out = [token_material(x.name, x.symbols) for x in held_out]
    report = find_copies([short], held_out, training)
    assert report["generated"]["pieces"][0]["exceeded"] == ("coverage",)
    assert all(piece["is_copy"] for piece in report["held_out"]["pieces"])


@pytest.mark.parametrize("seed", range(40))
def test_longest_matches_equal_a_double_loop(seed):
    rng = np.random.default_rng(seed)
    parts = [np.append(rng.integers(1, 2 + seed % 4, rng.integers(0, 20)), 0) for _ in range(5)]
    query = rng.integers(1, 3 + seed % 4, rng.integers(1, 30))
    learned = np.concatenate(parts)
    text = np.concatenate([learned, query, [0]]).astype(np.int32)
    lengths, places = longest_matches(text, len(learned))

    def shared(i, j):
        n = 0
        while i + n < len(text) and text[i + n] == text[j + n]:
            n += 1
        return n

    for i, (length, place) in enumerate(zip(lengths, places, strict=True), start=len(learned)):
        assert length == max(shared(i, j) for j in range(len(learned)))
        assert shared(i, place) == length
