"""Every measure on a model small enough that nothing takes time."""

from dataclasses import replace
from functools import partial

import pytest
import subjects
import torch
from subjects import TWO_FIELDS

from seqgen.benchmark.floor import STEPS, step_bytes
from seqgen.benchmark.measures import decode, endless, floor
from seqgen.benchmark.place import LEFT_OUT
from seqgen.benchmark.plans import BATCHED, QUICK, THEIRS, Plan, make_plan
from seqgen.benchmark.records import KEYS
from seqgen.benchmark.report.guard import LEAST_PLACES
from seqgen.benchmark.run import MEASURES, load_subject, run_benchmark
from seqgen.benchmark.timing import LIBRARY, Effort
from seqgen.errors import UserError

QUICKEST = Plan(
    positions=dict.fromkeys(MEASURES, (5, 9)),
    batches=dict.fromkeys(BATCHED, (1, 2)),
    effort=Effort(seconds=0.01, max_repeats=2, longest_call=10.0, measure_seconds=60.0),
)


tiny_subject = partial(subjects.tiny_subject, TWO_FIELDS)
OWN_TESTS = ("job", "papers", "likelihood")
OWN_PLACES = (*OWN_TESTS, "endless")
MEASURED = [name for name in MEASURES if name not in OWN_TESTS]
WITHOUT_LIBRARY = {"floor", "memory", "endless"}


@pytest.fixture(scope="module", autouse=True)
def _a_small_machine():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "LARGE_BYTES", 2**20)
        patch.setitem(floor.CALL_BYTES, "cpu", 2**20)
        patch.setitem(floor.WIDTHS, "cpu", 64)
        yield


@pytest.fixture(scope="module")
def records(_a_small_machine):
    return run_benchmark(tiny_subject(), QUICKEST, only=MEASURED)


def test_each_measure_has_all_its_variants_at_every_place(records):
    for name, module in MEASURES.items():
        if name in OWN_PLACES:
            continue
        batches = (1, 2) if name in BATCHED else (1,)
        places = [(r.batch, r.position, r.variant) for r in records if r.measure == name]
        assert sorted(places) == sorted(
            (b, p, variant) for b in batches for p in (5, 9) for variant in module.VARIANTS
        )


def test_records_have_exactly_the_keys(records):
    assert all(tuple(record.to_json()) == KEYS for record in records)


def test_times_are_positive_and_ordered(records):
    timed = [record for record in records if record.median_seconds is not None]
    assert {record.measure for record in timed} == set(MEASURED) - {"memory"}
    assert all(0 < record.median_seconds <= record.p95_seconds for record in timed)
    assert all((record.tokens_per_second or 0) > 0 for record in timed if record.rate is None)


@pytest.mark.skipif(not tiny_subject().has_library_kernel, reason="the library was not compiled")
def test_the_library_is_as_fast_as_itself(records):
    library = [record for record in records if record.variant == LIBRARY]
    assert {record.measure for record in library} == set(MEASURED) - WITHOUT_LIBRARY
    assert all(record.ratio_to_library == 1 for record in library)


def test_steps_are_set_beside_the_floor(records):
    for record in records:
        is_bound = record.measure in STEPS and record.repeats and step_bytes(record, tiny_subject())
        assert (record.share_of_floor is not None) == bool(is_bound), record
    assert all(record.share_of_floor > 0 for record in records if record.variant == "torch")


def test_steps_alone_have_a_floor_too():
    plan = replace(QUICKEST, positions={"step": (5,)})
    some = run_benchmark(tiny_subject(), plan, only=["step"])
    assert {record.measure for record in some} == {"step"}
    assert all(record.share_of_floor > 0 for record in some if record.variant == "library")


def test_tokens_are_summed_over_rows(records):
    tokens = {
        (r.measure, r.batch): round(r.tokens_per_second * r.median_seconds)
        for r in records
        if r.tokens_per_second is not None and r.position == 9
    }
    assert tokens["decode", 2] == 2
    assert tokens["prefill", 2] == tokens["attention", 2] == tokens["training", 2] == 18


def test_what_has_no_value_says_why(records):
    """Such as Triton without a GPU, or a compiled step in a quick run."""
    for record in records:
        assert (record.median_seconds is record.bytes is None) == bool(record.note), record
    notes = {record.variant: record.note for record in records}
    assert "run on a GPU" in notes["triton"] or torch.cuda.is_available()
    assert notes["compiled"].startswith("skipped: compiling")
    notes = {record.variant: record.note for record in records if record.measure == "decode"}
    assert all(notes[name].startswith("skipped: making it ready") for name in LEFT_OUT)
    assert notes["cuda"].startswith("not here: decoder cuda") or torch.cuda.is_available()


def test_a_decoders_record_says_what_its_weights_are_kept_in(records):
    dtypes = {r.variant: r.dtype for r in records if r.measure == "decode"}
    assert (dtypes["torch"], dtypes["native-w8a8"]) == ("float32", "w8a8")
    assert (dtypes["cuda-bf16"], dtypes["full-preallocated"]) == ("bf16", "float32")


def test_a_saved_session_keeps_its_size(records):
    sizes = {(r.variant, r.position): r.bytes for r in records if r.measure == "memory"}
    assert sizes["session", 5] == sizes["session", 9] > sizes["recurrent", 5]


def test_a_training_step_keeps_less_when_it_recomputes(records):
    sizes = {(r.variant, r.position): r.bytes for r in records if r.measure == "memory"}
    assert 0 < sizes["training-recomputed", 9] < sizes["training", 9] / 2
    assert sizes["training", 5] < sizes["training", 9] <= sizes["training-chunked", 9]


def test_the_state_keeps_its_size_while_the_cache_grows(records):
    sizes = {(r.variant, r.position): r.bytes for r in records if r.measure == "memory"}
    assert sizes["recurrent", 5] == sizes["recurrent", 9]
    assert sizes["full-cached", 5] * 9 == sizes["full-cached", 9] * 5


def test_each_number_of_rows_is_checked_before_it_is_timed(monkeypatch):
    """A decoder may compute one row in another way than many."""
    seen = []
    monkeypatch.setattr(decode, "check", lambda *_, batch, position: seen.append(batch))
    monkeypatch.setattr(decode, "measure", lambda *_, batch, position: seen.append(-batch) or [])
    plan = replace(QUICKEST, positions={"decode": (5,)}, batches={"decode": (1, 8, 64, 1024)})
    run_benchmark(tiny_subject(), plan, only=["decode"])
    assert seen == [1, 8, 64, -1, -8, -64, -1024]


def test_only_the_named_measures_run_and_progress_is_told():
    told = []
    some = run_benchmark(
        tiny_subject(), QUICKEST, only=["memory"], tell=lambda *event: told.append(event)
    )
    assert {record.measure for record in some} == {"memory"}
    assert told == [("memory", 0, 2), ("memory", 1, 2), ("memory", 2, 2)]


def test_places_beyond_learned_positions_are_rows_without_times():
    subject = tiny_subject(positions="learned", max_positions=8)
    some = run_benchmark(subject, QUICKEST, only=["decode", "memory"])
    long = [record for record in some if record.measure == "decode" and record.position == 9]
    assert long
    assert all(record.median_seconds is None and record.note for record in long)
    short = {r.variant: r.median_seconds for r in some if r.measure == "decode" and r.position == 5}
    assert short["recurrent"]
    assert short["torch"]


def test_streams_do_not_run_out_of_learned_positions():
    subject = tiny_subject(positions="learned", max_positions=8)
    plan = replace(QUICKEST, positions={"decode": (7,)})
    timed = [r.variant for r in run_benchmark(subject, plan, only=["decode"]) if r.repeats]
    assert {"library", "recurrent", "torch"} <= set(timed)


def test_a_configuration_gives_its_model_and_other_targets_a_reason(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("model:\n  d_model: 8\n  n_layers: 1\n  n_heads: 2\n")
    assert load_subject(path).config.d_model == 8
    with pytest.raises(UserError, match="no configuration file"):
        load_subject(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r"model\.json"):
        load_subject(tmp_path)


def test_batches_replace_those_of_the_plan():
    assert make_plan(quick=True).batches == {"papers": (THEIRS,)}
    assert make_plan(quick=False).batches["decode"] == (1, 8, 64)
    assert make_plan(full=True).batches["decode"] == (1, 8, 64, 256, 1024)
    assert make_plan(quick=True, batches=[64, 4, 4]).batches == dict.fromkeys(BATCHED, (4, 64))


def test_the_guard_can_fail_for_each_measure_that_has_ratios():
    for name in set(MEASURES) - WITHOUT_LIBRARY - {"papers", "likelihood"}:
        n_places = len(QUICK.positions[name]) * len(QUICK.batches.get(name, (1,)))
        assert n_places >= LEAST_PLACES, name


def test_each_place_is_kept_when_it_is_finished_and_before_the_next_one_fails(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(endless, "measure", fail)
    kept = []
    with pytest.raises(MemoryError):
        run_benchmark(
            tiny_subject(), QUICKEST, only=["step", "memory", "endless"], keep=kept.append
        )
    places = [{(r.measure, r.batch, r.position) for r in records} for records in kept]
    steps = [("step", batch, position) for batch in (1, 2) for position in (5, 9)]
    assert places == [{place} for place in [*steps, ("memory", 1, 5), ("memory", 1, 9)]]
    assert all(r.share_of_floor for r in kept[0] if r.variant == LIBRARY and r.repeats)
    assert any(r.share_of_floor for r in kept[0])


def test_the_floor_is_read_once_for_all_steps(monkeypatch):
    asked, read = [], floor.measure_reading
    monkeypatch.setattr(floor, "measure_reading", lambda x: asked.append(x) or read(x))
    plan = replace(QUICKEST, positions={"decode": (5,), "step": (5,)}, batches={})
    found = run_benchmark(tiny_subject(), plan, only=["decode", "step"])
    assert len(asked) == 1
    assert {r.measure for r in found if r.share_of_floor} == {"decode", "step"}


def test_a_configuration_has_nothing_to_stand_beside(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("model:\n  d_model: 8\n  n_layers: 1\n  n_heads: 2\n")
    with pytest.raises(UserError, match=r"trained runs .* is a configuration: name a RUN"):
        load_subject(path, beside=tmp_path)


def test_positions_replace_those_of_the_plan():
    assert make_plan(full=True).positions["decode"][-1] == 65_536
    positions = make_plan(positions=[9, 3, 3]).positions
    assert positions.pop("floor") == (1,)  # it has none
    assert positions.pop("papers") == (784, 1431, 3072)  # which name its jobs
    assert set(positions.values()) == {(3, 9)}


def test_a_softmax_model_is_a_peer_and_no_subject(tmp_path):
    path = tmp_path / "full.yaml"
    path.write_text("model:\n  attention: full\n")
    with pytest.raises(UserError, match=r"model\.attention=full"):
        load_subject(path)
