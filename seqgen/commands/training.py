"""The work of `seqgen train`: what is printed before, during and after training."""

import shlex
import time
from collections.abc import Sequence
from math import log
from pathlib import Path

import click
from rich.table import Table

from seqgen.api.jobs import Scores, measure_formats, open_data, score_job, train_job
from seqgen.api.runs import Job
from seqgen.api.settings import pick_device
from seqgen.checkpoint import LoadedModel, describe_step, load_model
from seqgen.commands.prepare import prepare_and_report
from seqgen.commands.settings import console, say
from seqgen.config import FALLING
from seqgen.evaluation.likelihood import Range
from seqgen.files import counted
from seqgen.training.schedules import describe_schedule
from seqgen.training.trainer import Outcome


def execute(job: Job, *, show_progress: bool) -> Outcome:
    """Prepare data, train, and print the results."""
    data = open_data(job, prepare_and_report)
    say(f"run folder: {job.run.path}")
    _tell_schedule(job)
    start = time.perf_counter()
    # Lines go through sys.stdout, where the progress bar makes room for them.
    tell = click.echo if job.is_first else lambda line: None
    outcome = train_job(job, data, tell=tell, show_progress=show_progress)
    if outcome.is_main:
        device = "cpu" if job.config.train.accelerator == "cpu" else pick_device(None)
        loaded = load_model(job.run.path, device=device)
        if outcome.stopped:
            _tell_stopped(job.run.path, outcome, loaded)
        else:
            seconds = time.perf_counter() - start
            said = describe_step(job.run.path, loaded)
            say(f"trained to step {outcome.step:,} in {seconds:.0f} s")
            say(f"model: {job.run.model} ({said})")
            with console.status("scoring held-out pieces"):
                scores = score_job(job, data, outcome, loaded)
            _tell_scores(scores, data.tokenizer.unit)
            with console.status("measuring number formats of the weights"):
                measure_formats(job, loaded)
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


def _tell_scores(scores: Scores | None, unit: str) -> None:
    """Print the model's loss beside n-gram models on the same pieces."""
    if scores is None:
        say("no piece was held out, so there is no validation loss")
        return
    title = f"Validation: {counted(scores.n_pieces, 'piece')} held out, the same for every row"
    table = Table(title=title)
    table.add_column("model")
    for column in ("nats per token", "bits per token", f"bits per {unit}"):
        table.add_column(column, justify="right")
    for score in scores.models:
        bits = f"{score.nats_per_token / log(2):.3f}"
        table.add_row(score.name, f"{score.nats_per_token:.3f}", bits, f"{score.bits_per_unit:.3f}")
    console.print(table)
    console.print(_by_position(scores.by_position))


def _by_position(ranges: Sequence[Range]) -> Table:
    table = Table(title="Whole pieces, by position")
    for column in ("positions", "targets", "nats per token", "bits per token"):
        table.add_column(column, justify="right")
    for part in ranges:
        place = f"{part.start}…{part.stop - 1}"
        nats = part.nats_per_token
        table.add_row(place, f"{part.targets:,}", f"{nats:.3f}", f"{nats / log(2):.3f}")
    return table
