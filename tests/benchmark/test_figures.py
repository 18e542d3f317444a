"""Figures show what the records hold, mark the crossing, and are not drawn of nothing."""

from dataclasses import replace

import pytest
from measured import SETTING, record, sampled

from seqgen.benchmark.report.figures import FIGURES, pictures, save_picture
from seqgen.benchmark.report.lines import chosen_steps, short, styles_of


def steps(measure="decode", batches=(1, 8), positions=(64, 512, 4096)):
    """The recurrent step takes 10 ms a row; a cache adds 1 ms for 100 tokens."""
    return [
        sampled(
            name,
            position,
            (seconds + grows * position / 1e5) * batch,
            measure=measure,
            batch=batch,
            share_of_floor=None if name == "full-recomputed" else 0.004 / seconds,
        )
        for batch in batches
        for position in positions
        for name, seconds, grows in (
            ("library", 0.020, 0),
            ("torch", 0.010, 0),
            ("native", 0.005, 0),
            ("native-w8a8", 0.003, 0),
            ("full-preallocated", 0.006, 1),
            ("full-preallocated-bf16", 0.004, 1),
            ("gpt2-static", 0.030, 1),
            ("full-recomputed", 0.050, 50),
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
    return {picture.name: picture.figure for picture in pictures(records)}


def test_latency_has_a_panel_for_a_batch_and_the_crossing_is_marked_where_it_lies():
    panels = figures_of(steps())["decode-latency"].axes
    assert [axes.get_title() for axes in panels] == ["batch 1", "batch 8"]
    for axes in panels:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        [x], [y] = drawn(axes)["equal, interpolated"].get_data()
        assert 330 < x < 480  # 10 ms = 6 ms + position / 100
        batch = 1 if axes is panels[0] else 8
        assert y == pytest.approx(10 * batch, rel=0.05)
        assert any(text.get_text().startswith("~") for text in axes.texts)


def test_a_line_goes_through_the_medians():
    found = steps(batches=(1,))
    [axes] = figures_of(found)["decode-latency"].axes
    x, y = drawn(axes)["torch"].get_data()
    torch = [r for r in found if r.variant == "torch"]
    assert list(x) == [64, 512, 4096]
    assert list(y) == pytest.approx([1e3 * r.median_seconds for r in torch])


def test_few_variants_are_drawn_and_each_family_has_its_fastest():
    chosen = chosen_steps(steps())
    assert list(chosen) == [
        "library", "torch", "native-w8a8", "full-preallocated", "full-recomputed",
        "full-preallocated-bf16", "gpt2-static",
    ]  # fmt: skip
    assert len({style[:2] for style in chosen.values()}) == len(chosen)


def test_throughput_is_drawn_against_the_batch():
    panels = figures_of(steps(batches=(1, 8, 64)))["decode-throughput"].axes
    assert [axes.get_title() for axes in panels] == [
        f"after {position} tokens" for position in ("64", "512", "4,096")
    ]
    assert list(drawn(panels[0])["torch"].get_xdata()) == [1, 8, 64]


def test_shares_of_the_floor_are_bars_at_one_position():
    [first, second] = figures_of(steps())["decode-floor"].axes
    names = [label.get_text() for label in first.get_yticklabels()]
    assert "full-recomputed" not in names
    width = first.patches[names.index("native")].get_width()
    assert width == pytest.approx(80)
    assert len(second.patches) == len(names) == 7


def test_many_batches_are_three_panels():
    panels = figures_of(steps(batches=(1, 2, 4, 8, 16)))["decode-latency"].axes
    assert [axes.get_title() for axes in panels] == ["batch 1", "batch 4", "batch 16"]


def test_memory_shows_what_is_carried_beside_what_training_keeps():
    place = {"measure": "memory", "setting": SETTING}
    found = [
        record(name, position, None, bytes=n_bytes, **place)
        for position in (64, 256)
        for name, n_bytes in (
            ("recurrent", 10**6),
            ("full-cached", 10**4 * position),
            ("training", 10**6 * position),
        )
    ]
    streams, training = figures_of(found)["memory-bytes"].axes
    assert list(drawn(streams)["recurrent"].get_ydata()) == [1, 1]
    assert list(drawn(streams)["full-cached"].get_ydata()) == [0.64, 2.56]
    assert set(drawn(training)) == {"training"}


def test_training_has_time_and_peak_and_prefill_the_first_token():
    training = lengths("training", ("library", "causal-linear", "full"), bytes=10**9)
    assert set(figures_of(training)) == {"training-time", "training-peak"}
    assert set(figures_of([replace(r, bytes=None) for r in training])) == {"training-time"}
    assert set(figures_of(lengths("prefill", ("library",)))) == {"prefill-first-token"}


def test_what_a_figure_of_training_leaves_out_stands_in_that_of_attention():
    names = ("library", "chunked")
    [axes] = figures_of(lengths("attention", names))["attention-time"].axes
    assert set(drawn(axes)) == {"library", "chunked"}
    [axes] = figures_of(lengths("training", names))["training-time"].axes
    assert set(drawn(axes)) == {"library"}


def test_what_has_one_place_or_no_value_or_was_published_is_not_drawn():
    assert figures_of([sampled("torch", 64, 0.01)]) == {}
    assert figures_of([record("torch", p, None, note="skipped: long") for p in (64, 128)]) == {}
    paper = [record("mnist/published-linear", p, 1.0, note="published: a CPU") for p in (64, 128)]
    assert figures_of([replace(r, measure="training") for r in paper]) == {}
    assert "job" not in FIGURES


def test_unknown_variants_get_colours_of_their_own():
    styles = styles_of(lengths("attention", ("library", "native", "new", "newer", "full-new")))
    assert len({style[0] for style in styles.values()}) == 5
    assert styles["full-new"][1] == "--"


def test_a_picture_is_the_same_file_each_time(tmp_path):
    for name in ("a.svg", "b.svg"):
        [picture, *_] = pictures(steps())
        save_picture(picture, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = (tmp_path / "a.svg").read_text()
    assert "<svg" in text
    assert "fill: #ffffff" in text


def test_ticks_are_short():
    assert [short(x) for x in (1, 64, 1024, 65536, 100_000, 0.05)] == [
        "1", "64", "1k", "64k", "100,000", "0.05",
    ]  # fmt: skip
