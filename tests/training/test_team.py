"""Processes that a launcher has started agree before they begin, or end with a sentence."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch.distributed import TCPStore
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from seqgen.errors import UserError
from seqgen.training import launched, team
from seqgen.training.team import Team, gathered

SLURM = {
    "SLURM_JOB_NAME": "music",
    "SLURM_NTASKS": "4",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "MASTER_ADDR": "127.0.0.1",
}


@pytest.fixture
def teams():
    """Three members of one team, each with a connection of its own to the store."""
    host = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    stores = [TCPStore("127.0.0.1", host.port, is_master=False) for _ in range(3)]
    yield [
        Team(rank, 3, 1, LightningEnvironment(), "127.0.0.1", store, False)
        for rank, store in enumerate(stores)
    ]
    del host  # it answers until here


@pytest.fixture
def in_slurm(monkeypatch):
    def set_variables(**changes):
        for key, value in (SLURM | changes).items():
            monkeypatch.setenv(key, value)

    return set_variables


def test_all_hear_what_the_first_tells_when_all_have_met(teams):
    def member(one):
        one.meet("arrived")
        if one.rank == 0:
            one.tell(run="a")
        return one.hear()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(member, teams)) == [{"run": "a"}] * 3


def test_if_one_fails_those_who_wait_end_and_one_reason_is_left(teams):
    first, second, third = teams
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(second.hear), pool.submit(third.meet, "arrived")]
        assert first.fail("no such file") == "no such file"
        for one in waiting:
            with pytest.raises(UserError, match="another process of this run has ended"):
                one.result()
    assert second.fail("another process") == "no such file"


def test_a_signal_is_no_reason_where_another_process_has_one(teams):
    """torchrun ends a process beside a killed one; who is left on other machines says more."""
    first, second, _ = teams
    assert first.fail(None) is None
    assert second.fail("a process was killed") == "a process was killed"


def test_torchrun_finds_the_reason_where_it_looks_for_it(tmp_path, monkeypatch):
    path = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
    team._leave_for_torchrun("no such file")
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(path))
    assert failure.message["message"] == "no such file"


def test_a_signal_does_not_hide_the_error_that_is_on_its_way():
    with pytest.raises(SystemExit):
        team._end_unless_ending(15, None)
    try:
        raise UserError("a process was killed")
    except UserError:
        team._end_unless_ending(15, None)


def test_who_does_not_come_is_named(teams, monkeypatch):
    monkeypatch.setattr(team, "LIMIT_SECONDS", 0.1)
    with pytest.raises(UserError, match=r"of 3 processes, these have not arrived .*: 1, 2; start"):
        teams[0].meet("arrived")


def test_an_address_where_nothing_listens_is_a_sentence(in_slurm, monkeypatch):
    in_slurm(MASTER_PORT="1")
    monkeypatch.setattr(team, "LIMIT_SECONDS", 0.2)
    said = r"process 3 of 4 on .* reached nothing at 127\.0\.0\.1:1 within"
    with pytest.raises(UserError, match=said), gathered():
        pass


def test_slurm_says_who_a_process_is(in_slurm):
    in_slurm()
    environment, n_nodes, per_node = team._environment()
    assert (environment.global_rank(), environment.local_rank()) == (3, 1)
    assert (environment.world_size(), n_nodes, per_node) == (4, 2, 2)


def test_a_shell_or_a_single_task_of_slurm_is_an_ordinary_process(in_slurm, monkeypatch):
    in_slurm()
    assert launched()
    in_slurm(SLURM_NTASKS="1")
    assert not launched()
    in_slurm(SLURM_JOB_NAME="interactive")
    assert not launched()
    in_slurm()
    monkeypatch.delenv("SLURM_PROCID")
    assert not launched()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SLURM_NTASKS_PER_NODE": "3"}, "4 processes on 2 machines: start as many on each"),
        ({"SLURM_NTASKS_PER_NODE": None}, "without SLURM_NTASKS_PER_NODE: give srun or sbatch"),
    ],
)
def test_uneven_processes_are_refused(in_slurm, monkeypatch, changes, said):
    in_slurm()
    for key, value in changes.items():
        monkeypatch.setenv(key, value) if value else monkeypatch.delenv(key)
    with pytest.raises(UserError, match=said), gathered():
        pass
