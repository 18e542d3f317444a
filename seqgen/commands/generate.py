"""`seqgen generate`: write new files with a trained run, from scratch or from prompts."""

from typing import Any

import click

from seqgen.commands import ByField, FiniteFloat


@click.command()
@click.argument("run", required=False)
@click.option(
    "--temperature",
    type=ByField(FiniteFloat()),
    default=1.0,
    show_default=True,
    help="Sampling temperature; 0 picks the most likely token. This and the options down to "
    "--frequency-penalty may differ between the fields of compound tokens: "
    "pitch=0.9,velocity=1.2, or 0.9,velocity=1.2 with a number for all others.",
)
@click.option(
    "--top-k",
    type=ByField(click.INT),
    help="Sample from the k most likely tokens only. By default from all.",
)
@click.option(
    "--top-p",
    type=ByField(FiniteFloat()),
    help="Nucleus sampling: keep the most likely tokens up to this probability mass, 0 to 1.",
)
@click.option(
    "--min-p",
    type=ByField(FiniteFloat()),
    help="Keep tokens whose probability is at least this fraction, 0 to 1, of the highest one.",
)
@click.option(
    "--typical-p",
    type=ByField(FiniteFloat()),
    help="Locally typical sampling: keep the tokens closest to the expected surprise, up to this "
    "probability mass, 0 to 1.",
)
@click.option(
    "--repetition-penalty",
    type=ByField(FiniteFloat()),
    default=1.0,
    show_default=True,
    help="Values above 1 make tokens that occurred before less likely; 1 changes nothing.",
)
@click.option(
    "--frequency-penalty",
    type=ByField(FiniteFloat()),
    default=0.0,
    show_default=True,
    help="Subtract this from the logit of a token for each time it was generated.",
)
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="FILE",
    help="Continue this file. Repeatable. By default samples start from scratch.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FILE",
    help="Write a target for this file, with a run that was trained with data.pairs. Repeatable.",
)
@click.option(
    "--prompt-bars",
    type=click.IntRange(1),
    help="Use only this many bars of each prompt, from its start. By default all.",
)
@click.option(
    "--prompt-rows",
    type=click.IntRange(1),
    help="Use only this many rows of each prompt that is an image, from its top. By default half.",
)
@click.option(
    "--as-tokens",
    is_flag=True,
    help="Begin files with the prompt as the model sees it. By default with the prompt as it is: "
    "its own timing, velocities, tempo, track names and controllers.",
)
@click.option(
    "--tempo",
    type=FiniteFloat(above=0),
    help="Quarter notes per minute with which files begin; later changes of tempo keep their "
    "ratio to it. By default the tempo of the prompt, or what the tokens say, or the median of "
    "the training files.",
)
@click.option(
    "--samples",
    "n_samples",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Number of samples per prompt.",
)
@click.option(
    "--alternatives",
    type=click.IntRange(1),
    help="Generate so many samples per prompt and write the --samples that --pick chooses.  "
    "[default: 4 for each sample where --key or another control of whole pieces is given, "
    "otherwise 1]",
)
@click.option(
    "--pick",
    type=click.Choice(("asked", "likeliest", "most-different")),
    help="Which --alternatives to write: those that meet most of what is asked for, the likeliest "
    "per note, or those that share the fewest notes with each other and with the file of --edit.  "
    "[default: asked where --key or another control is given, otherwise likeliest]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    help="Maximum number of new tokens per sample.",
)
@click.option(
    "--bars",
    type=click.IntRange(1),
    help="Stop a sample after this many new bars. By default no limit.",
)
@click.option(
    "--seconds",
    type=FiniteFloat(above=0),
    help="Stop a sample after this many seconds of new music. By default no limit.",
)
@click.option(
    "--form",
    help='Lay out a piece in sections, as in AABA or, with their bars, "8 8\' 8 16": the first of '
    "a name is new, later ones repeat it, and a prime (') changes the ending. --max-tokens is then "
    "for each new section.",
)
@click.option(
    "--section",
    type=click.IntRange(1),
    help="Bars of each section of --form that is a letter.  [default: 8]",
)
@click.option(
    "--key",
    help='Key, such as Am or "F# minor". This and the options down to --instruments need a run '
    "that was trained with data.controls; same is what the last eight bars of --prompt are, and - "
    "leaves it open.  [default: same after a prompt, otherwise open]",
)
@click.option("--metre", help="Time signature of all new bars, such as 3/4.")
@click.option("--chords", help='Chords, one for each bar, as in "Am F C G"; they repeat.')
@click.option(
    "--density",
    help="How many notes: lowest, low, medium, high or highest as in the "
    "training files; or several, one for each bar.",
)
@click.option("--polyphony", help="How many notes begin together: lowest to highest.")
@click.option("--register", help="How high the notes lie: lowest to highest.")
@click.option("--loudness", help="How loud the notes are: lowest to highest.")
@click.option(
    "--instruments",
    help="Who plays, as in piano,bass,drums.  [default: same after a prompt, otherwise all]",
)
@click.option(
    "--guidance",
    type=FiniteFloat(above=0),
    help="How much --key and the other controls weigh. 1: as the model has learned them; more "
    "follows them more closely, at twice the work.  [default: 2]",
)
@click.option(
    "--tries",
    type=click.IntRange(1),
    help="How often a bar is drawn at most until it has what --chords and --density ask of it; the "
    "best is kept.  [default: 4]",
)
@click.option(
    "--edit",
    metavar="FILE",
    help="Write a changed copy of this file, with --rewrite, --vary or --add. --max-tokens is then "
    "for each new bar.",
)
@click.option("--rewrite", metavar="BARS", help="Bars of --edit to write anew, as in 9-16.")
@click.option("--tracks", help="Tracks that --rewrite and --vary write anew. By default all.")
@click.option("--vary", metavar="BARS", help="Bars of --edit of which --amount is written anew.")
@click.option(
    "--amount",
    type=FiniteFloat(above=0),
    help="Share of the bars of --vary that are written anew, each bar "
    "of each track drawn for itself.  [default: 0.3]",
)
@click.option("--add", metavar="TRACKS", help="Parts to add to --edit, as in bass,drums.")
@click.option(
    "--seed", type=click.IntRange(0), help="Random seed; chosen at random and recorded if omitted."
)
@click.option("--endless", is_flag=True, help="Do not end before --max-tokens; the past decays.")
@click.option(
    "--decay-after",
    type=click.IntRange(2, 2**31),
    help="Let older tokens count less and less from this position on [no decay; with --endless and "
    "a model without model.decay, a quarter of the training length].",
)
@click.option(
    "--decoder",
    type=click.Choice(("auto", "reference", "torch", "native", "cuda", "onnx")),
    default="auto",
    show_default=True,
    help="Implementation of the decode steps; auto picks the fastest that is available.",
)
@click.option(
    "--weights",
    type=click.Choice(("auto", "float32", "bf16", "int8", "w8a8")),
    default="auto",
    show_default=True,
    help="Number format of the weights; fewer bits are faster and less exact. auto takes the "
    "fastest that cost at most 0.002 bits per token when training ended.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="First print a comparison of the decoder's weight formats: loss and time per step.",
)
@click.option(
    "--free",
    is_flag=True,
    help="Allow tokens in any order, also where the grammar of the tokenizer forbids it.",
)
@click.option("--no-png", is_flag=True, help="Do not write piano-roll pictures.")
@click.option("--audio", is_flag=True, help="Write a WAV file beside each MIDI file.")
@click.option("--ogg", is_flag=True, help="Write an Ogg file beside each MIDI file.")
@click.option(
    "--soundfont",
    metavar="FILE",
    help="Soundfont for --audio and --ogg, SF2 or SF3. By default $SEQGEN_SOUNDFONT, or one "
    "installed on the system.",
)
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Use the model with the best validation loss, or the newest.",
)
@click.option(
    "--device", help="Device to compute on: cpu, cuda or cuda:1. By default a GPU if there is one."
)
@click.option(
    "-o", "--output", metavar="DIR", help="Folder for the files. By default generated/RUN."
)
def generate(run: str | None, output: str | None, device: str | None, **options: Any) -> None:
    """Generate with a trained RUN (a run folder); by default the newest one.

    \b
    python cli.py generate --temperature 0.9
    python cli.py generate runs/mine --prompt song.mid --prompt-bars 8 --bars 16 --seed 7
    """
    from seqgen.commands.generating import execute

    execute(run, output=output, device=device, **options)
