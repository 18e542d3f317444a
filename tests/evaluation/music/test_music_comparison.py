"""Sets against sets: distances by their formulas, and verdicts that tell noise from difference."""

import json
import random

import numpy as np
import pytest
from small_pieces import piece, repeated

from seqgen.evaluation.music.comparison import Measured, compare
from seqgen.evaluation.music.definitions import measure

EMPTY = measure(piece([]))


def tune(seed: int, *, bars: int = 10, loop: bool = False) -> Measured:
    """A piece in C; with `loop`, one bar of it again and again."""
    rng = random.Random(seed)
    scale = [60, 62, 64, 65, 67, 69, 71, 72]
    notes = [
        (
            start + rng.choice([0, 0, 0.25, 0.5]),
            rng.choice([0.5, 1.0]),
            rng.choice(scale[: rng.randint(3, 8)]),
        )
        for start in range(4 if loop else 4 * bars)
    ]
    return measure(piece(repeated(notes, bars, every=4) if loop else notes))


def noise(seed: int) -> Measured:
    rng = random.Random(seed)
    return measure(
        piece(
            [
                (rng.randrange(320) / 8, rng.randrange(1, 60) / 8, rng.randrange(21, 109))
                for _ in range(60)
            ]
        )
    )


def with_values(name: str, values) -> list[Measured]:
    return [EMPTY | {name: value} for value in values]


def named(comparisons: list[dict]) -> dict[str, dict]:
    return {comparison["name"]: comparison for comparison in comparisons}


def one(name: str, generated, data, **options) -> dict:
    found = compare(with_values(name, generated), with_values(name, data), **options)
    return named(found)[name]


@pytest.fixture(scope="module")
def data():
    return [tune(seed) for seed in range(60)]


def test_distance_of_numbers_is_wasserstein_in_deviations_of_the_data():
    # Sorted and paired, 2 against 1, 4 against 3: each is 1 away; the data deviate by 1.
    assert one("polyphony", [4.0, 2.0], [1.0, 3.0])["distance"] == pytest.approx(1.0)
    # Below 1 the distribution functions are 1/2 apart, from 1 to 3 a quarter.
    found = one("polyphony", [0.0, 0.0, 1.0, 3.0], [1.0, 3.0], resamples=10)
    assert found["distance"] == pytest.approx(0.5 * 1 + 0.25 * 2)


def test_wasserstein_equals_the_mean_difference_of_sorted_sets():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(1, 2, size=50)
    expected = np.abs(np.sort(a) - np.sort(b)).mean() / b.std()
    assert one("polyphony", a, b, resamples=10)["distance"] == pytest.approx(expected)
    assert one("polyphony", np.repeat(a, 3), b, resamples=10)["distance"] == pytest.approx(expected)


def test_distance_of_histograms_is_the_share_that_would_have_to_move():
    first, second = (1.0,) + (0.0,) * 11, (0.5, 0.5) + (0.0,) * 10
    found = one("pitch_class_histogram", [first, first], [first, second])
    assert found["distance"] == pytest.approx(0.25)
    assert found["real"]["mean"][:2] == pytest.approx((0.75, 0.25))


def test_data_without_spread_are_compared_in_the_spread_of_both():
    found = one("empty_bar_rate", [0.5, 0.5], [0.0, 0.0])
    assert found["distance"] == pytest.approx(2.0)
    assert one("empty_bar_rate", [0.0], [0.0, 0.0])["distance"] == 0.0


def test_more_of_the_same_is_not_beyond(data):
    found = compare([tune(seed) for seed in range(100, 140)], data, resamples=200)
    assert [c["name"] for c in found if c["verdict"] == "beyond"] == []
    others = {c["name"] for c in found if c["verdict"] != "within"}
    assert others == {"ended_by_itself", "repeat_distances"}  # these tunes repeat no bar


def test_noise_and_loops_are_beyond(data):
    found = named(compare([noise(seed) for seed in range(40)], data, resamples=200))
    for name in ("scale_consistency", "pitch_histogram", "duration_histogram", "bar_similarity_1"):
        assert found[name]["verdict"] == "beyond", name
    assert found["repeated_cycles"]["verdict"] == "within"
    loops = [tune(seed, loop=True) for seed in range(40)]
    found = named(compare(loops, data, resamples=200))
    for name in ("repeated_cycles", "recurring_bars", "bar_similarity_1", "groove_consistency"):
        assert found[name]["verdict"] == "beyond", name
    assert found["repeated_cycles"]["generated"]["mean"] == pytest.approx(0.9)


def test_intervals_hold_the_distance_and_narrow_with_more_pieces():
    rng = np.random.default_rng(1)
    wide = one("polyphony", rng.normal(1, 1, 10), rng.normal(0, 1, 10))
    narrow = one("polyphony", rng.normal(1, 1, 400), rng.normal(0, 1, 400))
    for found in (wide, narrow):
        low, high = found["interval"]
        assert low <= found["distance"] <= high
    assert (
        narrow["interval"][1] - narrow["interval"][0]
        < (wide["interval"][1] - wide["interval"][0]) / 2
    )
    assert narrow["baseline"][2] < wide["baseline"][2]


def test_verdicts_on_sets_from_one_source_are_seldom_beyond():
    rng = np.random.default_rng(2)
    verdicts = [
        one("polyphony", rng.normal(size=30), rng.normal(size=60), resamples=60)["verdict"]
        for _ in range(20)
    ]
    assert verdicts.count("beyond") <= 1
    assert one("polyphony", rng.normal(1, 1, 30), rng.normal(size=60))["verdict"] == "beyond"


def test_the_baseline_sets_aside_as_many_pieces_as_were_generated():
    assert one("polyphony", np.arange(5.0), np.arange(30.0))["baseline_pieces"] == 5
    assert one("polyphony", np.arange(50.0), np.arange(30.0))["baseline_pieces"] == 15
    # Of two pieces each is one against the other: the distance is theirs, in every split.
    found = one("polyphony", [1.0, 1.0], [0.0, 2.0])
    assert found["baseline"] == pytest.approx((2.0, 2.0, 2.0))


def test_the_same_seed_gives_the_same_numbers(data):
    generated = [tune(seed) for seed in range(200, 210)]
    first = compare(generated, data, seed=3, resamples=50)
    assert first == compare(generated, data, seed=3, resamples=50)
    assert first != compare(generated, data, seed=4, resamples=50)


def test_two_equal_sets_are_drawn_apart(data):
    found = named(compare(data, data, resamples=100))["pitch_entropy"]
    assert found["distance"] == 0.0
    assert found["interval"][1] > 0.1  # with the same draws for both it would be 0


@pytest.mark.parametrize("n_generated", [0, 1])
@pytest.mark.parametrize("n_data", [0, 1, 2])
def test_few_pieces_give_no_verdict(n_generated, n_data, data):
    found = compare(data[:n_generated], data[:n_data], resamples=20)
    assert {c["verdict"] for c in found} == {None}
    assert (found[0]["distance"] is None) == (n_generated == 0 or n_data == 0)
    json.dumps(found, allow_nan=False)


def test_pieces_without_a_value_are_left_out(data):
    generated = [EMPTY, *data[:10], EMPTY]
    found = named(compare(generated, [*data, EMPTY], resamples=50))
    assert found["pitch_entropy"]["generated"]["n_pieces"] == 10
    assert found["pitch_entropy"]["real"]["n_pieces"] == 60
    assert found["n_notes"]["generated"]["n_pieces"] == 12
    assert named(compare([EMPTY], data))["polyphony"]["generated"]["mean"] is None


def test_endings_are_told_without_data_to_compare_with(data):
    ended = [data[0] | {"ended_by_itself": flag} for flag in (True, True, False, True)]
    found = named(compare(ended, data, resamples=20))["ended_by_itself"]
    assert found["generated"]["mean"] == 0.75
    assert (found["real"]["mean"], found["distance"], found["verdict"]) == (None, None, None)


def test_comparisons_carry_their_definition(data):
    record = compare(data[:3], data, resamples=20)[-1]
    assert record["name"] == "repeated_cycles"
    assert "cycle" in record["meaning"]
    assert record["unit"] == "share of notes"
