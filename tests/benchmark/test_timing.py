"""How calls are repeated, bounded and left out; time and the variants are fake."""

import pytest
import torch

from seqgen.benchmark import timing
from seqgen.benchmark.records import LIBRARY, Place
from seqgen.benchmark.timing import OUT_OF_MEMORY, Call, Effort, Timer, Variant

GB = 10**9


class FakeTime:
    """Calls take as long as they say."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def perf_counter(self):
        return self.now

    def variant(self, name, seconds, *, part=None, parts=1, **sizes):
        def run(length):
            self.calls.append(name)
            self.now += seconds if length == parts else part

        call = Call(run, length=parts, part=part and 1)
        return Variant(name, lambda: call, **sizes)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeTime()
    monkeypatch.setattr(timing, "time", fake)
    monkeypatch.setattr(timing, "free_bytes", lambda device: 16 * GB)
    return fake


def timer(**effort):
    defaults = {"seconds": 1.0, "max_repeats": 10, "longest_call": 8.0, "longest_piece": 40.0}
    return Timer(Effort(**defaults | effort), device=torch.device("cpu"))


def records(timer, variants, *, position=10, **options):
    return timer.time(variants, Place("decode", 3, position), tokens=6, **options)


def test_ratio_and_tokens_come_from_the_medians(fake):
    slow, fast = records(timer(), [fake.variant(LIBRARY, 0.5), fake.variant("fast", 0.25)])
    assert (slow.median_seconds, slow.ratio_to_library) == (0.5, 1.0)
    assert (fast.median_seconds, fast.ratio_to_library) == (0.25, 2.0)
    assert (fast.p95_seconds, fast.tokens_per_second, fast.batch) == (0.25, 24.0, 3)


def test_no_library_no_ratio(fake):
    [record] = records(timer(), [fake.variant("alone", 0.5)])
    assert record.ratio_to_library is None


def test_no_ratio_to_a_library_called_once(fake):
    library, fast = records(timer(), [fake.variant(LIBRARY, 9.0), fake.variant("fast", 0.5)])
    assert (library.median_seconds, fast.median_seconds) == (9.0, 0.5)
    assert library.ratio_to_library is fast.ratio_to_library is None


def test_variants_take_turns_and_slow_ones_fewer(fake):
    records(timer(), [fake.variant("a", 0.125), fake.variant("b", 0.5)])
    assert "".join(fake.calls) == "aabb" + "aaaab" * 2


def test_a_short_call_is_timed_after_another_of_the_same_variant(fake):
    """Otherwise it would find what the other variants left in the processor's caches."""
    a, b = fake.variant("a", 0.01), fake.variant("b", 0.5)
    [record, _] = records(timer(max_repeats=2), [a, b])
    assert "".join(fake.calls) == "aabb" + "aab" * 2
    assert record.samples == pytest.approx((0.01, 0.01))


def test_whole_pieces_are_written_once_and_count(fake):
    slow, fast = fake.variant(LIBRARY, 30.0), fake.variant("fast", 0.5)
    library, ours = records(timer(), [slow, fast], whole_pieces=True)
    assert fake.calls == [LIBRARY, "fast", "fast"]
    assert (library.repeats, ours.repeats, ours.ratio_to_library) == (1, 2, 60.0)


def test_a_call_is_repeated_at_most_so_often(fake):
    [record] = records(timer(max_repeats=3), [fake.variant("a", 0.001)])
    assert record.repeats == 3


def test_a_slow_call_is_repeated_twice_and_a_very_slow_one_not(fake):
    slow, slowest = records(timer(), [fake.variant("slow", 3.0), fake.variant("slowest", 9.0)])
    assert fake.calls == ["slow", "slowest", "slow", "slow"]
    assert (slow.repeats, slowest.repeats) == (2, 1)


def test_a_call_whose_part_shows_that_it_takes_too_long_is_not_made(fake):
    slow = fake.variant("slow", 23.0, part=6.0, parts=4)
    fine = fake.variant("fine", 0.5, part=0.2, parts=4)
    left_out, record = records(timer(), [slow, fine])
    assert left_out.note == "left out: a call would take about 24 s, the limit is 8 s"
    assert (left_out.median_seconds, left_out.repeats, left_out.samples) == (None, None, ())
    assert record.median_seconds == 0.5
    assert fake.now < 20


def test_a_part_that_is_slow_only_the_first_time_says_nothing(fake):
    seconds = iter((7.0, 0.1, *[0.5] * 10))
    run = lambda _: setattr(fake, "now", fake.now + next(seconds))  # noqa: E731
    [record] = records(timer(), [Variant("a", lambda: Call(run, length=4, part=1))])
    assert record.repeats


def test_whole_pieces_have_a_limit_of_their_own(fake):
    variants = [fake.variant(f"{n}", 39.0, part=3.0, parts=n) for n in (13, 14)]
    a, b = records(timer(), variants, whole_pieces=True)
    assert a.repeats == 1
    assert b.note == "left out: a call would take about 42 s, the limit is 40 s"


def test_no_variant_takes_more_than_its_share_of_time(fake):
    """Whatever a call takes, and whether or not a part foresees it."""
    effort = timer().effort
    for seconds in (0.001, 0.3, 0.9, 1.1, 7.9):
        before = fake.now
        records(timer(), [fake.variant("a", seconds)])
        assert fake.now - before <= 2 * effort.seconds + 3 * min(seconds, effort.longest_call)


def test_a_variant_that_needs_more_than_a_quarter_of_the_memory_is_not_opened(fake):
    large = Variant("large", lambda: pytest.fail("opened"), holds=4 * GB, needs=GB)
    left_out, record = records(timer(), [large, fake.variant("fine", 0.5, holds=3 * GB)])
    expected = "left out: would need 5.0 GB, a quarter of the free memory is 4.0 GB"
    assert left_out.note == expected
    assert record.repeats


def test_all_variants_of_a_place_together_hold_half_of_the_memory(fake):
    holds, needs = {"a": 3 * GB, "c": 4 * GB, "d": 2 * GB}, {"b": 4 * GB, "e": GB}
    found = records(
        timer(),
        [fake.variant(n, 0.5, holds=holds.get(n, 0), needs=needs.get(n, 0)) for n in "abcde"],
    )
    assert [r.variant for r in found if r.repeats] == ["a", "b", "c", "e"]
    words = "would need 2.0 GB beside 7.0 GB of other variants, half of the free memory is 8.0 GB"
    assert found[3].note == f"left out: {words}"


def test_the_memory_of_a_place_is_free_before_the_next(fake):
    freed, run = [], fake.variant("large", 0.5).open().run

    class Large:
        def __init__(self):
            self.itself = self  # which only a collection frees

        def __del__(self):
            freed.append(self)

    def opened():
        large = Large()
        return Call(lambda length: run(length) or large)

    records(timer(max_repeats=2), [Variant("large", opened)])
    assert len(freed) == 1


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_memory_that_runs_out_is_a_row_whenever_it_does(fake, calls):
    def run(_):
        if fake.calls.count("hungry") == calls:
            raise MemoryError
        fake.calls.append("hungry")
        fake.now += 0.5

    hungry = Variant("hungry", lambda: Call(run))
    record, other = records(timer(), [hungry, fake.variant("fine", 0.5)])
    assert (record.median_seconds, record.note) == (None, OUT_OF_MEMORY)
    assert other.median_seconds == 0.5


def test_memory_that_runs_out_while_a_variant_is_opened_is_a_row(fake):
    def opened():
        raise torch.OutOfMemoryError("no more")

    [record] = records(timer(), [Variant("hungry", opened)])
    assert record.note == OUT_OF_MEMORY


def test_other_errors_are_not_taken_for_it(fake):
    def run(_):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="do not fit"):
        records(timer(), [Variant("wrong", lambda: Call(run))])


def test_places_after_the_time_of_a_measure_are_rows_that_say_so(fake):
    c = timer(measure_seconds=1.0)
    [first] = records(c, [fake.variant("a", 0.5)])
    [second] = records(c, [fake.variant("a", 0.5)], position=11)
    assert first.median_seconds == 0.5
    assert (second.median_seconds, second.note) == (None, "left out: the 1 s for decode are over")


def test_a_variant_that_cannot_run_says_why():
    [record] = records(timer(), [Variant("absent", note="not available: no kernel")])
    assert (record.median_seconds, record.note) == (None, "not available: no kernel")


def test_preparing_is_not_timed_and_comes_before_each_call(fake):
    calls = []

    def prepare():
        calls.append("prepare")
        fake.now += 100

    def run(_):
        calls.append("run")
        fake.now += 0.5

    [record] = records(timer(), [Variant("a", lambda: Call(run, prepare))])
    assert record.median_seconds == 0.5
    assert calls == ["prepare", "run"] * 4
