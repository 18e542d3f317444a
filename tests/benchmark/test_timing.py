"""How calls are repeated, foreseen and left out; the clock is a fake one."""

from dataclasses import replace

import pytest
import torch

from seqgen.benchmark import timing
from seqgen.benchmark.timing import LIBRARY, Clock, Effort, Variant


class FakeTime:
    """Calls take as long as they say."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def perf_counter(self):
        return self.now

    def variant(self, name, seconds):
        def run(_):
            self.calls.append(name)
            self.now += seconds

        return Variant(name, run)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(timing, "time", fake)
    return fake


def clock(**effort):
    defaults = {"seconds": 1.0, "max_repeats": 10, "longest_call": 8.0}
    return Clock(Effort(**defaults | effort), device=torch.device("cpu"))


def records(clock, variants, *, position=10):
    return clock.records(variants, measure="decode", batch=3, position=position, tokens=6)


def test_ratio_and_tokens_come_from_the_medians(fake):
    slow, fast = records(clock(), [fake.variant(LIBRARY, 0.5), fake.variant("fast", 0.25)])
    assert (slow.median_seconds, slow.ratio_to_library) == (0.5, 1.0)
    assert (fast.median_seconds, fast.ratio_to_library) == (0.25, 2.0)
    assert (fast.p95_seconds, fast.tokens_per_second, fast.batch) == (0.25, 24.0, 3)


def test_no_library_no_ratio(fake):
    [record] = records(clock(), [fake.variant("alone", 0.5)])
    assert record.ratio_to_library is None


def test_no_ratio_to_a_library_called_once(fake):
    library, fast = records(clock(), [fake.variant(LIBRARY, 9.0), fake.variant("fast", 0.5)])
    assert (library.median_seconds, fast.median_seconds) == (9.0, 0.5)
    assert library.ratio_to_library is fast.ratio_to_library is None


def test_calls_made_elsewhere_make_a_record_of_one_token_per_row():
    record = clock().timed_elsewhere(
        "a", [0.5, 0.25, 1.0], measure="endless", batch=2, position=7, dtype="int8", bytes=9
    )
    assert (record.median_seconds, record.tokens_per_second, record.repeats) == (0.5, 4.0, 3)
    assert (record.dtype, record.bytes, record.ratio_to_library) == ("int8", 9, None)


def test_variants_take_turns_and_slow_ones_fewer(fake):
    records(clock(), [fake.variant("a", 0.125), fake.variant("b", 0.5)])
    assert "".join(fake.calls) == "aabb" + "aaaab" * 2


def test_a_short_call_is_timed_after_another_of_the_same_variant(fake):
    """Else it would find what the other variants left in the processor's caches."""
    a, b = fake.variant("a", 0.01), fake.variant("b", 0.5)
    [record, _] = records(clock(max_repeats=2), [a, b])
    assert "".join(fake.calls) == "aabb" + "aab" * 2
    assert record.samples == pytest.approx((0.01, 0.01))


def test_whole_jobs_are_called_once_and_count(fake):
    slow, fast = fake.variant(LIBRARY, 30.0), fake.variant("fast", 0.5)
    where = {"measure": "job", "batch": 1, "position": 10, "tokens": 10}
    library, ours = clock().records([slow, fast], **where, whole=True)
    assert fake.calls == [LIBRARY, "fast", "fast"]
    assert (library.repeats, ours.repeats, ours.ratio_to_library) == (1, 2, 60.0)


def test_a_call_that_does_not_grow_is_made_at_any_position(fake):
    c = clock()
    constant = replace(fake.variant("constant", 3.0), grows=False)
    growing = fake.variant("growing", 3.0)
    records(c, [constant, growing])
    constant, growing = records(c, [constant, growing], position=1000)
    assert constant.median_seconds == 3.0
    assert growing.note == "skipped: 300 s a call or more"


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_memory_that_runs_out_is_a_row_whenever_it_does(fake, calls):
    fine = fake.variant("fine", 0.5)

    def run(_):
        if fake.calls.count("hungry") == calls:
            raise MemoryError
        fake.calls.append("hungry")
        fake.now += 0.5

    hungry, other = records(clock(), [Variant("hungry", run), fine])
    assert (hungry.median_seconds, hungry.note) == (None, "skipped: ran out of memory")
    assert other.median_seconds == 0.5


def test_other_errors_are_not_taken_for_it(fake):
    def run(_):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        records(clock(), [Variant("wrong", run)])


def test_a_call_is_repeated_at_most_so_often(fake):
    [record] = records(clock(max_repeats=3), [fake.variant("a", 0.001)])
    assert record.repeats == 3


def test_a_slow_call_is_repeated_twice_and_a_very_slow_one_not(fake):
    slow, slowest = records(clock(), [fake.variant("slow", 3.0), fake.variant("slowest", 9.0)])
    assert fake.calls == ["slow", "slowest", "slow", "slow"]
    assert (slow.repeats, slowest.repeats) == (2, 1)


def test_a_call_foreseen_to_take_too_long_is_a_row_that_says_so(fake):
    c, variants = clock(), [fake.variant("slow", 3.0), fake.variant("fast", 0.5)]
    records(c, variants)
    n_calls = fake.calls.count("slow")
    for position, seconds in ((40, "12 s"), (80, "24 s")):
        slow, fast = records(c, variants, position=position)
        assert slow.median_seconds is slow.tokens_per_second is slow.ratio_to_library is None
        assert slow.note.startswith("skipped")
        assert seconds in slow.note
        assert fast.median_seconds == 0.5
    assert fake.calls.count("slow") == n_calls


def test_places_after_the_time_of_a_measure_are_rows_that_say_so(fake):
    c = clock(measure_seconds=1.0)
    [first] = records(c, [fake.variant("a", 0.5)])
    [second] = records(c, [fake.variant("a", 0.5)], position=11)
    assert first.median_seconds == 0.5
    assert second.median_seconds is None
    assert "were over" in second.note


def test_a_variant_that_cannot_run_says_why():
    [record] = records(clock(), [Variant("absent", None, note="not here: no kernel")])
    assert (record.median_seconds, record.note) == (None, "not here: no kernel")


def test_preparing_is_not_timed_and_each_call_gets_its_own(fake):
    given = []

    def prepare():
        fake.now += 100
        return object()

    def run(value):
        given.append(value)
        fake.now += 0.5

    [record] = records(clock(), [Variant("a", run, prepare=prepare)])
    assert record.median_seconds == 0.5
    assert len(set(map(id, given))) == len(given) == 4
