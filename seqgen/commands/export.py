"""`seqgen export`: a trained model in a form that others can use."""

from pathlib import Path

import click


@click.command()
@click.argument("run", required=False)
@click.option(
    "--hf",
    "folder",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Write a folder as Hugging Face has them: weights, configuration, tokenizer and a model "
    "card with what is known of the run. Every command takes such a folder as RUN.",
)
@click.option(
    "--weights",
    type=click.Choice(("float32", "bf16")),
    default="float32",
    show_default=True,
    help="Number format of the matrices in the file; bf16 halves it and rounds them.",
)
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Take the model with the best validation loss, or the newest.",
)
def export(run: str | None, folder: Path, weights: str, checkpoint: str) -> None:
    """Write a trained RUN (a run folder; by default the newest one) in a form for others.

    \b
    python cli.py export runs/mine --hf mine
    python cli.py generate mine
    """
    from seqgen.api.places import find_model
    from seqgen.commands.settings import say
    from seqgen.export.folder import export_folder

    path = find_model(run)
    export_folder(path, folder, weights=weights, checkpoint=checkpoint)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"{path} is now also in {folder} ({size / 1e6:.1f} MB); read its README.md before sharing")
