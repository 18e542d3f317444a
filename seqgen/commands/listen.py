"""`seqgen listen`: MIDI files as sound."""

import click


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.mid...")
@click.option("-o", "--output", metavar="PATH", help="OUT.wav, OUT.ogg or a folder [beside FILE].")
@click.option("--ogg", is_flag=True, help="Write Ogg where -o names no file.")
@click.option("--soundfont", metavar="FILE", help="SF2 or SF3; $SEQGEN_SOUNDFONT, or the system's.")
@click.option(
    "--synthesizer",
    type=click.Choice(("auto", "fluidsynth", "symusic")),
    default="auto",
    show_default=True,
    help="auto is FluidSynth; symusic plays most soundfonts out of tune.",
)
@click.option(
    "--max-minutes",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="Refuse longer pieces.",
)
@click.option("--force", is_flag=True, help="Overwrite sound files that are there.")
def listen(files: tuple[str, ...], output: str | None, **options) -> None:
    """Play MIDI files into WAV or Ogg files, all at the same loudness.

    \b
    python cli.py listen song.mid
    python cli.py listen generated/quickstart/*.mid -o sounds --ogg
    """
    from seqgen.commands.listening import execute

    execute(files, output=output, **options)
