"""Figures show what the records hold, and are not drawn of nothing."""

from dataclasses import replace

import pytest
from measured import SETTING, record, sampled

from seqgen.benchmark.report.figures import chosen_variants, draw_figures, save_figure, short


def steps(batches=(1, 8), positions=(64, 512, 4096)):
    """The recurrent step takes 10 ms a row; a cache adds 1 ms for 100 tokens."""
    return [
        sampled(name, position, (seconds + grows * position / 1e5) * batch, batch=batch)
        for batch in batches
        for position in positions
        for name, seconds, grows in (
            ("library", 0.020, 0),
            ("torch", 0.010, 0),
            ("native", 0.005, 0),
            ("native-w8a8", 0.003, 0),
            ("softmax-preallocated", 0.006, 1),
            ("softmax-preallocated-bf16", 0.004, 1),
            ("gpt2-static", 0.030, 1),
            ("softmax-recomputed", 0.050, 50),
        )
    ]


def lengths(measure, variants, **values):
    return [
        sampled(name, position, position / 1e4, measure=measure, **values)
        for name in variants
        for position in (64, 256)
    ]


def drawn(axes):
    return {line.get_label(): line for line in axes.lines}


def figures_of(records):
    return dict(draw_figures(records))


def test_a_panel_for_each_batch_has_lines_through_the_medians():
    found = steps()
    panels = figures_of(found)["time"].axes
    assert [axes.get_title() for axes in panels] == ["batch 1", "batch 8"]
    assert {(axes.get_xscale(), axes.get_yscale()) for axes in panels} == {("log", "log")}
    x, y = drawn(panels[0])["torch"].get_data()
    torch = [r for r in found if (r.variant, r.batch) == ("torch", 1)]
    assert list(x) == [64, 512, 4096]
    assert list(y) == pytest.approx([1e3 * r.median_seconds for r in torch])


def test_few_variants_of_steps_are_drawn_the_fastest_of_each_side_among_them():
    assert chosen_variants(steps()) == [
        "library", "torch", "native-w8a8", "softmax-preallocated", "softmax-preallocated-bf16",
        "softmax-recomputed",
    ]  # fmt: skip
    lines = drawn(figures_of(steps())["time"].axes[0])
    assert set(lines) == set(chosen_variants(steps()))
    assert len({line.get_color() for line in lines.values()}) == len(lines)
    assert {n: line.get_linestyle() for n, line in lines.items()}["softmax-recomputed"] == "--"


def test_throughput_is_drawn_against_the_batch():
    panels = figures_of(steps(batches=(1, 8, 64)))["throughput"].axes
    assert [axes.get_title() for axes in panels] == [
        f"position {p}" for p in ("64", "512", "4,096")
    ]
    assert list(drawn(panels[0])["torch"].get_xdata()) == [1, 8, 64]


def test_many_batches_are_three_panels():
    panels = figures_of(steps(batches=(1, 2, 4, 8, 16)))["time"].axes
    assert [axes.get_title() for axes in panels] == ["batch 1", "batch 4", "batch 16"]


def test_memory_and_training_show_bytes():
    place = {"measure": "memory", "setting": SETTING}
    found = [
        record(name, position, None, bytes=n_bytes, **place)
        for position in (64, 256)
        for name, n_bytes in (("recurrent", 10**6), ("softmax-cache", 10**4 * position))
    ]
    [axes] = figures_of(found)["bytes"].axes
    assert list(drawn(axes)["recurrent"].get_ydata()) == [1, 1]
    assert list(drawn(axes)["softmax-cache"].get_ydata()) == [0.64, 2.56]
    training = lengths("training", ("library", "causal-linear", "softmax"), bytes=10**9)
    assert set(figures_of(training)) == {"time", "bytes"}
    assert set(figures_of([replace(r, bytes=None) for r in training])) == {"time"}


def test_what_has_one_place_or_no_value_is_not_drawn():
    assert figures_of([sampled("torch", 64, 0.01)]) == {}
    assert figures_of([record("torch", p, None, note="left out: long") for p in (64, 128)]) == {}
    assert figures_of(lengths("job", ("torch",))) == {}


def test_a_figure_is_the_same_file_each_time(tmp_path):
    for name in ("a.svg", "b.svg"):
        save_figure(figures_of(steps(batches=(1,)))["time"], tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "<svg" in text
    assert "fill: #ffffff" in text


def test_ticks_are_short():
    assert [short(x) for x in (1, 64, 1024, 65536, 100_000, 0.05)] == [
        "1", "64", "1k", "64k", "100,000", "0.05",
    ]  # fmt: skip
