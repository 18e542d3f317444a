"""`seqgen show`: MIDI files as piano rolls, and runs as loss curves."""

import click


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.mid|RUN...")
@click.option("-o", "--output", metavar="PATH", help="OUT.png, OUT.svg or a folder [beside FILE].")
@click.option("--svg", is_flag=True, help="Write SVG instead of PNG; OUT.svg implies it.")
@click.option("--dark", is_flag=True, help="Use the dark theme.")
@click.option("--from-bar", type=click.IntRange(1), help="Start at this bar.")
@click.option("--bars", type=click.IntRange(1), help="Show this many bars.")
@click.option("--force", is_flag=True, help="Overwrite existing pictures.")
def show(files: tuple[str, ...], output: str | None, **options) -> None:
    """Draw MIDI files as piano rolls, and run folders as loss curves.

    \b
    python cli.py show song.mid
    python cli.py show generated/quickstart/*.mid -o pictures --dark
    python cli.py show runs/quickstart -o losses.svg
    """
    from seqgen.commands.showing import execute

    execute(files, output=output, **options)
