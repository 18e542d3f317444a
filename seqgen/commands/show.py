"""`seqgen show`: MIDI files as piano rolls, and runs as loss curves."""

from typing import Any

import click


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.mid|RUN...")
@click.option(
    "-o", "--output", metavar="PATH", help="OUT.png, OUT.svg or a folder. By default beside FILE."
)
@click.option("--svg", is_flag=True, help="Write SVG instead of PNG; OUT.svg implies it.")
@click.option("--dark", is_flag=True, help="Use the dark theme. By default the light one.")
@click.option("--from-bar", type=click.IntRange(1), help="First bar to show. By default 1.")
@click.option("--bars", type=click.IntRange(1), help="Number of bars to show. By default all.")
@click.option("--force", is_flag=True, help="Overwrite existing pictures.")
def show(files: tuple[str, ...], output: str | None, **options: Any) -> None:
    """Draw MIDI files as piano rolls, and run folders as loss curves.

    \b
    python cli.py show song.mid
    python cli.py show generated/quickstart/*.mid -o pictures --dark
    python cli.py show runs/quickstart -o losses.svg
    """
    from seqgen.commands.showing import execute

    execute(files, output=output, **options)
