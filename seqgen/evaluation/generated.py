"""A set of generated files, each with its record where there is one, and as the run's tokens.

Legend: T positions, F fields.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.scales import decoded
from seqgen.files import readable, write_bytes
from seqgen.midi import GENEROUS, Instrument, MidiFile, midi_bytes, open_midi
from seqgen.midi.timing import TempoMap
from seqgen.tokenizers import Tokenizer

MAX_RECORD_BYTES = 1_000_000
# What a record may say, as it was written with the file; anything else is somebody else's.
NUMBERS = ("step", "seed", "max_tokens", "prompt_tokens", "prompt_seconds")
WORDS = ("run", "decoder", "weights", "prompt")
NO_END = "it continues a prompt, but its record does not say where the prompt ends"
EMPTY = "no note follows the prompt"


@dataclass(frozen=True)
class Generated:
    """One file.

    Attributes:
        path: where it is.
        folder: the folder that was named, below which it lies.
        record: what stands beside it, of its drawing; empty where there is nothing.
        midi: what is in it; None for text, and where it cannot be read.
        text: what is in it; None for music, and where it cannot be read.
        rejected: why it cannot be read.
    """

    path: Path
    folder: Path | None = None
    record: dict = field(default_factory=dict)
    midi: MidiFile | None = None
    text: str | None = None
    rejected: FileRejected | None = None

    @property
    def name(self) -> str:
        """What it is called: its path within the folder."""
        within = self.path.name if self.folder is None else self.path.relative_to(self.folder)
        return readable(Path(within).as_posix())

    @property
    def problem(self) -> str | None:
        """Why it cannot be read, in words."""
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
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        kinds = " or ".join(sorted(tokenizer.suffixes))
        raise UserError(f"--generated {folder}: it holds no {kinds} file")
    return files


def read_generated(
    paths: Sequence[Path], *, folder: Path, music: bool, progress: Progress
) -> list[Generated]:
    """Read files and their records; one that cannot be read says why, and none is left out."""
    pieces = []
    for done, path in enumerate(paths, start=1):
        midi, text, rejected = None, None, None
        try:
            if music:
                midi = open_midi(path, GENEROUS)
            else:
                text = _read_text(path)
        except FileRejected as problem:
            rejected = problem
        record = _record(path.with_suffix(".json"))
        pieces.append(Generated(path, folder, record, midi, text, rejected))
        progress("reading generated pieces", done, len(paths))
    return pieces


def _read_text(path: Path) -> str:
    limit = GENEROUS.max_file_bytes
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise FileRejected("unreadable", str(path), str(error.strerror)) from None
    if len(content) > limit:
        raise FileRejected("over-limit", str(path), f"it is larger than {limit} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise FileRejected("unsupported", str(path), "it is not UTF-8 text") from None


def _record(path: Path) -> dict:
    """What is known from the file beside a piece; it may be another program's, of any content."""
    if not path.is_file():  # a pipe would never end
        return {}
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    kept = {key: said[key] for key in NUMBERS if _is_number(said.get(key))}
    kept |= {key: readable(said[key]) for key in WORDS if isinstance(said.get(key), str)}
    if isinstance(said.get("ended_by_itself"), bool):
        kept["ended_by_itself"] = said["ended_by_itself"]
    sampling = said.get("sampling")
    if isinstance(sampling, dict) and _is_number(sampling.get("temperature")):
        kept["sampling"] = {
            readable(key): value
            for key, value in sampling.items()
            if value is None or isinstance(value, bool) or _is_number(value)
        }
    return kept


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 and math.isfinite(value)


@dataclass(frozen=True)
class Reread:
    """One generated file, written and read through tokens.

    Attributes:
        name: of the file.
        ended_by_itself: what its record says.
        midi: the whole of it; None for text, and where no note can be read.
        drawn_ids: tokens [T, F] of what the model wrote, without its prompt; None where the file
            cannot be read, or where nothing says how far its prompt goes.
        drawn_midi: the music of those.
        reason: why there is nothing of it to compare; empty where there is.
    """

    name: str
    ended_by_itself: bool | None = None
    midi: MidiFile | None = None
    drawn_ids: np.ndarray | None = None
    drawn_midi: MidiFile | None = None
    reason: str = ""


def reread(
    pieces: Sequence[Generated], tokenizer: Tokenizer, *, progress: Progress
) -> list[Reread]:
    """Encode and decode all files, as held-out and training pieces have been."""
    found = []
    for done, piece in enumerate(pieces, start=1):
        found.append(_reread(piece, tokenizer))
        progress("reading generated pieces as tokens", done, len(pieces))
    return found


def _reread(piece: Generated, tokenizer: Tokenizer) -> Reread:
    name, ended, is_music = piece.name, piece.ended_by_itself, tokenizer.suffix == ".mid"
    try:
        ids = tokenizer.encode(piece.path)
    except FileRejected as rejected:
        return Reread(name, ended, reason=readable(rejected.reason))
    midi = decoded(ids, tokenizer) if is_music else None
    if not piece.prompted:
        return Reread(name, ended, midi, ids, midi)
    begins = piece.record.get("prompt_seconds" if is_music else "prompt_tokens")
    if not isinstance(begins, int | float) or (is_music and piece.midi is None):
        return Reread(name, ended, midi, reason=NO_END)
    if not is_music:
        return Reread(name, ended, None, ids[max(int(begins) - 1, 0) :])  # the first is BOS
    drawn_ids = _encode(_from(piece.midi, begins), tokenizer)
    drawn = None if drawn_ids is None else decoded(drawn_ids, tokenizer)
    reason = EMPTY if drawn_ids is None else ""
    return Reread(name, ended, midi, drawn_ids, drawn, reason)


def _from(midi: MidiFile, seconds: float) -> MidiFile:
    """A copy with the notes that begin at `seconds` or later, to the nearest tick."""
    first = round(TempoMap(midi).to_ticks(seconds))
    later = MidiFile(ticks_per_beat=midi.ticks_per_beat)
    later.tempo_changes = list(midi.tempo_changes)
    later.time_signature_changes = list(midi.time_signature_changes)
    for track in midi.instruments:
        kept = Instrument(track.program, is_drum=track.is_drum, name=track.name)
        kept.notes = [note for note in track.notes if note.start >= first]
        later.instruments.append(kept)
    return later


def _encode(midi: MidiFile, tokenizer: Tokenizer) -> np.ndarray | None:
    if not any(track.notes for track in midi.instruments):
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.mid"
        write_bytes(path, midi_bytes(midi))
        try:
            return tokenizer.encode(path)
        except FileRejected:
            return None
