"""Curves show the numbers they were given, at their places, and stay readable."""

import itertools

import numpy as np
import pytest

from seqgen.rendering.curves import Curve, draw_by_position, draw_loss_curves
from seqgen.rendering.theme import DARK


def line(figure, label):
    (found,) = [x for x in figure.axes[0].lines if x.get_label() == label]
    return found


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_curves_hold_their_numbers_and_the_best_is_named():
    figure = draw_loss_curves([Curve("validation", [10, 20, 30], [3.0, 1.234, 2.0])], best_step=20)
    assert line(figure, "validation").get_xydata().tolist() == [[10, 3], [20, 1.234], [30, 2]]
    assert "1.234" in texts(figure)
    assert figure.axes[0].get_ylabel() == "nats per token"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["validation"]


def test_training_is_smoothed_without_a_shift():
    y = np.linspace(5, 1, 1000) + np.tile([0.5, -0.5], 500)
    smooth = line(draw_loss_curves([Curve("t", range(1000), y, "training")]), "t").get_ydata()
    assert np.abs(np.diff(smooth[20:-20])).max() < 0.06  # 1 from batch to batch
    assert np.abs(smooth - np.linspace(5, 1, 1000))[10:-10].max() < 0.06


def test_references_are_levels_and_names_of_close_ones_do_not_touch():
    references = {"order 4": 1.001, "order 5": 1.0, "order 1": 3.0}
    figure = draw_loss_curves([Curve("v", [1, 2], [2.0, 1.5])], references=references)
    levels = sorted(x.get_ydata()[0] for x in figure.axes[0].lines if x.get_linestyle() == "--")
    assert levels == [1.0, 1.001, 3.0]
    figure.draw_without_rendering()
    names = [t for t in figure.axes[0].texts if t.get_text() in references]
    boxes = sorted((t.get_window_extent() for t in names), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


def test_positions_are_on_powers_of_two_with_a_rule_at_the_training_length():
    curves = [
        Curve("parallel", [64, 256, 1024], [2.0, 1.5, 1.6]),
        Curve("recurrent", [64, 256, 1024], [2.0, 1.5, 1.6], "recurrent"),
    ]
    figure = draw_by_position(curves, training_length=512, theme=DARK)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert [512, 512] in [list(x.get_xdata()) for x in axes.lines]
    assert line(figure, "recurrent").get_linestyle() == "None"  # rings on the other's line
    figure.draw_without_rendering()
    assert "256" in [label.get_text() for label in axes.get_xticklabels()]


@pytest.mark.parametrize("draw", [draw_loss_curves, draw_by_position])
def test_nothing_infinite_values_and_one_point_can_be_drawn(draw):
    assert "nothing to draw yet" in texts(draw([]))
    draw([Curve("a", [1, 2], [float("nan"), float("inf")])]).draw_without_rendering()
    figure = draw([Curve("a", [5], [2.0])])
    figure.draw_without_rendering()
    assert line(figure, "a").get_marker() == "o"  # a line of one point would not be seen


def test_an_unknown_role_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="role is 'best', accepted are model"):
        Curve("a", [1], [1], "best")
    with pytest.raises(ValueError, match="a has 2 x and 1 y"):
        Curve("a", [1, 2], [1])
