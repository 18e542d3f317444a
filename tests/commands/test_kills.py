"""A run killed at any moment and resumed leaves what a run left alone does."""

import os
import random
import signal
import time

import pytest
import torch
from curves import curve
from making import write_songs

from seqgen.checkpoint import RunFolder, load_model, read_checkpoint
from seqgen.files import TEMPORARY

pytestmark = pytest.mark.slow

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
    "train.weight_formats=false",
]
KILLS = 4


def test_a_run_killed_at_any_moment_is_the_run_left_alone(tmp_path, fork):
    def start(place):
        resume = ["--resume"] if RunFolder(tmp_path / place).last.exists() else []
        return fork(tmp_path, "train", *SETTINGS, f"run.dir={place}", *resume)

    def finish(process):
        code, said = process.end()
        assert code == 0, said

    write_songs(tmp_path / "songs", 6, bars=2)
    begin = time.monotonic()
    finish(start("whole"))
    seconds = time.monotonic() - begin
    parts, whole = RunFolder(tmp_path / "parts"), RunFolder(tmp_path / "whole")
    rng = random.Random(0)
    for _ in range(KILLS):
        process = start("parts")
        time.sleep(rng.uniform(0, seconds))
        os.kill(process.pid, signal.SIGKILL)
        process.end()
    finish(start("parts"))
    assert curve(parts) == curve(whole)
    weights = [read_checkpoint(run.last, way_out="")["state_dict"] for run in (parts, whole)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    models = [load_model(run.path) for run in (parts, whole)]
    assert models[0].step == models[1].step
    names = [sorted(p.name for p in run.path.iterdir()) for run in (parts, whole)]
    assert names[0] == names[1]
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))
