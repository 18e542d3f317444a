"""Published files of many pieces as grids of voices, written as MIDI files in their own splits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.data.splits import TEST, TRAIN, VALIDATION, content_hash
from seqgen.errors import UserError
from seqgen.files import atomic_folder, locked, write_bytes
from seqgen.midi import midi_bytes
from seqgen.midi.repair import repair
from seqgen.tokenizers.grid import SILENT, VOICES, voices_to_midi

NAMED = {"train": TRAIN, "valid": VALIDATION, "test": TEST}  # as such a file calls its splits


def build_grids(
    file: Path,
    cache: Path,
    *,
    per_beat: int,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write each piece of a published file as MIDI, unless that was done before.

    Args:
        file: JSON with the keys `train`, `valid` and `test`, each a list of pieces. A piece is a
            list of steps, and a step a list of up to four pitches, -1 for silence.
        cache: beside the folder that is written.
        per_beat: steps in a quarter note.
        progress: told how many pieces of how many are written.

    Returns:
        A folder with one folder for each split.

    Raises:
        UserError: the file holds anything else; it names the place.
    """
    content = file.read_bytes()
    folder = cache.with_name(f"{cache.name}-{content_hash(content)[:8]}")
    with locked(folder.with_name(f".{folder.name}.lock"), if_held=lambda holder: None):
        if folder.is_dir():
            return folder
        pieces = [
            (NAMED[split], number, _grid(steps, f"{file}: piece {number} of {split!r}"))
            for split, of_split in _read(content, file).items()
            for number, steps in enumerate(of_split)
        ]
        with atomic_folder(folder) as temporary:
            for done, (split, number, grid) in enumerate(pieces, start=1):
                (temporary / split).mkdir(exist_ok=True)
                midi = voices_to_midi(grid, per_beat=per_beat)
                write_bytes(temporary / split / f"{number:03d}.mid", midi_bytes(repair(midi)))
                if progress:
                    progress(done, len(pieces))
    return folder


def _read(content: bytes, file: Path) -> dict[str, list]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}): download it again") from None
    if not isinstance(found, dict) or set(found) != set(NAMED):
        held = sorted(found) if isinstance(found, dict) else f"a {type(found).__name__}"
        raise UserError(f"{file} must hold the keys {', '.join(NAMED)}, and holds {held}")
    for split, pieces in found.items():
        if not isinstance(pieces, list) or not pieces:
            raise UserError(f"{file}: {split!r} must be a list of pieces")
    return found


def _grid(steps: Any, where: str) -> np.ndarray:
    """Return the steps of a piece as a grid [S, V]; voices that a step lacks are silent in it."""
    if not isinstance(steps, list) or not steps:
        raise UserError(f"{where} must be a list of steps")
    grid = np.full((len(steps), VOICES), SILENT)
    for i, step in enumerate(steps):
        if not isinstance(step, list) or len(step) > VOICES:
            raise UserError(f"{where}, step {i}: {step} is not a list of up to {VOICES} pitches")
        if not all(type(pitch) is int and SILENT <= pitch < 128 for pitch in step):
            raise UserError(f"{where}, step {i}: {step} has pitches other than -1 to 127")
        grid[i, : len(step)] = step
    if (grid == SILENT).all():
        raise UserError(f"{where} is silent")
    return grid
