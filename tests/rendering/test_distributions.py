"""Both sets stand in the same bins, as shares of their own size, and copies stand out."""

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from seqgen.rendering.distributions import Panel, draw_distributions, draw_runs


def steps(axes):
    return [patch.get_data() for patch in axes.patches if isinstance(patch, StepPatch)]


def test_bins_are_shared_and_shares_are_of_each_set():
    rng = np.random.default_rng(0)
    figure = draw_distributions([Panel("x", rng.normal(0, 1, 500), rng.normal(2, 1, 20))])
    data, generated = steps(figure.axes[0])
    np.testing.assert_array_equal(data.edges, generated.edges)
    assert data.values.sum() == pytest.approx(1)
    assert generated.values.sum() == pytest.approx(1)


@pytest.mark.parametrize("values", [[1, 2, 2, 5], list(range(20, 90))])
def test_whole_numbers_fall_between_edges(values):
    data, _ = steps(draw_distributions([Panel("x", values, values)]).axes[0])
    assert np.all(data.edges % 1 == 0.5)
    assert data.edges[0] < min(values)
    assert max(values) < data.edges[-1]
    assert data.values.sum() == pytest.approx(1)


def test_of_many_categories_those_that_have_a_name_are_named_wherever_they_are():
    names = [""] * 50
    names[7], names[19], names[31] = "C3", "C4", "C5"
    figure = draw_distributions([Panel("x", [0.02] * 50, [0.02] * 50, categories=names)])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["C3", "C4", "C5"]


def test_categories_are_bars_in_place_and_must_fit():
    names = list("CDEFGAB")
    shares = np.arange(7) / 21
    figure = draw_distributions([Panel("x", shares, shares[::-1], categories=names)])
    assert [bar.get_height() for bar in figure.axes[0].patches[:7]] == pytest.approx(shares)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == names
    with pytest.raises(ValueError, match="x: 2 shares of generated for 7 categories"):
        draw_distributions([Panel("x", shares, [1, 0], categories=names)])


@pytest.mark.parametrize(("data", "generated"), [([], []), ([3.0] * 4, []), ([0.5], [0.5, np.nan])])
def test_empty_and_constant_sets_can_be_drawn(data, generated):
    draw_distributions([Panel("x", data, generated)] * 4).draw_without_rendering()


def test_each_measure_has_a_panel_and_no_panel_is_left_over():
    figure = draw_distributions([Panel(f"m{i}", [1.0], [2.0]) for i in range(5)])
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown] == [f"m{i}" for i in range(5)]
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend[:2] == ["data", "generated"]


def test_runs_are_dots_with_medians_and_copies_are_named():
    figure = draw_runs([10, 12, 300], [8, 9, 11, 14], limit=64, names=["a", "b", "c"])
    dots = [x.get_xdata().tolist() for x in figure.axes[0].lines if x.get_marker() == "o"]
    assert dots == [[10, 12, 300], [8, 9, 11, 14]]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"median 12", "median 10", "copies", "c"} <= set(texts)
    assert not {"a", "b"} & set(texts)


def test_names_of_copies_are_drawn_whatever_they_hold():
    figure = draw_runs([300, 400], [8], limit=64, names=["夜曲 \udcff", "x" * 300])
    figure.draw_without_rendering()  # what the font lacks would warn
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "?? ?" in texts
    assert max(map(len, texts)) < 50


def test_runs_of_no_pieces_and_of_no_length_can_be_drawn():
    draw_runs([], []).draw_without_rendering()
    draw_runs([0, 0], [1]).draw_without_rendering()
