"""The work of `seqgen train`: prepare data, train, compare the loss with n-gram models."""

import os
import platform
import shlex
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from math import log
from pathlib import Path

import click
import numpy as np
import torch
from rich.table import Table

from seqgen.checkpoint import FORMAT, LoadedModel, describe_step, load_model, read_run
from seqgen.commands.prepare import prepare_and_report
from seqgen.commands.runs import Job, fixed_settings, write_config
from seqgen.commands.settings import PROJECT, console, pick_device, say
from seqgen.config import FALLING
from seqgen.data.batches import held_out_pieces
from seqgen.data.shards import PreparedData
from seqgen.data.splits import VALIDATION
from seqgen.decoding import build_decoder, generate
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.likelihood import Range, nats_by_position
from seqgen.evaluation.ngrams import Score, ngram_scores
from seqgen.files import atomic_path, json_ready, write_record
from seqgen.midi import open_midi
from seqgen.rendering.piano_roll import piano_roll_image
from seqgen.sampling import Sampling
from seqgen.training.module import TrainingModule
from seqgen.training.schedules import describe_schedule
from seqgen.training.trainer import Outcome, train

PACKAGES = ("torch", "pytorch-fast-transformers", "pytorch-lightning", "miditok", "numpy")


def execute(job: Job, *, show_progress: bool) -> Outcome:
    """Prepare data, train, and print the results."""
    data = _open_data(job)
    if "LOCAL_RANK" not in os.environ:
        if not job.resume:
            _record(job, data)
        write_config(job)
    say(f"run folder: {job.run.path}")
    _tell_schedule(job)
    start = time.perf_counter()
    outcome = train(
        job.run,
        data,
        job.config.model,
        job.config.train,
        seed=job.config.run.seed,
        kernel=job.config.attention.kernel,
        resume=job.resume,
        start=job.start,
        draw_sample=_sample_drawer(job, data),
        tell=click.echo,  # through sys.stdout, where the progress bar makes room for it
        show_progress=show_progress,
    )
    if outcome.is_main:
        loaded = load_model(job.run.path)
        if outcome.stopped:
            _tell_stopped(job.run.path, outcome, loaded)
        else:
            seconds = time.perf_counter() - start
            said = describe_step(job.run.path, loaded)
            say(f"trained to step {outcome.step:,} in {seconds:.0f} s")
            say(f"model: {job.run.model} ({said})")
            _tell_scores(job, data, outcome, loaded)
    return outcome


def _tell_stopped(run: Path, outcome: Outcome, loaded: LoadedModel) -> None:
    """Say how to resume, and which model can generate until then."""
    resume, generate = ["train", "--resume", f"run.dir={run}"], ["generate", str(run)]
    said = describe_step(run, loaded)
    say(f"stopped at step {outcome.step:,}; resume with: python cli.py {shlex.join(resume)}")
    say(f"until then, generate with: python cli.py {shlex.join(generate)} ({said})")


def _tell_schedule(job: Job) -> None:
    """Say how the learning rate changes, and the alternative where a resumed run repeats it."""
    train = job.config.train
    say(describe_schedule(train))
    if job.resume and train.schedule in FALLING and len(train.schedule_ends) > 1:
        end = train.schedule_ends[-2]
        say(
            f"  (to continue at a constant rate after step {end:,} instead: "
            f"train.schedule_steps={end} train.final_learning_rate=0.1, a tenth of the peak)"
        )


def _open_data(job: Job) -> PreparedData:
    """Prepare the data of a new run; for a resumed run, check that the data are the same."""
    if not job.resume:
        return prepare_and_report(job.config, job.start and job.start.tokenizer)
    record = read_run(job.run)
    if Path(record["data"]).is_dir():
        data = PreparedData(Path(record["data"]))
    else:
        start = job.config.train.init_from
        data = prepare_and_report(job.config, start and load_model(Path(start)).tokenizer)
    if data.index["content"] != record["data_content"]:
        raise UserError(
            f"the data in {data.folder} is no longer what {job.run.path} was trained on: "
            f"restore the old files, or begin a new run with train.init_from={job.run.path}"
        )
    return data


def _record(job: Job, data: PreparedData) -> None:
    """Write what is needed to reproduce the run."""
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    write_record(
        job.run.record,
        {
            "revision": revision.stdout.strip() or None,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in PACKAGES},
            "threads": torch.get_num_threads(),
            "data": str(data.folder.resolve()),
            "data_content": data.index["content"],
            "settings": fixed_settings(job.config),
        },
        format=FORMAT,
    )


def _sample_drawer(job: Job, data: PreparedData):
    """Return a function that generates and saves a piece at validation, and pictures MIDI."""
    n_tokens = job.config.train.sample_tokens
    if n_tokens == 0:
        return None

    def draw(module: TrainingModule) -> np.ndarray | None:
        vocabulary = data.tokenizer.vocabulary
        prompt = vocabulary.special_token(vocabulary.bos_id)[None]
        steps = generate(
            build_decoder(module.model),
            [prompt],
            sampling=Sampling(temperature=0.9),
            max_tokens=n_tokens,
            seed=job.config.run.seed,
        )
        ids = np.concatenate([step.tokens for step in steps])
        path = job.run.path / "samples" / f"step-{module.global_step:06d}{data.tokenizer.suffix}"
        with atomic_path(path) as temporary:
            data.tokenizer.decode(ids, temporary)
        if data.tokenizer.suffix != ".mid":
            return None
        try:
            return piano_roll_image(open_midi(path))
        except FileRejected:  # an early model may draw no whole note
            return None

    return draw


def _tell_scores(job: Job, data: PreparedData, outcome: Outcome, loaded: LoadedModel) -> None:
    """Print and save the loss of the model and of n-gram models on the same pieces."""
    if not data.of_split(VALIDATION):
        say("no piece was held out, so there is no validation loss")
        return
    pieces = held_out_pieces(data, VALIDATION, max_targets=job.config.train.validation_tokens)
    scores = [Score("this model", outcome.best_loss, outcome.best_bits_per_unit)]
    if job.config.train.ngram_models and data.index["n_fields"] == 1:
        with console.status("counting n-grams"):
            scores = [*ngram_scores(data, pieces), *scores]
    unit = data.tokenizer.unit
    table = Table(title=f"Validation: {len(pieces)} pieces held out, the same for every row")
    table.add_column("model")
    for column in ("nats per token", "bits per token", f"bits per {unit}"):
        table.add_column(column, justify="right")
    for score in scores:
        bits = f"{score.nats_per_token / log(2):.3f}"
        table.add_row(score.name, f"{score.nats_per_token:.3f}", bits, f"{score.bits_per_unit:.3f}")
    console.print(table)
    with console.status("scoring whole pieces"):
        device = "cpu" if job.config.train.accelerator == "cpu" else pick_device(None)
        ranges = nats_by_position(loaded.model.to(device), data, pieces)
    console.print(_by_position(ranges))
    write_record(
        job.run.validation,
        {
            "step": outcome.step,
            "unit": unit,
            "tokenizer": job.config.tokenizer.type,
            "scores": json_ready([vars(score) for score in scores]),
            "by_position": json_ready([vars(part) for part in ranges]),
        },
        format=FORMAT,
    )


def _by_position(ranges: Sequence[Range]) -> Table:
    table = Table(title="Whole pieces, by position")
    for column in ("positions", "targets", "nats per token", "bits per token"):
        table.add_column(column, justify="right")
    for part in ranges:
        place = f"{part.start}…{part.stop - 1}"
        nats = part.nats_per_token
        table.add_row(place, f"{part.targets:,}", f"{nats:.3f}", f"{nats / log(2):.3f}")
    return table
