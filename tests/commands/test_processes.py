"""One run on several processes, as torchrun and SLURM start them."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from curves import curve
from making import write_songs

from seqgen.checkpoint import RunFolder, last_step, load_model, read_checkpoint
from seqgen.commands import train as train_command  # noqa: F401  # once, before processes fork

CLI = None

SMALL = [
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
    "train.validate_every=3",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.sample_tokens=8",
    "train.warmup_steps=2",
    "train.schedule_steps=12",
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
def alone(place, command_in):
    """The losses of a run in one process; one for the same settings."""

    def run(*settings):
        folder = place / "runs" / ("-".join(["alone", *settings]))
        if not folder.exists():
            code, said = command_in(
                place, "train", *SMALL, f"run.dir={folder}", "train.max_steps=8", *settings
            )
            assert code == 0, said
        return losses(folder)

    return run


@pytest.mark.parametrize(
    "settings",
    [[], ["train.accumulate=2"], ["train.carry_state=true"], ["train.strategy=fsdp"]],
    ids=str,
)
def test_losses_equal_one_process_also_resumed_on_another_number(place, srun, fork, alone, settings):
    run = place / "runs" / "-".join(["srun", *settings])
    common = ["train", *SMALL, f"run.dir={run}", *settings]
    said = end(srun(place, *common, "train.max_steps=3"), 0, 0)
    assert "trained to step 3" in said[0]
    assert said[1] == ""
    code, out = fork(place, "train", "--resume", f"run.dir={run}", "train.max_steps=5").end()
    assert code == 0, out
    end(srun(place, "train", "--resume", f"run.dir={run}", "train.max_steps=8"), 0, 0)
    expected, found = alone(*settings), losses(run)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    assert load_model(run).step == 8
