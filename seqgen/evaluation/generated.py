"""Generated files, each with its record where there is one, and with its tokens.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict

from seqgen.data.corpora import Progress, tracked
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.piece_sets import Amount, count_midi, decoded_midi
from seqgen.files import readable, write_bytes
from seqgen.midi import GENEROUS, MidiFile, midi_bytes, open_midi
from seqgen.midi.timing import TempoMap
from seqgen.rendering.previews import OVERVIEW
from seqgen.tokenizers import Preview, Tokenizer

MAX_RECORD_BYTES = 1_000_000
NO_END = "it continues a prompt, but its record does not say where the prompt ends"
EMPTY = "no note follows the prompt"


def _numbers(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: x for key, x in settings.items() if x is None or isinstance(x, int | float)}


Words = Annotated[str, AfterValidator(readable)]


class DrawRecord(BaseModel):
    """What the record of a file may say, as it was written; anything else is somebody else's."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    run: Words | None = None
    decoder: Words | None = None
    weights: Words | None = None
    prompt: Words | None = None
    step: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    prompt_tokens: int | None = None
    prompt_seconds: float | None = None
    ended_by_itself: bool | None = None
    sampling: Annotated[dict[Words, Any], AfterValidator(_numbers)] | None = None


@dataclass(frozen=True)
class GeneratedFile:
    """One generated file: what is in it, and its tokens."""

    path: Path
    folder: Path | None = None  # the folder that was named, below which it lies
    record: dict = field(default_factory=dict)  # what stands beside it, of its drawing
    midi: MidiFile | None = None  # the music in the file; None for others, and if unreadable
    preview: Preview | None = None  # what people see of a file that is no music; None if unreadable
    amount: Amount | None = None  # what the file holds; None if unreadable
    rejected: FileRejected | None = None  # why it, or its tokens, cannot be read
    token_midi: MidiFile | None = None  # what its tokens stand for, if they hold a whole note
    # What the model wrote, without its prompt: tokens [T, F] and their music; or why none is known.
    drawn_ids: np.ndarray | None = None
    drawn_midi: MidiFile | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What it is called: its path within the folder."""
        within = self.path.name if self.folder is None else self.path.relative_to(self.folder)
        return readable(Path(within).as_posix())

    @property
    def problem(self) -> str | None:
        """Why it, or its tokens, cannot be read, in words."""
        return None if self.rejected is None else readable(self.rejected.reason)

    @property
    def ended_by_itself(self) -> bool | None:
        """Whether the model ended it, or a limit did; None where no record says so."""
        return self.record.get("ended_by_itself")

    @property
    def prompted(self) -> bool:
        """Whether it continues a file, whose notes are in it too."""
        return bool(self.record.get("prompt"))


def find_generated(folder: Path, tokenizer: Tokenizer) -> list[Path]:
    """The files of a folder, in order of name; UserError where there are none of the kind."""
    if not folder.is_dir():
        raise UserError(f"--generated {folder}: no such folder")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in tokenizer.suffixes
        and path.is_file()
        and path.name != OVERVIEW
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        kinds = " or ".join(sorted(tokenizer.suffixes))
        raise UserError(f"--generated {folder}: it holds no {kinds} file")
    return files


def read_generated(
    paths: Sequence[Path], *, folder: Path, tokenizer: Tokenizer, progress: Progress
) -> list[GeneratedFile]:
    """Read files, their records and their tokens; one that cannot be read says why.

    Tokens are written as music again, as those of held-out and training pieces are.
    """
    found = tracked(paths, "reading generated pieces", progress)
    return [_read(path, folder, tokenizer) for path in found]


def _read(path: Path, folder: Path, tokenizer: Tokenizer) -> GeneratedFile:
    piece = GeneratedFile(path, folder, _record(path.with_suffix(".json")))
    try:
        if tokenizer.is_music:
            midi = open_midi(path, GENEROUS)
            piece = replace(piece, midi=midi, amount=count_midi(midi))
        ids = tokenizer.encode(path)
        if not tokenizer.is_music:
            seen, amount = tokenizer.preview(path), Amount(tokenizer.units(ids))
            piece = replace(piece, preview=seen, amount=amount)
    except FileRejected as rejected:
        return replace(piece, rejected=rejected)
    if tokenizer.is_music:
        piece = replace(piece, token_midi=decoded_midi(ids, tokenizer))
    return replace(piece, **_drawn(piece, ids, tokenizer))


def _drawn(piece: GeneratedFile, ids: np.ndarray, tokenizer: Tokenizer) -> dict:
    """What the model wrote, of a piece with tokens [T, F]: all, or what follows the prompt."""
    if not piece.prompted:
        return {"drawn_ids": ids, "drawn_midi": piece.token_midi}
    begins = piece.record.get("prompt_tokens" if piece.midi is None else "prompt_seconds")
    if begins is None:
        return {"reason": NO_END}
    if piece.midi is None:
        return {"drawn_ids": ids[max(int(begins) - 1, 0) :]}  # the first of a prompt is BOS
    try:
        ids = _tokens_from(piece.midi, begins, tokenizer)
    except FileRejected:
        return {"reason": EMPTY}
    return {"drawn_ids": ids, "drawn_midi": decoded_midi(ids, tokenizer)}


def _record(path: Path) -> dict:
    """What is known from the file beside a piece; it may be another program's, of any content."""
    if not path.is_file():  # a pipe would never end
        return {}
    try:
        with path.open("rb") as file:
            said = DrawRecord.model_validate_json(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return {}
    return said.model_dump(exclude_none=True)


def _tokens_from(midi: MidiFile, seconds: float, tokenizer: Tokenizer) -> np.ndarray:
    """Tokens [T, F] of the notes that begin at `seconds` or later, to the nearest tick.

    FileRejected where there are none.
    """
    first, later = round(TempoMap(midi).to_ticks(seconds)), deepcopy(midi)
    for track in later.instruments:
        track.notes = [note for note in track.notes if note.start >= first]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.mid"
        write_bytes(path, midi_bytes(later))
        return tokenizer.encode(path)
