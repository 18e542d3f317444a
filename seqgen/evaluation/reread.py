"""Generated files as the run's tokens have them, so that they meet real pieces on the same grid.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.errors import FileRejected
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.scales import decoded
from seqgen.files import readable, write_bytes
from seqgen.midi import Instrument, MidiFile, midi_bytes
from seqgen.midi.timing import TempoMap
from seqgen.tokenizers import Tokenizer

NO_END = "it continues a prompt, and no record says where that ends"
EMPTY = "no note follows its prompt"


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
