"""`seqgen studio`: the studio in the browser, and the same as an HTTP API."""

from collections.abc import Callable
from typing import Any

import click

SERVER_OPTIONS = (
    click.option(
        "--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="Port."
    ),
    click.option(
        "--host",
        default="127.0.0.1",
        show_default=True,
        help="Address to listen on. Any other than this machine's own needs a token, which is part "
        "of the address that is printed.",
    ),
    click.option(
        "--projects",
        default="projects",
        show_default=True,
        metavar="DIR",
        help="Folder in which projects and sessions are kept.",
    ),
    click.option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=NUMBER",
        help="Change a limit, such as max_streams=32. Repeatable; docs/studio.md lists them.",
    ),
)


def with_server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all servers have to a command."""
    for option in reversed(SERVER_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@with_server_options
@click.option("--no-browser", is_flag=True, help="Do not open the browser.")
def studio(runs: tuple[str, ...], **options: Any) -> None:
    """Play, branch and shape pieces in the browser; /docs there describes the API.

    Offers each RUN that is named, those in runs/, and the model that comes with the package.

    \b
    python cli.py studio
    python cli.py studio runs/mine --port 9000
    """
    from seqgen.commands.serving import run_studio

    run_studio(runs, **options)
