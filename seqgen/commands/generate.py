"""`seqgen generate`: a trained run writes new files, from nothing or from prompts."""

import click

from seqgen.commands import FiniteFloat


@click.command()
@click.argument("run", required=False)
@click.option(
    "--temperature",
    type=FiniteFloat(),
    default=1.0,
    show_default=True,
    help="Sampling temperature; 0 picks the most likely token.",
)
@click.option("--top-k", type=int, help="Sample from the k most likely tokens only.")
@click.option(
    "--top-p",
    type=FiniteFloat(),
    help="Nucleus sampling: keep the most likely tokens up to this probability mass.",
)
@click.option(
    "--min-p",
    type=FiniteFloat(),
    help="Keep tokens at least this fraction as likely as the most likely one.",
)
@click.option(
    "--typical-p",
    type=FiniteFloat(),
    help="Locally typical sampling: keep the tokens closest to the expected surprise, up to this "
    "probability mass.",
)
@click.option(
    "--repetition-penalty",
    type=FiniteFloat(),
    default=1.0,
    show_default=True,
    help="Make tokens that occurred before less likely; 1 changes nothing.",
)
@click.option(
    "--frequency-penalty",
    type=FiniteFloat(),
    default=0.0,
    show_default=True,
    help="Subtract this from a token's logit for each time it was generated.",
)
@click.option(
    "--prompt", "prompts", multiple=True, metavar="FILE", help="Continue this file; repeatable."
)
@click.option(
    "--prompt-bars", type=click.IntRange(1), help="Use only this many first bars of a prompt."
)
@click.option(
    "--samples",
    "n_samples",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Samples per prompt.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    help="The most new tokens of a sample.",
)
@click.option("--bars", type=click.IntRange(1), help="Stop after this many new bars.")
@click.option(
    "--seconds", type=FiniteFloat(above=0), help="Stop after this many seconds of new music."
)
@click.option(
    "--seed", type=click.IntRange(0), help="Random seed; chosen at random and recorded if omitted."
)
@click.option("--endless", is_flag=True, help="Do not end before --max-tokens; the past decays.")
@click.option(
    "--window", type=click.IntRange(2, 2**31), help="Let the past decay after this many positions."
)
@click.option(
    "--decoder",
    type=click.Choice(("auto", "reference", "torch", "native", "cuda")),
    default="auto",
    show_default=True,
    help="Implementation of the decode steps.",
)
@click.option(
    "--weights",
    type=click.Choice(("float32", "bf16", "int8", "w8a8")),
    default="float32",
    show_default=True,
    help="Number format of the weights; fewer bits are faster.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="First compare the decoder and its weight formats: loss and time.",
)
@click.option(
    "--free", is_flag=True, help="Allow tokens in any order, without the grammar of the tokenizer."
)
@click.option("--no-png", is_flag=True, help="Do not write piano-roll pictures.")
@click.option("--audio", is_flag=True, help="Write a WAV file beside each MIDI file.")
@click.option("--ogg", is_flag=True, help="Write an Ogg file beside each MIDI file.")
@click.option(
    "--soundfont", metavar="FILE", help="SF2 or SF3 [$SEQGEN_SOUNDFONT, or the system's]."
)
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Use the model with the best validation loss, or the newest.",
)
@click.option("--device", help="cpu, cuda or cuda:1 [cuda if available].")
@click.option("-o", "--output", metavar="DIR", help="Folder for the files [generated/<run>].")
def generate(run: str | None, output: str | None, device: str | None, **options) -> None:
    """Generate with a trained RUN (a run folder); the newest one if not given.

    \b
    python cli.py generate --temperature 0.9
    python cli.py generate runs/mine --prompt song.mid --prompt-bars 8 --bars 16 --seed 7
    """
    from seqgen.commands.generating import execute

    execute(run, output=output, device=device, **options)
