"""`seqgen train`: from files to a run folder, with a table of losses at the end."""

import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from seqgen.api.settings import Settings


@click.command()
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [KEY=VALUE]...")
@click.option(
    "--resume",
    is_flag=True,
    help="Resume a stopped run exactly: the one in run.dir, or the newest.",
)
@click.option(
    "--adapt",
    metavar="RUN",
    help="Go on from a trained run with files of your own, few as they may be: "
    "--adapt RUN data.source=FOLDER, by the settings in configs/adapt.yaml.",
)
@click.option(
    "--device", help="Device to compute on: cpu, cuda or cuda:1. By default a GPU if there is one."
)
def train(arguments: tuple[str, ...], resume: bool, adapt: str | None, device: str | None) -> None:
    """Train a model with the settings in CONFIG, a YAML file.

    Without CONFIG: configs/quickstart.yaml, or configs/midi.yaml if data.source is given (text.yaml
    for tokenizer.type=bytes). KEY=VALUE replaces a setting of the file.

    \b
    python cli.py train
    python cli.py train data.source=FOLDER run.dir=runs/mine
    python cli.py train configs/pop909.yaml data.source=FOLDER train.max_steps=2000
    python cli.py train --resume run.dir=runs/mine
    python cli.py train --adapt runs/mine data.source=FOLDER
    """
    from seqgen.api.settings import describe_settings
    from seqgen.commands.settings import console, say
    from seqgen.training import launched

    settings = None
    if launched():
        # torch reads these when it is loaded: waiting processes do not spin on the cores of others,
        # and its stacks of frames do not hide the sentence that says what failed.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    else:
        # Mistakes are reported before anything heavy is loaded.
        settings = _read(arguments, resume, adapt, device)
        if settings.config.train.devices not in (1, "auto"):
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from seqgen.api.runs import begin, is_first
    from seqgen.commands.training import execute
    from seqgen.training.team import gathered

    with gathered() as team:
        is_main = is_first(team)
        console.quiet = not is_main
        if is_main and settings is None:
            settings = _read(arguments, resume, adapt, device)
        with begin(settings, resume=resume, tell=say, team=team) as job:
            if settings is not None:
                say(f"configuration: {job.run.config}" if resume else describe_settings(settings))
            outcome = execute(job, show_progress=is_main and sys.stderr.isatty())
    if outcome.stopped and is_main:
        raise click.exceptions.Exit(130)


def _read(
    arguments: tuple[str, ...], resume: bool, adapt: str | None, device: str | None
) -> "Settings":
    from seqgen.api.settings import adapting, read_config, read_resumed
    from seqgen.commands.settings import device_settings
    from seqgen.errors import UserError

    if adapt is not None:
        if resume:
            raise UserError("--adapt begins a run and --resume goes on with one: give one of them")
        arguments = adapting(adapt, arguments)
    return (read_resumed if resume else read_config)((*arguments, *device_settings(device)))
