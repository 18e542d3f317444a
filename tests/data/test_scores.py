from fractions import Fraction

from seqgen.data.scores import lay_out_bars

COMMON, TRIPLE = (4, 4), (3, 4)


def lay_out(*measures):
    rest, meters = lay_out_bars([(Fraction(length), meter) for length, meter in measures])
    return float(rest), [(tick / 480, *meter) for tick, *meter in meters]


def test_a_pickup_gets_the_rest_that_fills_its_bar():
    assert lay_out((1, COMMON), (4, COMMON), (3, COMMON)) == (3, [(0, 4, 4)])


def test_a_bar_divided_by_a_repeat_sign_is_one_bar():
    assert lay_out((4, COMMON), (3, COMMON), (1, COMMON), (4, COMMON)) == (0, [(0, 4, 4)])


def test_a_bar_that_ends_in_the_pickup_of_a_new_meter_is_one_bar():
    assert lay_out((4, COMMON), (3, COMMON), (1, TRIPLE), (3, TRIPLE)) == (
        0,
        [(0, 4, 4), (8, 3, 4)],
    )


def test_after_a_short_bar_the_next_one_starts_on_a_bar_line():
    assert lay_out((4, COMMON), (3, COMMON), (4, COMMON)) == (
        0,
        [(0, 4, 4), (4, 3, 4), (7, 4, 4)],
    )


def test_an_overlong_measure_becomes_several_bars():
    assert lay_out((10, COMMON), (4, COMMON)) == (0, [(0, 4, 4), (8, 2, 4), (10, 4, 4)])
