"""One run on several processes, as torchrun and SLURM start them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from curves import curve
from making import write_songs

from seqgen.checkpoint import RunFolder, last_step, load_model

pytestmark = pytest.mark.slow

CLI = Path(__file__).parents[2] / "cli.py"

TRAIN = [
    "train",
    "data.source=songs",
    "data.transpose=0",
    "data.validation=0.4",
    "model.d_model=16",
    "model.n_layers=2",
    "model.n_heads=2",
    "model.dropout=0.0",
    "train.accelerator=cpu",
    "train.batch_size=4",
    "train.context_length=24",
    "train.validate_every=4",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.sample_tokens=0",
    "train.warmup_steps=2",
    "train.schedule_steps=12",
    "train.final_learning_rate=0.1",
    "train.ngram_models=false",
    "train.weight_formats=false",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_songs(folder / "songs", 10, bars=4)
    return folder


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def srun(fork):
    """Start a command as srun would, on two machines with a process each, or on one with two."""

    def start(folder, *arguments, n_nodes=2, size=2, **more):
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NAME": "music",
            "SLURM_NNODES": str(n_nodes),
            "SLURM_NTASKS": str(size),
            "SLURM_NTASKS_PER_NODE": str(size // n_nodes),
            **more,
        }
        started = []
        for rank in range(size):
            node, local = divmod(rank, size // n_nodes)
            own = {"SLURM_PROCID": rank, "SLURM_LOCALID": local, "SLURM_NODEID": node}
            environment = common | {key: str(value) for key, value in own.items()}
            started.append(fork(folder, *arguments, environment=environment))
        return started

    return start


def end(processes, *codes):
    ended = [process.end() for process in processes]
    assert [code for code, _ in ended] == list(codes), ended
    return [said for _, said in ended]


def losses(run):
    """All losses and gradient norms, by name and step."""
    return {
        (key, line["step"]): value
        for line in curve(RunFolder(run))
        for key, value in line.items()
        if key in ("loss", "validation_loss", "gradient_norm")
    }


@pytest.fixture
def alone(place, fork):
    """The losses of eight steps in one process, made once for the same settings."""

    def run(*settings):
        folder = place / "-".join(["alone", *settings])
        if not folder.exists():
            end([fork(place, *TRAIN, f"run.dir={folder}", "train.max_steps=8", *settings)], 0)
        return losses(folder)

    return run


def assert_equal_losses(run, expected):
    found = losses(run)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)


DDP, FSDP = "train.strategy=auto", "train.strategy=fsdp"


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ([], [(2, 4, DDP), (1, 8, DDP)]),
        (
            ["train.carry_state=true", "train.accumulate=2"],
            [(2, 3, DDP), (1, 5, DDP), (2, 8, DDP)],
        ),
        ([], [(2, 3, FSDP), (1, 5, FSDP), (1, 6, DDP), (2, 8, FSDP)]),
    ],
    ids=["ddp", "carried", "fsdp"],
)
def test_losses_equal_one_process_also_resumed_on_other_numbers(
    place, srun, fork, alone, request, settings, parts
):
    """Each part: processes, last step and strategy."""
    run = place / request.node.callspec.id
    begin = [*TRAIN, *settings]
    for n, last, strategy in parts:
        command = [*begin, f"run.dir={run}", f"train.max_steps={last}", strategy]
        said = end(srun(place, *command) if n > 1 else [fork(place, *command)], *[0] * n)
        assert f"trained to step {last}" in said[0]
        assert not any(said[1:])
        assert RunFolder(run).last.is_dir() == (strategy == FSDP)
        begin = ["train", "--resume"]
    assert_equal_losses(run, alone(*settings))
    assert load_model(run, checkpoint="last").step == load_model(run).step == 8


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_with_a_sentence_and_a_checkpoint(place, srun, alone, victim):
    run = place / f"killed-{victim}"
    settings = [*TRAIN, f"run.dir={run}", "train.max_steps=4000", "train.validate_every=4000"]
    processes = srun(place, *settings)
    while (last_step(RunFolder(run)) or 0) < 2 and not any(one.has_ended() for one in processes):
        time.sleep(0.02)
    os.kill(processes[victim].pid, signal.SIGKILL)
    ended = [process.end() for process in processes]
    assert ended[victim][0] == -signal.SIGKILL
    code, said = ended[1 - victim]
    assert code == 1
    assert said.count("Error:") == 1
    assert "another process of this run ended or cannot be reached, after step" in said
    assert f"with python cli.py train --resume run.dir={run}" in said
    reached = last_step(RunFolder(run))
    assert f"resume from step {reached:,}, on any number of processes" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.max_stepz=3"], "train.max_stepz is not a known key"),
        (["train.devices=3"], "train.devices=3: each machine has 1 processes"),
        (["train.batch_size=3"], "train.batch_size=3 must be a multiple of"),
    ],
)
def test_a_mistake_is_said_once_by_one_process(place, srun, settings, said):
    out = "".join(end(srun(place, *TRAIN, "run.dir=refused", *settings), 1, 1))
    assert out.count("Error:") == 1
    assert said in out
    assert not (place / "refused").exists()


@pytest.mark.slow
def test_torchrun_trains_as_one_process(place, alone, tmp_path):
    """Started as a user does: torchrun's store, error files and environment."""
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = [*launcher, str(CLI), *TRAIN, f"run.dir={run}", "train.max_steps=8"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_equal_losses(run, alone())
