"""The work of `seqgen show`: a picture of each file or run; failures are listed at the end."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from matplotlib.figure import Figure

from seqgen.commands.settings import say
from seqgen.commands.targets import Targets, fail_on
from seqgen.config import LimitsConfig
from seqgen.errors import UserError
from seqgen.files import atomic_path, read_record, readable
from seqgen.midi import open_midi
from seqgen.rendering.curves import Curve, draw_loss_curves
from seqgen.rendering.figures import FORMATS, save_figure
from seqgen.rendering.piano_roll import draw_piano_roll
from seqgen.rendering.theme import DARK, LIGHT, Theme

LIMITS = LimitsConfig(max_minutes=24 * 60)  # a picture is as large for an endless piece as for any
LOSSES = "losses"  # the picture of a run folder; may be overwritten
# What a record beside a file raises that another program wrote, or none.
UNUSABLE = (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError)


def execute(
    files: Sequence[str],
    *,
    output: str | None,
    svg: bool,
    dark: bool,
    from_bar: int | None,
    bars: int | None,
    force: bool,
) -> None:
    """Draw every file and run that can be drawn."""
    paths = [Path(file) for file in files]
    suffix = ".svg" if svg else ".png"
    targets = Targets(paths, output, suffixes=FORMATS, suffix=suffix, force=force)
    theme = DARK if dark else LIGHT
    failures = []
    writing: Callable[[Path], AbstractContextManager[Path]]
    for path in paths:
        try:
            if path.is_dir() and not output:
                target, writing = path / f"{LOSSES}{suffix}", atomic_path
            else:
                target, writing = targets.of(path), targets.writing
            if path.is_dir():
                figure = _losses(path, theme)
            else:
                figure = _piano_roll(path, theme, from_bar=from_bar, bars=bars)
            with writing(target) as temporary:
                save_figure(figure, temporary)
        except UserError as error:
            failures.append(str(error))
            continue
        say(str(target))
    fail_on(failures, len(paths))


def _piano_roll(path: Path, theme: Theme, *, from_bar: int | None, bars: int | None) -> Figure:
    if path.suffix.lower() in FORMATS:
        raise UserError(f"{path} is a picture, not a MIDI file; use -o for the picture to write")
    midi = open_midi(path, LIMITS)
    first = (from_bar or 1) - 1
    return draw_piano_roll(
        midi,
        title=path.name,
        continuation_from_seconds=prompt_seconds(path),
        new_quarters=new_quarters(path),
        theme=theme,
        bars=None if from_bar is None and bars is None else (first, bars and first + bars),
    )


def prompt_seconds(path: Path) -> float | None:
    """Return where the continuation begins, from the record that `generate` wrote beside a file."""
    try:
        record = _record(path)
        seconds = float(record["prompt_seconds"]) if record["prompt"] is not None else None
    except UNUSABLE:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) else None


def new_quarters(path: Path) -> tuple[float, float] | None:
    """Return where new bars of an edited file begin and end, from the record beside it."""
    try:
        begin, end = (float(x) for x in _record(path)["new_quarters"])
    except UNUSABLE:
        return None
    return (begin, end) if 0 <= begin < end < math.inf else None


def _record(path: Path) -> dict:
    """Read the record beside a file; one of the errors `UNUSABLE` where there is none of it."""
    record = json.loads(path.with_suffix(".json").read_text())
    if record["file"] != path.name:
        raise ValueError(f"the record beside {path} is of another file")
    return record


def _losses(run: Path, theme: Theme) -> Figure:
    """Draw a run's metrics, and what n-gram models reached on the same pieces if it is finished."""
    from seqgen.checkpoint import RunFolder, read_metrics

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
        curves, references=_ngram_models(run), best_step=best, title=readable(str(run)), theme=theme
    )


def _ngram_models(run: Path) -> dict[str, float]:
    """Return nats per token of the n-gram models that training recorded: the first and the best."""
    from seqgen.checkpoint import FORMAT, RunFolder

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
