"""What a resumed run may change, and how its learning rate goes on."""

import os
from pathlib import Path

import pytest

from seqgen.api.runs import begin, fixed_settings
from seqgen.api.settings import read_resumed
from seqgen.checkpoint import FORMAT, RunFolder
from seqgen.config import Config, load_config, save_config
from seqgen.errors import UserError
from seqgen.files import write_record


@pytest.fixture
def resume(tmp_path):
    """Resume a run of 300 steps by arguments; return its configuration, as it is saved again."""
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    run.last.touch()
    config = load_config(None, ["train.max_steps=300"])
    save_config(config, run.config)
    write_record(run.record, {"settings": fixed_settings(config)}, format=FORMAT)

    def go_on(*arguments) -> Config:
        settings = read_resumed([f"run.dir={run.path}", *arguments])
        with begin(settings, resume=True) as job:
            save_config(job.config, run.config)
        return job.config

    return go_on


def test_a_run_keeps_its_schedule(resume):
    assert resume().train.schedule_ends == [300]
    assert resume("train.max_steps=200").train.schedule_ends == [300]
    assert resume("train.max_steps=300").train.schedule_ends == [300]


def test_more_steps_are_another_cycle(resume):
    assert resume("train.max_steps=500").train.schedule_ends == [300, 500]
    assert resume().train.schedule_ends == [300, 500]
    assert resume("train.max_steps=400").train.schedule_ends == [300, 500]
    assert resume("train.max_steps=900").train.schedule_ends == [300, 500, 900]


def test_a_schedule_that_is_given_is_used(resume):
    assert resume("train.max_steps=500", "train.schedule_steps=500").train.schedule_ends == [500]
    hold = ["train.schedule_steps=500", "train.final_learning_rate=0.1"]
    assert resume("train.max_steps=600", *hold).train.schedule_ends == [500]
    assert resume("train.max_steps=900").train.schedule_ends == [500]  # it stays at the final rate


def test_a_rate_of_zero_is_not_held(resume):
    with pytest.raises(UserError, match=r"set train\.final_learning_rate"):
        resume("train.max_steps=500", "train.schedule_steps=300")


def test_what_would_make_it_another_run_is_refused(resume):
    with pytest.raises(UserError, match=r"train.learning_rate is 0\.001 in .*init_from"):
        resume("train.learning_rate=0.1")


def test_only_the_runs_own_configuration_counts(resume):
    """The quickstart, which names a run by default, has more steps than these."""
    assert resume("train.schedule_steps=300").train.schedule_ends == [300]


def test_the_newest_run_is_resumed_or_the_newest_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="nothing to resume: no run in runs/"):
        read_resumed([])
    names = ["quickstart", "quickstart-2", "quickstart-softmax", "midi"]
    for seconds, name in enumerate(names):
        path = tmp_path / "runs" / name / "config.yaml"
        path.parent.mkdir(parents=True)
        save_config(Config(), path)
        os.utime(path, (seconds, seconds))
    assert read_resumed([]).file == Path("runs/midi/config.yaml")
    named = read_resumed(["configs/quickstart.yaml", "train.log_every=3"])
    assert named.file == Path("runs/quickstart-2/config.yaml")
    with pytest.raises(UserError, match="no run named text"):
        read_resumed(["configs/text.yaml"])
    with pytest.raises(UserError, match="runs/other is not a run"):
        read_resumed(["run.dir=runs/other"])
