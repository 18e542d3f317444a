"""`seqgen listen`: turns MIDI files into sound files."""

from typing import Any

import click

from seqgen.commands import FiniteFloat


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.mid...")
@click.option(
    "-o", "--output", metavar="PATH", help="OUT.wav, OUT.ogg or a folder. By default beside FILE."
)
@click.option("--ogg", is_flag=True, help="Write Ogg instead of WAV; OUT.ogg implies it.")
@click.option(
    "--soundfont",
    metavar="FILE",
    help="Soundfont to play with, SF2 or SF3. By default $SEQGEN_SOUNDFONT, or one installed on "
    "the system.",
)
@click.option(
    "--max-minutes",
    type=FiniteFloat(above=0),
    default=30.0,
    show_default=True,
    help="Refuse pieces that last longer than this many minutes.",
)
@click.option("--force", is_flag=True, help="Overwrite existing sound files.")
def listen(files: tuple[str, ...], output: str | None, **options: Any) -> None:
    """Turn MIDI files into WAV or Ogg files, all at the same loudness (-18 LUFS).

    \b
    python cli.py listen song.mid
    python cli.py listen generated/quickstart/*.mid -o sounds --ogg
    """
    from seqgen.commands.listening import execute

    execute(files, output=output, **options)
