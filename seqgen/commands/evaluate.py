"""`seqgen evaluate`: is what a run writes any good, is it a copy, and how well does it predict."""

import os

import click


@click.command()
@click.argument("run", required=False)
@click.option("--data", metavar="FOLDER", help="Evaluate on these files, not on the run's splits.")
@click.option("--generated", metavar="DIR", help="Judge the files there; else new ones are drawn.")
@click.option("--beside", multiple=True, metavar="RUN", help="Another run beside it; repeatable.")
@click.option(
    "--samples", type=click.IntRange(2), default=50, show_default=True, help="Pieces to draw."
)
@click.option("--max-tokens", type=click.IntRange(1), default=2048, show_default=True)
@click.option(
    "--targets",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="Tokens to score in each set at most.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--checkpoint",
    type=click.Choice(("best", "last")),
    default="best",
    show_default=True,
    help="Evaluate the model with the best validation loss, or the newest.",
)
@click.option("--device", help="cpu, cuda or cuda:1; found by itself if not given.")
@click.option("-o", "--output", metavar="DIR", help="Folder for the report [RUN/evaluation].")
def evaluate(run: str | None, **options) -> None:
    """Evaluate a trained RUN (a run folder); the newest one if not given.

    Writes evaluation.json and report.html, a page that can be sent to others as it is.

    \b
    python cli.py evaluate
    python cli.py evaluate runs/mine --beside runs/mine-softmax
    python cli.py evaluate runs/mine --data FOLDER --generated generated/mine
    """
    # Small steps on cores that others use too: spinning threads made them seven times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from seqgen.commands.evaluating import execute

    execute(run, **options)
