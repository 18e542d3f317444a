"""A run folder belongs to one process, and what fails before it has begun leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seqgen.api.runs import begin, fixed_settings, write_config
from seqgen.api.settings import read_config, read_resumed
from seqgen.checkpoint import FORMAT
from seqgen.errors import UserError
from seqgen.files import TEMPORARY, write_record


class Failed(Exception):
    """Something goes wrong before the first step."""


@pytest.fixture(autouse=True)
def _empty_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQGEN_RUN_DIR", "")  # set by write_config


def write_beginnings(job):
    """Write what training writes before its first step."""
    write_record(job.run.record, {"settings": fixed_settings(job.config)}, format=FORMAT)
    write_config(job)
    for folder in (job.run.checkpoints, job.run.path / "tensorboard"):
        folder.mkdir()
    (job.run.path / "tensorboard" / "events").write_text("")


def write_checkpoint(job):
    job.run.metrics.write_text('{"step": 1}\n')
    job.run.last.write_text("checkpoint")


def hold(*arguments, resume=False):
    """Begin a training command, as a context manager."""
    return begin((read_resumed if resume else read_config)(arguments), resume=resume, tell=print)


def attempt(*arguments, work=(), error=None, resume=False):
    """Begin a training command, do some work on the job, and end, maybe with an error."""
    with hold(*arguments, resume=resume) as job:
        for write in work:
            write(job)
        if error is not None:
            raise error
    return job.run


def make_run(place="run.dir=a"):
    return attempt(place, work=[write_beginnings, write_checkpoint])


def write_metrics(job):
    job.run.metrics.write_text('{"step": 1}\n')


def files(folder):
    return {str(path): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_runs_without_a_name_have_folders_of_their_own():
    with hold() as first, hold() as second:
        for job, name in ((first, "runs/quickstart"), (second, "runs/quickstart-2")):
            assert str(job.run.path) == job.config.run.dir == name


def test_a_folder_in_use_is_refused_with_its_process_and_a_way_out():
    said = rf"process {os.getpid()} on .* is training in runs/a: .* or choose another run\.dir"
    with hold("run.dir=runs/a") as job:
        with pytest.raises(UserError, match=said):
            attempt("run.dir=runs/a")
        write_beginnings(job)
        write_checkpoint(job)
        before = files(job.run.path)
        for resume in (False, True):
            with pytest.raises(UserError, match=said):
                attempt("run.dir=runs/a", resume=resume)
        assert files(job.run.path) == before
    attempt("run.dir=runs/a", resume=True)


def test_other_processes_of_a_run_neither_take_nor_lose_its_lock(monkeypatch):
    with hold("run.dir=runs/a") as job:
        write_beginnings(job)
        with monkeypatch.context() as patch:
            patch.setenv("LOCAL_RANK", "1")
            with hold("run.dir=runs/a") as other:
                assert other.config == job.config
        assert job.run.lock.exists()
        with pytest.raises(UserError, match="is training in"):
            attempt("run.dir=runs/a")


@pytest.mark.parametrize("given", [[], ["run.dir=some/where/a"]])
@pytest.mark.parametrize("error", [Failed, KeyboardInterrupt, SystemExit])
def test_what_fails_before_the_first_step_leaves_nothing(tmp_path, given, error):
    with pytest.raises(error):
        attempt(*given, work=[write_beginnings], error=error)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_of_the_user_stays(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(Failed):
        attempt("run.dir=a", work=[write_beginnings], error=Failed)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


def test_what_fails_after_a_step_stays(tmp_path):
    with pytest.raises(Failed):
        attempt("run.dir=a", work=[write_beginnings, write_metrics], error=Failed)
    assert (tmp_path / "a" / "metrics.jsonl").exists()
    assert not (tmp_path / "a" / "lock").exists()


@pytest.mark.parametrize("name", ["config.yaml", "lock", "notes.txt", "samples"])
def test_a_folder_of_the_user_is_refused_and_not_touched(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text("train: {max_steps: 3}")
    (tmp_path / "a" / "thesis.doc").write_text("precious")
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"a holds .* and no run: choose another run\.dir"):
        attempt("run.dir=a")
    assert files(tmp_path) == before


def test_a_run_with_a_checkpoint_is_not_begun_again():
    run = make_run()
    before = files(run.path)
    with pytest.raises(UserError, match="a exists: add --resume"):
        attempt("run.dir=a")
    assert files(run.path) == before


def test_what_a_kill_left_before_the_first_step_is_no_obstacle(tmp_path):
    (tmp_path / "a" / f"{TEMPORARY}x").mkdir(parents=True)
    (tmp_path / "a" / "lock").write_text("process 1 on another\n")
    with hold("run.dir=a") as job:
        assert [path.name for path in job.run.path.iterdir()] == ["lock"]


def test_a_run_that_ended_before_its_first_checkpoint_begins_anew(capsys):
    with pytest.raises(Failed):
        attempt("run.dir=a", work=[write_beginnings, write_metrics], error=Failed)
    with pytest.raises(
        UserError, match="no checkpoint yet; without --resume it starts again from step 0"
    ):
        attempt("run.dir=a", resume=True)
    with hold("run.dir=a") as job:
        assert [path.name for path in job.run.path.iterdir()] == ["lock"]
    assert "a run that ended before its first checkpoint" in capsys.readouterr().out


def test_a_model_without_a_checkpoint_is_not_thrown_away():
    run = make_run()
    run.last.unlink()
    run.model.mkdir()
    with pytest.raises(UserError, match=r"choose another run\.dir, or delete the folder"):
        attempt("run.dir=a")
    assert run.model.exists()


def test_a_resume_that_fails_before_a_checkpoint_leaves_the_configuration():
    run = make_run()
    before = run.config.read_bytes()
    with pytest.raises(Failed):
        attempt("run.dir=a", "train.devices=9", work=[write_config], error=Failed, resume=True)
    assert run.config.read_bytes() == before
    work = [write_config, write_checkpoint]
    with pytest.raises(Failed):
        attempt("run.dir=a", "train.devices=9", work=work, error=Failed, resume=True)
    assert run.config.read_bytes() != before


def test_a_resume_sweeps_what_killed_writers_left(tmp_path):
    run = make_run()
    for place in (run.path, run.checkpoints):
        (place / f"{TEMPORARY}x").mkdir()
        (place / f"{TEMPORARY}x" / "last.ckpt").write_text("half")
    attempt("run.dir=a", resume=True)
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


@pytest.mark.parametrize("where", ["given", "in the file"])
def test_a_setting_that_makes_another_run_is_refused(where):
    run = make_run()
    given = ["train.learning_rate=0.5"] if where == "given" else []
    if where == "in the file":
        text = run.config.read_text()
        run.config.write_text(text.replace("learning_rate: 0.003", "learning_rate: 0.5"))
        assert run.config.read_text() != text
    said = r"train\.learning_rate is 0\.003 in a: resuming cannot change it to 0\.5"
    with pytest.raises(UserError, match=said):
        attempt("run.dir=a", *given, resume=True)


@pytest.mark.parametrize("content", ["", "{", '{"format": 1}', "\udcff"])
def test_a_damaged_or_older_record_is_refused(content):
    make_run().record.write_text(content, errors="surrogateescape")
    with pytest.raises(UserError, match=r"a/run\.json .*: copy it again, or begin a new run"):
        attempt("run.dir=a", resume=True)


def test_a_lock_ends_with_kill_9(tmp_path):
    code = (
        "import time; from seqgen.files import *\n"
        "with locked(Path('a/lock'), if_held=print): print(flush=True); time.sleep(1000)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, env=environment
    )
    process.stdout.readline()
    with pytest.raises(UserError, match=f"process {process.pid} on"):
        attempt("run.dir=a")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    attempt("run.dir=a")
