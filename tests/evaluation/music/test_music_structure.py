"""Loops and returns are seen; music that goes on is not called a loop."""

import random

import pytest
from small_pieces import piece, repeated, shifted

from seqgen.evaluation.music.definitions import measure
from seqgen.midi import MidiFile


def wandering(n_quarters: int, seed: int = 0) -> list[tuple[float, float, int]]:
    """A melody of eighths that does not repeat itself."""
    rng = random.Random(seed)
    return [(i / 2, 0.5, rng.randrange(50, 90)) for i in range(2 * n_quarters)]


def cycles(*tracks, **options) -> float:
    return measure(piece(*tracks, **options))["repeated_cycles"]


@pytest.mark.parametrize("period", [1, 3, 4, 5, 32])
def test_all_but_the_first_statement_of_a_loop_are_counted(period):
    loop = repeated(wandering(period), 160 // period, every=period)
    assert cycles(loop) == pytest.approx(1 - period / (160 // period * period))


def test_a_loop_of_broken_quarters_is_seen_at_a_multiple():
    loop = repeated([(0, 0.5, 60), (0.5, 0.5, 64), (1, 0.5, 67)], 40, every=1.5)
    assert cycles(loop) == pytest.approx(1 - 3 / 60)


def test_a_loop_is_seen_wherever_it_begins_and_whatever_was_before():
    loop = repeated(wandering(4, seed=1), 20, every=4)
    assert cycles(wandering(10) + shifted(loop, by=10)) == pytest.approx(19 * 8 / 180)


def test_longer_cycles_and_music_that_goes_on_are_no_loops():
    assert cycles(repeated(wandering(33), 4, every=33)) == 0
    assert cycles(wandering(200)) == 0


def test_a_theme_that_returns_and_goes_elsewhere_is_no_loop():
    theme, answer, other = wandering(6), wandering(6, seed=1), wandering(6, seed=2)
    form = theme + shifted(answer, by=6) + shifted(theme, by=12) + shifted(other, by=18)
    assert cycles(form) == 0
    assert cycles(theme + shifted(theme, by=6) + shifted(other, by=12)) == pytest.approx(1 / 3)


def test_equal_chords_in_a_row_are_no_loop_before_they_fill_a_bar_again():
    def chords(n):
        return cycles([(i, 1, pitch) for i in range(n) for pitch in (60, 64, 67)] + [(n, 1, 59)])

    assert chords(4) == 0
    assert chords(5) == pytest.approx(12 / 16)


def test_one_voice_that_goes_on_breaks_the_loop_of_another():
    bass = repeated([(0, 4, 36)], 10, every=4)
    assert cycles(bass, wandering(40)) == 0
    assert cycles(bass) == 0.9


def test_loops_of_drums_count_like_any_other():
    assert cycles([], drums=repeated([(0, 0.5, 36), (2.5, 0.5, 38)], 10, every=4)) == 0.9


def test_similarity_of_bars_is_what_they_share_over_what_either_has():
    # Bars of three onsets, of which the second and third have two in common.
    first = [(0, 1, 60), (1, 1, 62), (2, 1, 64)]
    second = [(4, 1, 72), (5, 1, 62), (6, 1, 65)]  # the C an octave higher is the same class
    found = measure(piece([*first, *second], drums=[(0, 1, 36)]))
    assert found["bar_similarity_1"] == pytest.approx(2 / 4)
    assert found["bar_similarity_2"] is None


def test_similarity_at_a_lag_finds_the_bar_that_returns():
    verse = wandering(4, seed=1) + shifted(wandering(4, seed=2), by=4)
    found = measure(piece(repeated(verse, 4, every=8)))
    assert found["bar_similarity_2"] == found["bar_similarity_4"] == 1.0
    assert found["bar_similarity_1"] < 0.3


def test_a_pair_of_empty_bars_says_nothing_and_an_empty_one_is_unlike_any():
    found = measure(piece([(0, 4, 60), (12, 4, 60)]))  # bars: C, empty, empty, C
    assert found["bar_similarity_1"] == 0.0
    assert measure(piece([(0, 16, 60)]))["bar_similarity_2"] == 0.0


def test_bars_heard_before_are_equal_in_pitch_and_place():
    a, b = wandering(4, seed=1), wandering(4, seed=2)
    form = a + shifted(b, by=4) + shifted(a, by=8) + shifted(b, by=16)  # a b a - b
    assert measure(piece(form))["recurring_bars"] == pytest.approx(2 / 4)
    octave = a + [(start + 4, length, pitch - 12) for start, length, pitch in a]
    assert measure(piece(octave))["recurring_bars"] == 0.0
    assert measure(piece(octave))["bar_similarity_1"] == 1.0


def test_notes_played_a_little_off_the_grid_still_repeat():
    rng = random.Random(0)
    bars = repeated(wandering(4), 10, every=4)
    played = [(max(0, start + rng.uniform(-0.1, 0.1)), n, pitch) for start, n, pitch in bars]
    found = measure(piece(played, quarter=480))
    assert found["repeated_cycles"] == pytest.approx(0.9)
    assert found["recurring_bars"] == pytest.approx(0.9)


def test_very_long_pieces_are_measured_in_little_memory():
    midi = MidiFile(ticks_per_beat=480)
    midi.instruments = piece([(0, 1, 60), (400_000, 1, 60)], quarter=480).instruments[:1]
    assert measure(midi)["n_bars"] == 100_001


def test_notes_count_as_heard_before_where_their_own_track_has_played_the_bar():
    tune, bass = wandering(8), wandering(16, seed=1)
    found = measure(piece(tune + shifted(tune, by=8), bass))
    assert found["repeated_notes"] == pytest.approx(16 / 64)
    assert found["repeat_distances"][1] == 1  # two bars back
    assert measure(piece(bass))["repeated_notes"] == 0
    assert measure(piece(bass))["repeat_distances"] is None


def test_repeats_are_shared_out_by_distance():
    bars = {name: wandering(4, seed=i) for i, name in enumerate("ABCDEF")}
    tune = [n for i, name in enumerate("AABCDEFA") for n in shifted(bars[name], by=4 * i)]
    distances = measure(piece(tune))["repeat_distances"]
    assert distances[0] == distances[4] == 0.5  # one bar back, and five to seven
    assert sum(distances) == 1
