"""The gate for every incoming MIDI file: its result is valid, within limits and repaired."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from miditoolkit import MidiFile

from seqgen.config import LimitsConfig
from seqgen.errors import FileRejected
from seqgen.midi.events import read_events
from seqgen.midi.parse import parse
from seqgen.midi.rejection import Rejection
from seqgen.midi.repair import repair
from seqgen.midi.store import max_events
from seqgen.midi.timing import TempoMap, last_note_end

DEFAULT_LIMITS = LimitsConfig()
ANY_SIZE = LimitsConfig(
    max_file_bytes=10**9,
    max_events=10**8,
    max_notes=10**8,
    max_minutes=10**5,
    max_beats=5 * 10**7,
    max_notes_on_one_key=10**8,
)  # what we wrote ourselves, or accepted once, is read back whatever its length
GENEROUS = LimitsConfig(
    max_file_bytes=50_000_000,
    max_events=2_000_000,
    max_notes=1_000_000,
    max_minutes=24 * 60,
    max_beats=24 * 60 * 500,
)  # a folder that somebody names: longer than any piece, and yet an end


@dataclass(frozen=True)
class ReadMidi:
    """A repaired file, and what became of the rest, counted by phrases in plain English.

    Attributes:
        midi: the file.
        repairs: what was faulty, and what was done to repair it.
        left_out: what was sound and has no place in the file.
    """

    midi: MidiFile
    repairs: dict[str, int]
    left_out: dict[str, int]


def open_midi(
    path_or_bytes: str | Path | bytes,
    limits: LimitsConfig = DEFAULT_LIMITS,
    *,
    name: str | None = None,
) -> MidiFile:
    """Read a MIDI file and return it repaired, as `read_midi` does."""
    return read_midi(path_or_bytes, limits, name=name).midi


def read_midi(
    path_or_bytes: str | Path | bytes,
    limits: LimitsConfig = DEFAULT_LIMITS,
    *,
    name: str | None = None,
) -> ReadMidi:
    """Read a MIDI file of format 0 or 1, also inside a RIFF container, and say what was changed.

    `name` is how messages call the file; by default its path, or "the MIDI data" for bytes.

    Raises:
        FileRejected: it cannot be read or is beyond `limits`, whatever the bytes are.
    """
    if name is None:
        name = str(path_or_bytes) if isinstance(path_or_bytes, str | Path) else "the MIDI data"
    try:
        if isinstance(path_or_bytes, str | Path):
            path_or_bytes = _read(Path(path_or_bytes), limits)
        return _read_bytes(bytes(path_or_bytes), limits)
    except Rejection as refusal:
        raise FileRejected(refusal.kind, name, refusal.reason) from None


def _read(path: Path, limits: LimitsConfig) -> bytes:
    """Return the bytes of a regular file, at most one more than is accepted."""
    try:
        if path.is_file() or not path.exists():  # a pipe or a device could block or never end
            with path.open("rb") as file:
                return file.read(limits.max_file_bytes + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Rejection("unreadable", f"{reason[:1].lower()}{reason[1:]}") from None
    except ValueError:  # a null character
        raise Rejection("unreadable", "it is not a valid file name") from None
    raise Rejection("unreadable", "it is not a file")


def _read_bytes(content: bytes, limits: LimitsConfig) -> ReadMidi:
    if len(content) > limits.max_file_bytes:
        raise Rejection("over-limit", f"it is larger than {limits.named('max_file_bytes')}")
    repairs: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    midi = parse(*read_events(content, limits, repairs, left_out), repairs, left_out)
    _check_size(midi, limits)  # before everything is copied
    midi = repair(midi, repairs=repairs)
    _check_size(midi, limits)
    _check_music(midi, limits)
    return ReadMidi(midi, dict(repairs), dict(left_out))


def _check_size(midi: MidiFile, limits: LimitsConfig) -> None:
    """Bound what is written of a file.

    That may be far more than what was read: every program that a channel plays becomes a track,
    with a copy of the channel's controls.
    """
    n_tracks = len(midi.instruments)
    if n_tracks > limits.max_tracks:
        limit = limits.named("max_tracks")
        raise Rejection("over-limit", f"it has {n_tracks} instruments, more than {limit}")
    n_events = max_events(midi)
    if n_events > limits.max_events:
        raise Rejection(
            "over-limit",
            f"it would have {n_events} events with one track for each instrument, more than "
            f"{limits.named('max_events')}",
        )


def _check_music(midi: MidiFile, limits: LimitsConfig) -> None:
    n_notes = sum(len(track.notes) for track in midi.instruments)
    if n_notes == 0:
        raise Rejection("empty", "it has no note of any length")
    if n_notes < limits.min_notes:
        raise Rejection("empty", f"it has {n_notes} notes, fewer than {limits.named('min_notes')}")
    beats = math.ceil((midi.max_tick - 1) / midi.ticks_per_beat)
    if beats > limits.max_beats:
        limit = limits.named("max_beats")
        raise Rejection("over-limit", f"it has {beats:,} quarter notes, more than {limit}")
    minutes = TempoMap(midi).to_seconds(last_note_end(midi)) / 60
    if minutes > limits.max_minutes:
        limit = limits.named("max_minutes")
        raise Rejection("over-limit", f"it lasts {minutes:.1f} minutes, more than {limit}")
    n_held = _most_on_one_key(midi)
    if n_held > limits.max_notes_on_one_key:
        limit = limits.named("max_notes_on_one_key")
        raise Rejection(
            "over-limit", f"it holds {n_held} notes on one key at once, more than {limit}"
        )


def _most_on_one_key(midi: MidiFile) -> int:
    """Count the most notes of one pitch that sound at the same time, in all tracks together.

    A tokenizer may put them into one track.
    """
    notes = [
        (note.pitch, note.start, note.end) for track in midi.instruments for note in track.notes
    ]
    pitches, starts, ends = np.array(notes).T
    changes = np.repeat([1, -1], len(notes))
    order = np.lexsort((changes, np.concatenate([starts, ends]), np.tile(pitches, 2)))
    return int(changes[order].cumsum().max())
