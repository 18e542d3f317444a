"""Every measure on a model small enough that nothing takes time."""

from dataclasses import replace
from functools import partial

import pytest
import tiny_models
import torch
from tiny_models import TWO_FIELDS

from seqgen.benchmark.measures import decode, endless, floor
from seqgen.benchmark.measures.floor import step_bytes
from seqgen.benchmark.model import NOT_QUICK, load_benchmark_model
from seqgen.benchmark.records import KEYS, LIBRARY
from seqgen.benchmark.report.compare import LEAST_PLACES
from seqgen.benchmark.run import BATCHED, MEASURES, QUICK, BenchmarkPlan, make_plan, run_benchmark
from seqgen.benchmark.timing import Effort
from seqgen.errors import UserError

QUICKEST = BenchmarkPlan(
    positions=dict.fromkeys(MEASURES, (5, 9)),
    batches=dict.fromkeys(BATCHED, (2,)) | {"decode": (1, 2)},
    effort=Effort(seconds=0.01, max_repeats=2, longest_call=10.0, measure_seconds=60.0),
)


tiny_model = partial(tiny_models.tiny_model, TWO_FIELDS, quick=True)
WITHOUT_LIBRARY = {"floor", "memory", "endless", "likelihood"}


@pytest.fixture(scope="module", autouse=True)
def _a_small_machine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "LARGE_BYTES", 2**20)
        patch.setitem(floor.CALL_BYTES, "cpu", 2**20)
        yield


@pytest.fixture(scope="module")
def records(_a_small_machine):
    return run_benchmark(tiny_model(), QUICKEST)


def test_each_measure_has_the_same_variants_at_every_place(records):
    for name in set(MEASURES) - {"endless", "likelihood"}:
        found: dict = {}
        for r in (r for r in records if r.measure == name):
            found.setdefault((r.batch, r.position), []).append(r.variant)
        batches = QUICKEST.batches.get(name, (1,))
        assert set(found) == {(b, p) for b in batches for p in (5, 9)}
        assert len({tuple(names) for names in found.values()}) == 1


def test_records_have_exactly_the_keys(records):
    assert all(tuple(record.to_json()) == KEYS for record in records)


def test_times_are_positive_and_ordered(records):
    timed = [record for record in records if record.median_seconds is not None]
    assert {record.measure for record in timed} == set(MEASURES) - {"memory", "likelihood"}
    assert all(0 < record.median_seconds <= record.p95_seconds for record in timed)
    assert all((record.tokens_per_second or 0) > 0 for record in timed if record.rate is None)


@pytest.mark.skipif(not tiny_model().has_library_kernel, reason="the library was not compiled")
def test_the_library_is_as_fast_as_itself(records):
    library = [record for record in records if record.variant == LIBRARY]
    assert {record.measure for record in library} == set(MEASURES) - WITHOUT_LIBRARY
    assert all(record.ratio_to_library == 1 for record in library)


def test_steps_are_set_beside_the_floor(records):
    model = tiny_model()
    for r in records:
        is_bound = r.measure == "decode" and r.repeats and step_bytes(r, model)
        assert (r.share_of_floor is not None) == bool(is_bound), r
    assert all(
        r.share_of_floor > 0 for r in records if (r.measure, r.variant) == ("decode", "torch")
    )


def test_tokens_are_summed_over_rows(records):
    tokens = {
        (r.measure, r.batch): round(r.tokens_per_second * r.median_seconds)
        for r in records
        if r.tokens_per_second is not None and r.position == 9
    }
    assert tokens["decode", 2] == 2
    assert tokens["prefill", 2] == tokens["attention", 2] == tokens["training", 2] == 18


def test_what_has_no_value_says_why_and_what_can_never_run_is_not_listed(records):
    for record in records:
        assert record.has_value != bool(record.note), record
    names = {record.variant for record in records if record.measure in ("decode", "training")}
    assert {"torch", "softmax-preallocated", "causal-linear"} <= names
    assert not names & {"compiled", *NOT_QUICK}  # of a quick run
    if not torch.cuda.is_available():
        assert not {r.variant for r in records} & {"cuda", "cuda-bf16", "triton"}


def test_a_decoders_record_says_what_its_weights_are_kept_in(records):
    dtypes = {r.variant: r.dtype for r in records if r.measure == "decode"}
    assert (dtypes["torch"], dtypes["native-w8a8"]) == ("float32", "w8a8")


def test_each_number_of_rows_is_checked_before_it_is_timed(monkeypatch):
    """A decoder may compute one row in another way than many."""
    seen = []
    monkeypatch.setattr(decode, "check", lambda _, batch, position: seen.append(batch))
    monkeypatch.setattr(decode, "measure", lambda _, __, place: seen.append(-place.batch) or [])
    plan = replace(QUICKEST, positions={"decode": (5,)}, batches={"decode": (1, 8, 64, 1024)})
    run_benchmark(tiny_model(), plan, only=["decode"])
    assert seen == [1, 8, 64, -1, -8, -64, -1024]


def test_only_the_named_measures_run_and_progress_is_told():
    told = []
    some = run_benchmark(
        tiny_model(), QUICKEST, only=["memory"], tell=lambda *event: told.append(event)
    )
    assert {record.measure for record in some} == {"memory"}
    assert told == [("memory", 0, 2), ("memory", 1, 2), ("memory", 2, 2)]


def test_places_beyond_learned_positions_are_rows_without_times():
    model = tiny_model(positions="learned", max_positions=8)
    some = run_benchmark(model, QUICKEST, only=["decode", "memory"])
    long = [record for record in some if record.measure == "decode" and record.position == 9]
    assert long
    assert all(record.median_seconds is None and record.note for record in long)
    short = {r.variant for r in some if (r.measure, r.position) == ("decode", 5) and r.repeats}
    assert {"recurrent", "torch"} <= short
    assert {r.note for r in long} == {"left out: the model has 8 learned positions"}


def test_streams_do_not_run_out_of_learned_positions():
    model = tiny_model(positions="learned", max_positions=8)
    plan = replace(QUICKEST, positions={"decode": (7,)})
    timed = [r.variant for r in run_benchmark(model, plan, only=["decode"]) if r.repeats]
    assert {"library", "recurrent", "torch"} <= set(timed)


def test_a_configuration_gives_its_model_and_other_targets_a_reason(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("model:\n  d_model: 8\n  n_layers: 1\n  n_heads: 2\n")
    assert load_benchmark_model(path).config.d_model == 8
    with pytest.raises(UserError, match="no configuration file"):
        load_benchmark_model(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"config\.json"):
        load_benchmark_model(tmp_path)


def test_batches_and_positions_replace_those_of_the_plan():
    assert make_plan().batches["decode"] == (1, 8, 64)
    assert make_plan(full=True).batches["decode"] == (1, 8, 64, 256, 1024)
    assert make_plan(quick=True, batches=[64, 4, 4]).batches == dict.fromkeys(BATCHED, (4, 64))
    assert make_plan(full=True).positions["decode"][-1] == 65_536
    positions = make_plan(positions=[9, 3, 3]).positions
    assert positions.pop("floor") == (1,)  # it has none
    assert set(positions.values()) == {(3, 9)}


def test_only_a_full_run_has_no_limit_of_time():
    assert QUICK.effort.measure_seconds < make_plan().effort.measure_seconds <= 600
    assert make_plan(full=True).effort.measure_seconds == float("inf")


def test_the_guard_can_fail_for_each_measure_that_has_ratios():
    for name in set(MEASURES) - WITHOUT_LIBRARY:
        n_places = len(QUICK.positions[name]) * len(QUICK.batches.get(name, (1,)))
        assert n_places >= LEAST_PLACES, name


def test_each_place_is_kept_when_it_is_finished_and_before_the_next_one_fails(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(endless, "measure", fail)
    kept = []
    with pytest.raises(MemoryError):
        run_benchmark(
            tiny_model(), QUICKEST, only=["decode", "memory", "endless"], keep=kept.append
        )
    places = [{(r.measure, r.batch, r.position) for r in records} for records in kept]
    steps = [("decode", batch, position) for batch in (1, 2) for position in (5, 9)]
    assert places == [{place} for place in [*steps, ("memory", 1, 5), ("memory", 1, 9)]]
    assert all(r.share_of_floor for r in kept[0] if r.variant == LIBRARY and r.repeats)
    assert any(r.share_of_floor for r in kept[0])


def test_steps_alone_have_a_floor_too_which_is_measured_once(monkeypatch):
    asked, read = [], floor.reads_of
    monkeypatch.setattr(floor, "reads_of", lambda *x: asked.append(x) or read(*x))
    found = run_benchmark(tiny_model(), replace(QUICKEST, batches={}), only=["decode"])
    assert len(asked) == 1
    assert {record.measure for record in found} == {"decode"}
    assert all(record.share_of_floor > 0 for record in found if record.variant == LIBRARY)


def test_a_softmax_model_is_a_peer_and_is_refused(tmp_path):
    path = tmp_path / "softmax.yaml"
    path.write_text("model:\n  attention: softmax\n")
    with pytest.raises(UserError, match=r"model\.attention=softmax"):
        load_benchmark_model(path)
