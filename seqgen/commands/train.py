"""`seqgen train`: from files to a run folder, with a table of losses at the end."""

import os
import sys

import click


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
    from seqgen.api.settings import adapting, describe_settings, read_config, read_resumed
    from seqgen.commands.settings import console, device_settings, say
    from seqgen.errors import UserError

    if adapt is not None:
        if resume:
            raise UserError("--adapt begins a run and --resume goes on with one: give one of them")
        arguments = adapting(adapt, arguments)
    # Mistakes are reported before anything heavy is loaded.
    read = read_resumed if resume else read_config
    settings = read((*arguments, *device_settings(device)))
    if settings.config.train.devices not in (1, "auto"):
        # Processes that share cores must not spin while they wait; torch reads this when loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from seqgen.api.runs import begin
    from seqgen.commands.training import execute

    is_main = int(os.environ.get("LOCAL_RANK", "0")) == 0
    console.quiet = not is_main
    with begin(settings, resume=resume, tell=say) as job:
        say(f"configuration: {job.run.config}" if resume else describe_settings(settings))
        outcome = execute(job, show_progress=is_main and sys.stderr.isatty())
    if outcome.stopped:
        raise click.exceptions.Exit(130)
