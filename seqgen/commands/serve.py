"""`seqgen serve`: the API for programs, by one process or by replicas on a Ray cluster."""

from typing import Any

import click

from seqgen.commands.studio import with_server_options


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@with_server_options
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What writes: this process, or replicas that Ray Serve runs.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help='Ray cluster that runs already, or "auto" for that of this machine. Default: start one '
    "here, which ends with the command.",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    help="Number of replicas, each with a CPU core. Default: 1.",
)
@click.option(
    "--max-replicas",
    type=click.IntRange(min=1),
    help="Number of replicas up to which more are started while streams wait. Default: that of "
    "--replicas.",
)
def serve(runs: tuple[str, ...], **options: Any) -> None:
    """Serve models to programs, as streams and sessions; /docs there describes the API.

    Offers each RUN that is named, those in runs/, and the model that comes with the package.
    Replicas load those that are named when they start.

    \b
    python cli.py serve runs/mine --port 9000
    python cli.py serve runs/mine --engine ray --replicas 2 --max-replicas 8
    """
    from seqgen.commands.serving import run_server

    run_server(runs, **options)
