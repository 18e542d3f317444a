"""The work of `seqgen show`: a picture of each file or run; failures are listed at the end."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from seqgen.api.losses import draw_losses
from seqgen.commands.settings import say
from seqgen.commands.targets import Targets, fail_on
from seqgen.config import LimitsConfig
from seqgen.errors import UserError
from seqgen.files import atomic_path
from seqgen.midi import open_midi
from seqgen.rendering.figures import FORMATS, save_figure
from seqgen.rendering.piano_roll import draw_piano_roll
from seqgen.rendering.previews import draw_picture
from seqgen.rendering.theme import DARK, LIGHT, Theme
from seqgen.tokenizers import modality_of

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
                figure = draw_losses(path, theme)
            else:
                figure = _drawn(path, target, theme, from_bar=from_bar, bars=bars)
            with writing(target) as temporary:
                save_figure(figure, temporary)
        except UserError as error:
            failures.append(str(error))
            continue
        say(str(target))
    fail_on(failures, len(paths))


def _drawn(path: Path, target: Path, theme: Theme, **part: int | None) -> Figure:
    """Draw what people see of a file; one whose ending no modality looks for is read as MIDI."""
    reader = modality_of(path)
    if reader is None or reader.is_music:
        return _piano_roll(path, theme, **part)
    if target.resolve() == path.resolve():
        raise UserError(f"{path} is a picture itself: name the one to write with -o")
    seen = reader.preview(path)
    if isinstance(seen, np.ndarray):
        return draw_picture(seen, title=path.name, theme=theme)
    raise UserError(f"{path} holds {reader.kind}: show draws music, pictures and runs")


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
