"""A real change is found, noise is not, and what cannot be compared is said."""

import re
from dataclasses import replace

import pytest
from measured import SETTING, record, run, sampled

from seqgen.benchmark.records import write_records
from seqgen.benchmark.report import compare as ch
from seqgen.benchmark.report.compare import FLOOR, comparison, find_committed, guard

GPU = replace(SETTING, device="a GPU")
NEWER = replace(SETTING, versions={"python": "3.11", "torch": "2.14.0"})
LARGER = replace(SETTING, sizes=SETTING.sizes | {"n_layers": 3})
BIGGER = replace(SETTING, hardware=SETTING.hardware | {"processor": "B1"})


def said(before, after):
    return " ".join(" ".join(comparison(before, after)).split())


def changes(before, after):
    return ch.changes(before, after, floor=FLOOR)[0]


def verdicts(before, after):
    return {(c.before.variant, c.before.position): c.verdict for c in changes(before, after)}


def test_a_real_change_is_found_and_stands_first():
    found = changes(run(), run(torch=0.008, seed=1))
    assert [c.before.variant for c in found[:2]] == ["torch", "torch"]
    assert [c.verdict for c in found[:2]] == [ch.FASTER, ch.FASTER]
    low, high = found[0].interval
    assert 1.1 < low < found[0].ratio_gain < high < 1.5
    assert found[0].gain == pytest.approx(1.25, rel=0.05)


def test_repeats_of_the_two_runs_are_drawn_apart():
    """The same samples twice are as uncertain as two runs are, and not equal beyond doubt."""
    low, high = next(c for c in changes(run(), run()) if c.before.variant == "torch").interval
    assert low < 0.999 < 1.001 < high


def test_a_loss_is_a_loss():
    assert verdicts(run(), run(torch=0.013, seed=1))["torch", 64] == ch.SLOWER


def test_noise_is_not_a_change():
    for seed in range(1, 6):
        found = verdicts(run(spread=0.1), run(spread=0.1, seed=seed))
        assert found["torch", 64] == found["softmax-preallocated", 256] == ch.NOISE


def test_a_small_change_with_many_calls_stays_below_the_floor():
    quiet = {"spread": 0.001, "n": 200}
    assert verdicts(run(**quiet), run(torch=0.0104, seed=1, **quiet))["torch", 64] == ch.NOISE
    assert verdicts(run(**quiet), run(torch=0.0107, seed=1, **quiet))["torch", 64] == ch.SLOWER


def test_a_machine_that_is_slower_throughout_changes_no_ratio():
    before, after = run(), run(torch=0.020, cached=0.040, library=0.040, seed=1)
    found = verdicts(before, after)
    assert found["torch", 64] == ch.NOISE
    assert found["library", 64] == ch.MACHINE
    text = said(before, after)
    assert "library's own times moved by a factor of 1.98" in text
    assert "0 of 6 rows are better and 0 are worse" in text


def test_a_ratio_needs_more_where_the_machine_changed_between_the_runs():
    calm, busy = run(torch=0.009, seed=1), run(torch=0.018, cached=0.040, library=0.040, seed=1)
    assert verdicts(run(), calm)["torch", 64] == ch.FASTER
    assert verdicts(run(), busy)["torch", 64] == ch.NOISE
    assert ch.changes(run(), busy, floor=FLOOR)[1].ratio == pytest.approx(2**0.25 - 1, rel=0.05)


def test_what_has_no_ratio_is_judged_by_its_time_and_by_the_librarys_drift():
    alone = {"measure": "endless"}
    before = [*run(), sampled("torch", 100, 0.010, **alone)]
    slow = sampled("torch", 100, 0.0115, seed=1, **alone)
    assert "1 are worse" in said(before, [*run(seed=1), slow])
    busy = run(torch=0.0125, cached=0.025, library=0.025, seed=1)
    assert "0 are worse" in said(before, [*busy, slow])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (GPU, "Other device: cpu, then a GPU: times are not compared."),
        (BIGGER, "Other processor: A9, then B1: times are not compared"),
        (LARGER, "Other model (n_layers): 2, then 3: times are not compared"),
    ],
)
def test_times_of_other_machines_and_models_are_not_compared(setting, words):
    after = run(torch=0.005, setting=setting)
    assert words in said(run(), after)
    found = {c.before.variant: c for c in changes(run(), after)}
    assert all(change.gain is None for change in found.values())
    assert found["torch"].ratio_gain == pytest.approx(2, rel=0.05)
    assert found["torch"].verdict == ch.FASTER
    assert found["library"].verdict == ch.UNKNOWN


def test_other_threads_and_other_commands_are_named():
    after = [replace(r, threads=4) for r in run()]
    assert "Other threads: 2, then 4: times are not compared" in said(run(), after)
    other = replace(SETTING, command="python cli.py benchmark --full")
    text = said(run(), run(setting=other))
    assert "Other command: python cli.py benchmark --quick, then" in text
    assert "not compared" not in text


def test_another_version_is_named_and_times_of_the_same_machine_are_compared():
    text = said(run(), run(setting=NEWER))
    assert "Other version (torch): 2.13.0, then 2.14.0" in text
    assert changes(run(), run(setting=NEWER))[0].gain == 1.0


def test_records_without_samples_are_compared_without_an_interval_and_it_is_said():
    old = [record("library", 64, 0.02, ratio_to_library=1.0)]
    before = [*old, record("torch", 64, 0.010, ratio_to_library=2.0)]
    near = [*old, record("torch", 64, 0.011, ratio_to_library=1.85)]
    far = [*old, record("torch", 64, 0.012, ratio_to_library=1.6)]
    assert verdicts(before, near)["torch", 64] == ch.NOISE
    assert verdicts(before, far)["torch", 64] == ch.SLOWER
    text = said(before, far)
    assert "twice that where there are fewer than 6 samples" in text
    assert "The machine of a run was not recorded: times are not compared" in text


def test_numbers_that_are_none_or_not_a_number_compare_as_nothing():
    nan = float("nan")
    before = [
        record("a", 64, None, note="skipped: long"),
        record("b", 64, nan, ratio_to_library=nan, setting=SETTING),
        record("c", 64, 0.0, setting=SETTING),
        sampled("d", 64, 0.01, library=nan),
    ]
    found = verdicts(before, [sampled(name, 64, 0.01, library=0.02) for name in "abcd"])
    assert found == {("b", 64): ch.UNKNOWN, ("c", 64): ch.UNKNOWN, ("d", 64): ch.NOISE}


def test_bytes_and_bits_are_compared_exactly():
    size = {"measure": "memory", "setting": SETTING}
    before = [record("recurrent", 64, None, bytes=1000, **size)]
    bits = {"measure": "likelihood", "setting": SETTING}
    before.append(record("native", 64, None, bits_per_token=2.0, **bits))
    after = [replace(before[0], bytes=1005), replace(before[1], bits_per_token=2.1)]
    assert verdicts(before, after) == {("recurrent", 64): ch.NOISE, ("native", 64): ch.SLOWER}
    after = [replace(before[0], bytes=900), replace(before[1], bits_per_token=2.001)]
    assert verdicts(before, after) == {("recurrent", 64): ch.FASTER, ("native", 64): ch.NOISE}


def test_rows_in_one_run_only_are_named():
    text = said(run(), [*run(positions=(64,)), sampled("native", 64, 0.005)])
    assert "Only before: decode library, decode softmax-preallocated, decode torch." in text
    assert "Only after: decode native." in text


def test_nothing_in_common_is_said():
    assert "No place was measured in both." in said(run(), run(measure="step"))


def guarded(records, path):
    """What the guard says, how many ratios moved, and what became worse."""
    lines, worse = guard(records, path)
    text = " ".join(lines)
    found = re.search(r"of which (\d+) moved", text)
    return text, int(found[1]) if found else 0, worse


@pytest.fixture
def results(tmp_path):
    for name, setting in (("other", BIGGER), ("ours", SETTING)):
        write_records(tmp_path / name / "quick.json", run(setting=setting))
    return tmp_path


def test_the_guard_finds_the_record_of_this_machine(results):
    assert find_committed(results, run(seed=3)) == results / "ours" / "quick.json"
    assert find_committed(results, [replace(r, threads=1) for r in run()]) is None
    assert find_committed(results, run(setting=LARGER)) is None
    assert find_committed(results, [replace(r, setting=run()[0].setting) for r in run()])


def test_without_a_record_the_guard_says_how_to_make_one():
    text, _, worse = guarded(run(), None)
    assert not worse
    assert "benchmark --quick --json docs/results/NAME/quick.json" in text


def test_the_guard_passes_on_noise_and_on_a_machine_that_is_slower(results):
    path = results / "ours" / "quick.json"
    for seed in range(1, 5):
        assert not guarded(run(spread=0.15, seed=seed), path)[-1]
    _, n_moved, _ = guarded(run(torch=0.03, cached=0.06, library=0.06, seed=1), path)
    assert not n_moved


def test_the_guard_fails_on_ours_that_became_worse_at_most_places(results):
    path = results / "ours" / "quick.json"
    text, _, worse = guarded(run(torch=0.014, seed=1), path)
    assert worse == ["decode torch"]
    assert "worse at most of their places: decode torch" in text
    better, peer = run(torch=0.006, seed=1), run(cached=0.040, seed=1)
    for records in (better, peer):
        _, n_moved, worse = guarded(records, path)
        assert n_moved
        assert not worse
    one_place = [*run(torch=0.014, seed=1, positions=(64,)), *run(seed=1, positions=(256,))]
    assert guarded(one_place, path)[1:] == (1, [])


def test_one_place_alone_cannot_fail_the_guard(tmp_path):
    write_records(tmp_path / "quick.json", run(positions=(64,)))
    _, n_moved, worse = guarded(run(torch=0.014, seed=1, positions=(64,)), tmp_path / "quick.json")
    assert n_moved
    assert not worse


def test_against_another_machine_the_guard_cannot_fail(results):
    text, n_moved, worse = guarded(run(torch=0.014, seed=1), results / "other" / "quick.json")
    assert n_moved
    assert not worse
    assert "another machine" in text
