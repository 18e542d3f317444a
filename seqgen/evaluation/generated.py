"""A set of generated files as they lie in a folder, each with its record where there is one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqgen.data.corpora import Progress
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.scales import ANY_SIZE
from seqgen.midi import MidiFile, open_midi
from seqgen.tokenizers import Tokenizer


@dataclass(frozen=True)
class Generated:
    """One file.

    Attributes:
        path: where it is.
        record: what stands beside it, of its drawing; empty where there is nothing.
        midi: what is in it; None for text, and where it cannot be read.
        problem: why it cannot be read.
    """

    path: Path
    record: dict = field(default_factory=dict)
    midi: MidiFile | None = None
    problem: str | None = None

    @property
    def ended_by_itself(self) -> bool | None:
        """Whether the model ended it, or a limit did; None where no record says so."""
        said = self.record.get("ended_by_itself")
        return said if isinstance(said, bool) else None

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
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        kinds = " or ".join(sorted(tokenizer.suffixes))
        raise UserError(f"--generated {folder}: it holds no {kinds} file")
    return files


def read_generated(paths: Sequence[Path], *, music: bool, progress: Progress) -> list[Generated]:
    """Read files and their records; one that cannot be read says why, and none is left out."""
    pieces = []
    for done, path in enumerate(paths, start=1):
        record = _record(path.with_suffix(".json"))
        midi, problem = None, None
        if music:
            try:
                midi = open_midi(path, ANY_SIZE)
            except FileRejected as rejected:
                problem = rejected.reason
        pieces.append(Generated(path, record, midi, problem))
        progress("reading generated pieces", done, len(paths))
    return pieces


def _record(path: Path) -> dict:
    try:
        record = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return record if isinstance(record, dict) else {}
