"""`seqgen evaluate`: whether what a run generates is like its data, or copied, and its loss."""

import os
from typing import Any

import click


@click.command()
@click.argument("run", required=False)
@click.option(
    "--data",
    metavar="FOLDER",
    help="Evaluate on the files in this folder instead of the run's validation and test split.",
)
@click.option(
    "--generated",
    metavar="DIR",
    help="Evaluate the files in this folder instead of generating some.",
)
@click.option("--beside", multiple=True, metavar="RUN", help="Compare with this run. Repeatable.")
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=50,
    show_default=True,
    help="Number of pieces to generate.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=2048,
    show_default=True,
    help="Maximum length of a generated piece in tokens.",
)
@click.option(
    "--targets",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="Maximum number of tokens to score in each set of pieces.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Random seed of the generated pieces and of all resampling.",
)
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Evaluate the model with the best validation loss, or the newest.",
)
@click.option(
    "--device", help="Device to compute on: cpu, cuda or cuda:1. By default a GPU if there is one."
)
@click.option(
    "-o", "--output", metavar="DIR", help="Folder for the report. By default RUN/evaluation."
)
def evaluate(run: str | None, **options: Any) -> None:
    """Evaluate a trained RUN (a run folder); by default the newest one.

    Writes evaluation.json and report.html, a single page that can be sent to others as it is. An
    earlier report in the same folder is kept under a number.

    \b
    python cli.py evaluate
    python cli.py evaluate runs/mine --beside runs/mine-softmax
    python cli.py evaluate runs/mine --data FOLDER --generated generated/mine
    """
    # Small steps on cores that others use too: spinning threads made them seven times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from seqgen.commands.evaluating import execute

    execute(run, **options)
