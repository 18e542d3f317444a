"""`seqgen generate`: a trained run writes new files, from nothing or from prompts."""

import click


@click.command()
@click.argument("run", required=False)
@click.option("--temperature", default=1.0, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=int, help="Keep the k most likely tokens.")
@click.option("--top-p", type=float, help="Keep the most likely tokens of this probability.")
@click.option("--min-p", type=float, help="Keep tokens at least this share as likely as the best.")
@click.option(
    "--typical-p",
    type=float,
    help="Keep tokens of the usual surprise, of this share.",
)
@click.option("--repetition-penalty", default=1.0, show_default=True, help="1 is none.")
@click.option("--frequency-penalty", default=0.0, show_default=True, help="Per time drawn.")
@click.option("--prompt", "prompts", multiple=True, metavar="FILE", help="Continue it; repeatable.")
@click.option("--prompt-bars", type=click.IntRange(1), help="Use the first bars of a prompt only.")
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="Per prompt.")
@click.option("--max-tokens", type=click.IntRange(1), default=2048, show_default=True)
@click.option("--bars", type=click.IntRange(1), help="Stop after so many new bars.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), help="Stop after so much music."
)
@click.option("--seed", type=click.IntRange(0), help="Drawn, shown and recorded if not given.")
@click.option("--endless", is_flag=True, help="Never end by itself; the far past fades.")
@click.option("--window", type=click.IntRange(2, 2**31), help="Positions until the past fades.")
@click.option(
    "--decoder",
    type=click.Choice(("auto", "reference", "torch", "native", "cuda")),
    default="auto",
    show_default=True,
    help="How steps are computed.",
)
@click.option(
    "--weights",
    type=click.Choice(("float32", "bf16", "int8", "w8a8")),
    default="float32",
    show_default=True,
    help="What steps are computed with: fewer bits are faster.",
)
@click.option("--explain", is_flag=True, help="Say what decoder and weights cost, and generate.")
@click.option("--free", is_flag=True, help="Turn the grammar mask off.")
@click.option("--no-png", is_flag=True, help="Write no piano-roll pictures.")
@click.option("--audio", is_flag=True, help="Write a WAV file beside each MIDI file.")
@click.option("--ogg", is_flag=True, help="Write an Ogg file instead.")
@click.option("--soundfont", metavar="FILE", help="SF2 or SF3; $SEQGEN_SOUNDFONT, or the system's.")
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Use the model with the best validation loss, or the newest.",
)
@click.option("--device", help="cpu, cuda or cuda:1; found by itself if not given.")
@click.option("-o", "--output", metavar="DIR", help="Folder for the files [generated/<run>].")
def generate(run: str | None, output: str | None, device: str | None, **options) -> None:
    """Generate with a trained RUN (a run folder); the newest one if not given.

    \b
    python cli.py generate --temperature 0.9
    python cli.py generate runs/mine --prompt song.mid --prompt-bars 8 --bars 16 --seed 7
    """
    from seqgen.commands.generating import execute

    execute(run, output=output, device=device, **options)
