"""A run killed at any moment and resumed leaves what a run left alone does."""

import os
import random
import signal
import sys
import time
import traceback

import pytest
import torch
from curves import curve
from making import write_songs

import seqgen.api.jobs  # noqa: F401  # once, here, and not in each process
from seqgen.checkpoint import RunFolder, load_model, read_checkpoint
from seqgen.commands import main
from seqgen.files import TEMPORARY

SETTINGS = [
    "data.source=songs",
    "data.transpose=0",
    "data.validation=0.2",
    "data.workers=1",
    "model.d_model=16",
    "model.n_layers=1",
    "model.n_heads=2",
    "train.accelerator=cpu",
    "train.batch_size=4",
    "train.context_length=32",
    "train.max_steps=12",
    "train.validate_every=5",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.warmup_steps=2",
    "train.sample_tokens=0",
    "train.ngram_models=false",
]
KILLS = 4


@pytest.fixture
def start(tmp_path):
    """Start a training command in a process of its own, which has loaded everything already."""

    def run(*arguments):
        process = os.fork()
        if process:
            return process
        try:
            os.chdir(tmp_path)
            os.dup2(os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
            os.dup2(1, 2)
            sys.argv = ["seqgen", "train", *SETTINGS, *arguments]
            main()
        except SystemExit as ended:
            os._exit(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        os._exit(99)

    return run


def end(process, folder):
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code == 0, (folder / "out.txt").read_text()


def test_a_run_killed_at_any_moment_is_the_run_left_alone(tmp_path, start):
    write_songs(tmp_path / "songs", 6, bars=2)
    begin = time.monotonic()
    end(start("run.dir=whole"), tmp_path)
    seconds = time.monotonic() - begin
    parts, whole = RunFolder(tmp_path / "parts"), RunFolder(tmp_path / "whole")
    rng = random.Random(0)
    for _ in range(KILLS):
        process = start("run.dir=parts", *(["--resume"] if parts.last.exists() else []))
        time.sleep(rng.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    end(start("run.dir=parts", *(["--resume"] if parts.last.exists() else [])), tmp_path)
    assert curve(parts) == curve(whole)
    weights = [read_checkpoint(run.last, way_out="")["state_dict"] for run in (parts, whole)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    models = [load_model(run.path) for run in (parts, whole)]
    assert models[0].step == models[1].step
    names = [sorted(p.name for p in run.path.iterdir()) for run in (parts, whole)]
    assert names[0] == names[1]
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))
