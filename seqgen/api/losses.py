"""A picture of the losses of a run."""

from pathlib import Path

from matplotlib.figure import Figure

from seqgen.checkpoint import FORMAT, RunFolder, read_metrics
from seqgen.errors import UserError
from seqgen.files import read_record, readable
from seqgen.rendering.curves import Curve, draw_loss_curves
from seqgen.rendering.theme import Theme


def draw_losses(run: Path, theme: Theme, *, title: str | None = None) -> Figure:
    """Draw a run's metrics, and what n-gram models reached on the same pieces if it is finished.

    `title`: by default the path. UserError where the folder is no run.
    """
    metrics = RunFolder(run).metrics
    if not metrics.is_file():
        raise UserError(f"{run} is a folder, but not a run (it has no {metrics.name})")
    lines = read_metrics(metrics)
    curves = []
    for label, key, role in (
        ("training", "loss", "training"),
        ("validation", "validation_loss", "model"),
    ):
        points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        if points:
            steps, losses = zip(*points, strict=True)
            curves.append(Curve(label, steps, losses, role))
    validation = [curve for curve in curves if curve.role == "model"]
    best = None
    if validation:
        y = validation[0].y
        best = validation[0].x[y.index(min(y))]
    return draw_loss_curves(
        curves,
        references=_ngram_models(run),
        best_step=best,
        title=title or readable(str(run)),
        theme=theme,
    )


def _ngram_models(run: Path) -> dict[str, float]:
    """Return nats per token of the n-gram models that training recorded: the first and the best."""
    path = RunFolder(run).validation
    if not path.exists():
        return {}
    record = read_record(path, format=FORMAT, way_out="delete it; train --resume writes it again")
    found = {
        score["name"]: score["nats_per_token"]
        for score in record["scores"]
        if score["name"] != "this model"
    }
    best = min(found, key=found.__getitem__, default=None)
    return {name: nats for name, nats in found.items() if name in (next(iter(found)), best)}
