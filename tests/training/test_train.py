"""A run learns, keeps its best model, and goes on after a stop as if it had never stopped."""

import errno
import math
import os
import random
import shutil
import signal

import pytest
import torch
from curves import curve
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from seqgen.checkpoint import describe_step, load_model, read_checkpoint, read_metrics
from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.training.metrics import JsonLinesLogger
from seqgen.training.module import TrainingModule
from seqgen.training.saving import AtomicCheckpointIO


def weights(folder):
    return torch.load(folder.last, weights_only=True)["state_dict"]


def assert_equal_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_the_loss_falls_and_everything_is_left_behind(run_steps):
    lines = []
    folder, outcome = run_steps("a", max_steps=30, schedule_steps=None, tell=lines.append)
    losses = [line["loss"] for line in curve(folder) if "loss" in line]
    assert losses[-1] < losses[0] - 0.5
    assert outcome.step == 30
    assert not outcome.stopped
    assert math.isfinite(outcome.best_bits_per_unit)
    validations = [line["validation_loss"] for line in curve(folder) if "validation_loss" in line]
    assert outcome.best_loss == pytest.approx(min(validations))
    loaded = load_model(folder.path)
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    assert lines[0].startswith("model: 1 layers of width 16, 2 heads, causal-linear attention, ")
    assert f"{parameters:,} parameters\ntraining: to step 30, 4 rows of 24 tokens" in lines[0]
    assert lines[1].startswith("attention kernel: ")
    assert len(lines) - 2 == len(validations) == 10
    assert loaded.record["loss"] == outcome.best_loss
    assert (folder.checkpoints / "best.ckpt").exists()


def test_tensorboard_shows_the_model_and_compares_runs_by_their_settings(run_steps):
    folder, outcome = run_steps("a", max_steps=3)
    board = EventAccumulator(str(folder.path / "tensorboard"))
    board.Reload()
    names = {node.name for node in board.Graph().node}
    assert any("stack" in name and "attention" in name for name in names)
    (final,) = board.Scalars("best_validation_loss")
    assert (final.step, final.value) == (3, pytest.approx(outcome.best_loss))
    begin = board.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    settings = HParamsPluginData.FromString(begin).session_start_info.hparams
    assert settings["train/learning_rate"].number_value == 1e-2
    assert settings["model/attention"].string_value == "causal-linear"


@pytest.mark.parametrize("carry_state", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_equals_uninterrupted_bit_for_bit(run_steps, left_alone, accumulate, carry_state):
    settings = {"accumulate": accumulate, "carry_state": carry_state}
    whole, _ = left_alone(max_steps=10, **settings)
    run_steps("parts", max_steps=5, **settings)
    parts, outcome = run_steps("parts", max_steps=10, resume=True, **settings)
    assert outcome.step == 10
    assert [x for x in curve(parts) if "loss" in x] == [x for x in curve(whole) if "loss" in x]
    assert_equal_weights(weights(whole), weights(parts))


class Killed(BaseException):
    """Ends a run where it is, as kill -9 would: nothing is saved for it."""


@pytest.fixture
def kill_at(monkeypatch):
    """Kill the next run in the given hook, when the given number of steps is done."""

    def arrange(hook, step, call=1):
        original = getattr(TrainingModule, hook)
        calls = []

        def killing(module, *arguments):
            if module.global_step == step:
                calls.append(step)
                if len(calls) == call:
                    monkeypatch.setattr(TrainingModule, hook, original)
                    raise Killed
            return original(module, *arguments)

        monkeypatch.setattr(TrainingModule, hook, killing)

    return arrange


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    "kills",
    [
        [("training_step", 5)],
        [("training_step", 4), ("training_step", 5)],
        [("training_step", 7), ("training_step", 7), ("training_step", 8)],
        [("validation_step", 6), ("training_step", 6)],
        [("training_step", 6), ("validation_step", 9)],
    ],
    ids=str,
)
def test_kills_anywhere_change_nothing(run_steps, left_alone, kill_at, accumulate, kills):
    """Losses, validations, the best model and the weights are those of a run left alone."""
    whole, expected = left_alone(max_steps=10, accumulate=accumulate)
    resume = False
    for hook, step in kills:
        kill_at(hook, step, accumulate if hook == "training_step" else 1)
        with pytest.raises(Killed):
            run_steps("parts", max_steps=10, accumulate=accumulate, resume=resume)
        resume = True
    parts, outcome = run_steps("parts", max_steps=10, accumulate=accumulate, resume=True)
    assert curve(parts) == curve(whole)
    assert outcome == expected
    assert_equal_weights(weights(whole), weights(parts))
    models = [load_model(folder.path) for folder in (whole, parts)]
    assert models[0].step == models[1].step
    assert_equal_weights(*(loaded.model.state_dict() for loaded in models))


def test_without_held_out_pieces_the_last_weights_are_the_model(run_steps, unsplit):
    run_steps("a", max_steps=4, data=unsplit)
    folder, outcome = run_steps("a", max_steps=7, resume=True, data=unsplit)
    assert outcome.best_loss == math.inf
    assert load_model(folder.path).step == 7


def test_sigterm_stops_after_the_step_with_a_checkpoint(run_steps):
    lines = []

    def tell(line):
        lines.append(line)
        if line.startswith("step 3"):
            os.kill(os.getpid(), signal.SIGTERM)

    folder, outcome = run_steps("a", tell=tell)
    assert outcome.stopped
    assert outcome.step == 4
    assert torch.load(folder.last, weights_only=True)["global_step"] == 4
    assert [line["step"] for line in curve(folder) if "validation_loss" in line] == [3]


def test_an_interrupt_before_the_first_step_is_an_interrupt(run_steps, monkeypatch):
    """Lightning makes it an exit of its own, without a word."""

    def interrupt(module):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingModule, "on_fit_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_steps("a")


def test_a_stopped_run_has_its_best_model_and_its_last(run_steps):
    def tell(line):
        if line.startswith("step 3"):
            os.kill(os.getpid(), signal.SIGTERM)

    folder, _ = run_steps("a", tell=tell)
    best, last = (load_model(folder.path, checkpoint=name) for name in ("best", "last"))
    assert (best.step, last.step) == (3, 4)
    saved = {f"model.{name}": value for name, value in last.model.state_dict().items()}
    assert_equal_weights(saved, weights(folder))
    assert not last.model.training
    assert describe_step(folder.path, best) == (
        "step 3 of 4, the best by validation loss; --checkpoint last takes the newest"
    )
    assert describe_step(folder.path, last) == "step 4, the last"


def test_accumulated_parts_equal_the_whole_batch(run_steps):
    still = ModelConfig(d_model=16, n_layers=1, n_heads=2, dropout=0.0)
    whole, _ = run_steps("whole", model=still)
    parts, _ = run_steps("parts", model=still, accumulate=4)
    for a, b in zip(curve(whole), curve(parts), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key] == pytest.approx(b[key], rel=1e-4), key


def test_another_seed_is_another_run(run_steps):
    first, _ = run_steps("a", seed=1)
    second, _ = run_steps("b", seed=2)
    assert curve(first)[0]["loss"] != curve(second)[0]["loss"]


def test_a_loss_that_is_not_a_number_stops_with_step_files_and_advice(run_steps):
    with pytest.raises(UserError) as caught:
        run_steps("a", learning_rate=1e30, grad_clip=0.0, warmup_steps=0)
    message = str(caught.value)
    for part in ("not a number at step", "song-", "train.learning_rate", "1e+30"):
        assert part in message


def test_early_stopping_ends_a_run_that_no_longer_improves(run_steps):
    _, outcome = run_steps(
        "a",
        max_steps=60,
        schedule_steps=None,
        validate_every=1,
        early_stopping=2,
        learning_rate=1e-12,
    )
    assert outcome.step < 10
    assert not outcome.stopped


def test_fine_tuning_begins_with_the_other_runs_weights(run_steps):
    first, _ = run_steps("first")
    second, _ = run_steps(
        "second",
        start=load_model(first.path),
        learning_rate=1e-12,
        freeze=["embedding.*"],
        max_steps=1,
    )
    start = load_model(first.path).model.state_dict()
    end = load_model(second.path).model.state_dict()
    for name in start:
        assert torch.allclose(start[name], end[name], atol=1e-6), name


def test_frozen_parameters_stay_and_others_learn(run_steps):
    first, _ = run_steps("first")
    lines = []
    start, freeze = load_model(first.path), ["stack.layers.*"]
    second, _ = run_steps("second", start=start, freeze=freeze, tell=lines.append)
    assert " of them trained" in lines[0]
    start = load_model(first.path).model.state_dict()
    end = load_model(second.path).model.state_dict()
    for name in start:
        changed = not torch.equal(start[name], end[name])
        assert changed != name.startswith("stack.layers."), name


def test_the_curve_in_bfloat16_lies_on_the_one_in_float32(run_steps):
    losses = []
    for name, precision in (("exact", "32-true"), ("rough", "bf16-mixed")):
        folder, _ = run_steps(name, max_steps=20, schedule_steps=None, precision=precision)
        losses.append([line["loss"] for line in curve(folder) if "loss" in line])
    exact, rough = losses
    assert exact[-1] < exact[0] - 0.3
    assert rough == pytest.approx(exact, rel=0.01)
    assert rough != exact


def test_a_damaged_checkpoint_is_refused(run_steps):
    folder, _ = run_steps("a")
    folder.last.write_bytes(folder.last.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged"):
        run_steps("a", resume=True)


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"global_step": 2}, path)
    assert torch.load(path, weights_only=True) == {"global_step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_impossible_devices_are_named(run_steps):
    with pytest.raises(UserError, match="precision=64-tru"):
        run_steps("a", precision="64-tru")
    with pytest.raises(UserError, match=r"train\.batch_size=4 must be a multiple"):
        run_steps("b", accumulate=3)


def test_metrics_cut_short_by_a_kill_are_still_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    metrics = JsonLinesLogger(path)
    metrics.cut(path.read_text().index("\n") + 1)
    metrics.log_metrics({"loss": 1.0, "gradient_norm": math.inf}, step=2)
    assert read_metrics(path)[1] == {"step": 2, "loss": 1.0, "gradient_norm": None}
    assert metrics.n_bytes == path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("save", range(1, 8))
def test_a_kill_at_any_checkpoint_changes_nothing(
    run_steps, left_alone, tmp_path, monkeypatch, save, when
):
    """Also at the last ones: of the final step, and of the validation after it."""
    settings = {"max_steps": 8, "checkpoint_every": 2, "validate_every": 3}
    whole, expected = left_alone(**settings)
    original, saves = AtomicCheckpointIO.save_checkpoint, []

    def killing(io, checkpoint, path, storage_options=None):
        saves.append(path)
        if len(saves) == save and when == "before":
            raise Killed
        original(io, checkpoint, path, storage_options)
        if len(saves) == save and when == "after":
            raise Killed

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", killing)
    with pytest.raises(Killed):
        run_steps("parts", **settings)
    has_checkpoint = (tmp_path / "parts" / "checkpoints" / "last.ckpt").exists()
    if not has_checkpoint:
        shutil.rmtree(tmp_path / "parts")
    parts, outcome = run_steps("parts", resume=has_checkpoint, **settings)
    assert curve(parts) == curve(whole)
    assert outcome == expected
    assert_equal_weights(weights(whole), weights(parts))


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_checkpoint_is_refused_wherever_it_is_damaged(run_steps, damage):
    folder, _ = run_steps("a")
    content = folder.last.read_bytes()
    expected = read_checkpoint(folder.last, way_out="")["state_dict"]
    rng = random.Random(0)
    for _ in range(40):
        place = rng.randrange(len(content))
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        folder.last.write_bytes(flipped if damage == "flip" else content[:place])
        try:
            found = read_checkpoint(folder.last, way_out="")["state_dict"]
        except UserError:
            continue
        assert_equal_weights(found, expected)
