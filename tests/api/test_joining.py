"""A process joins the run of another machine, or says what the machines do not share."""

import pytest

from seqgen.api import runs
from seqgen.api.jobs import open_data
from seqgen.api.runs import Job
from seqgen.checkpoint import FORMAT, RunFolder
from seqgen.config import Config
from seqgen.errors import UserError
from seqgen.files import write_record


class Second:
    """Another process than the first."""

    rank = 1


@pytest.fixture
def run(tmp_path):
    """A run folder as the first process has begun it."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.lock.write_text("process 7 on one\n")
    folder.config.write_text("")
    write_record(
        folder.record, {"data": str(tmp_path / "data"), "data_content": "a"}, format=FORMAT
    )
    return folder


def test_the_folder_that_the_first_process_holds_is_joined(run):
    facts = {"run": str(run.path), "held_by": "process 7 on one\n"}
    assert runs._shared_folder(facts).path == run.path


@pytest.mark.parametrize("holder", [None, "process 8 on another\n"])
def test_a_folder_that_is_not_shared_is_named(run, monkeypatch, holder):
    monkeypatch.setattr(runs, "VISIBLE_SECONDS", 0.1)
    run.lock.write_text(holder) if holder else run.lock.unlink()
    facts = {"run": str(run.path), "held_by": "process 7 on one\n"}
    said = rf"{run.path} is not the folder that process 7 on one writes to: choose a run\.dir"
    with pytest.raises(UserError, match=said):
        runs._shared_folder(facts)


def test_a_machine_without_the_prepared_data_is_told_where_they_belong(run):
    job = Job(run, Config(), resume=False, start=None, team=Second())
    with pytest.raises(UserError, match=r"no prepared data in .*data: choose a data\.prepared_dir"):
        open_data(job, prepare=None)
