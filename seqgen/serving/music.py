"""Pieces as JSON, from files and back. Times are in quarter notes there, in ticks in files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

from seqgen.config import METRE
from seqgen.errors import UserError
from seqgen.midi import Instrument, MidiFile, TempoChange, TimeSignature, metre_at, track_label
from seqgen.midi import Note as MidiNote
from seqgen.midi.repair import repair
from seqgen.midi.timing import bars_and_beats, last_note_end
from seqgen.serving.schemas import Kind, Metre, Note, ShownPiece, Tempo, Track
from seqgen.tokenizers import Edit, Tokenizer
from seqgen.tokenizers.midi.account import in_words
from seqgen.tokenizers.midi.parts import Part, assign

EMPTY = ShownPiece(
    tracks=[],
    notes=[],
    bars=[0.0],
    metres=[Metre(start=0, numerator=4, denominator=4)],
    tempos=[Tempo(start=0, bpm=120)],
    length=0,
)
PIANO = Track(name="", program=0, is_drum=False)
DEFAULT_TEMPO = 120.0  # of what is played or drawn by hand
TICKS = 480  # in a quarter note of a new file
EXACT = 1e-4  # of a quarter note: rounding to ticks
NO_NOTE = "no note is left: a version needs one at least"
Key = tuple[int, bool, int, float]  # program, drums, pitch, start


@dataclass(frozen=True)
class Kept:
    """The notes of the version before that are still there: given by a person, and others."""

    given: frozenset[Key]
    others: frozenset[Key]

    @classmethod
    def of(
        cls,
        piece: ShownPiece,
        *,
        until: float = inf,
        edit: Edit | None = None,
        parts: Sequence[str] = (),
    ) -> "Kept":
        """Take a piece up to a time, without the places that an edit writes anew.

        `parts`: the names of all that the run tells apart.
        """
        names = _part_names(piece.tracks, parts)
        places = [] if edit is None else edit.places
        kept: dict[bool, set[Key]] = {True: set(), False: set()}
        for note in piece.notes:
            key = _key(note, piece.tracks[note.track])
            inside = any(
                name in ("", names[note.track]) and a <= note.start < b for name, a, b in places
            )
            if note.start < until - EXACT and not inside:
                kept[note.kind == "prompt"].add(key)
        return cls(frozenset(kept[True]), frozenset(kept[False]))


NOTHING = Kept(frozenset(), frozenset())


def piece_of(
    midi: MidiFile, tokenizer: Tokenizer, *, kept: Kept = NOTHING, new: Kind = "written"
) -> ShownPiece:
    """Return what a repaired file holds; `new` is the kind of notes that were not there before."""
    ticks = midi.ticks_per_beat
    tracks = [
        Track(name=track_label(t), program=int(t.program), is_drum=bool(t.is_drum))
        for t in midi.instruments
    ]
    notes = []
    for number, track in enumerate(midi.instruments):
        for n in track.notes:
            note = Note.model_construct(
                track=number,
                pitch=int(n.pitch),
                start=round(n.start / ticks, 4),
                length=round((n.end - n.start) / ticks, 4),
                velocity=int(n.velocity),
                kind=new,
                bits=None,
            )
            key = _key(note, tracks[number])
            if key in kept.given or key in kept.others:
                kind = "prompt" if key in kept.given else "kept"
                note = note.model_copy(update={"kind": kind})
            notes.append(note)
    notes.sort(key=lambda note: (note.start, note.track, note.pitch))
    return ShownPiece(
        tracks=tracks,
        notes=notes,
        bars=bar_lines(midi, tokenizer),
        metres=[
            Metre(start=m.time / ticks, numerator=m.numerator, denominator=m.denominator)
            for m in midi.time_signature_changes
        ],
        tempos=[Tempo(start=t.time / ticks, bpm=round(t.tempo, 3)) for t in midi.tempo_changes],
        length=round(last_note_end(midi) / ticks, 4),
    )


def bar_lines(midi: MidiFile, tokenizer: Tokenizer) -> list[float]:
    """Return where bars begin up to that of the last note, and where this one ends.

    The note may be held longer. Tokens without time signatures count bars of 4/4, whatever the
    file says: a model goes on from the bars that it counts.
    """
    starts = [note.start for track in midi.instruments for note in track.notes]
    ticks, end = midi.ticks_per_beat, max(starts, default=-1) + 1
    if tokenizer.config.use_time_signatures is False or tokenizer.bar is None:
        n_bars = ceil(end / ticks / 4)
        return [4.0 * k for k in range(n_bars + 1)]
    begun, _ = bars_and_beats(midi, end)
    if not len(begun):
        return [0.0]
    metre = metre_at(midi, int(begun[-1]))
    lines = [float(x) / ticks for x in begun]
    return [*lines, lines[-1] + 4 * metre.numerator / metre.denominator]


def edited(
    midi: MidiFile, piece: ShownPiece, notes: Sequence[Note], tracks: Sequence[Track]
) -> MidiFile:
    """Return a file with other notes, and tracks that were added; all else of it stays.

    Raises:
        UserError: no note is left, or one belongs to no track.
    """
    if not notes:
        raise UserError(NO_NOTE)
    ticks = midi.ticks_per_beat
    same = [
        k < len(piece.tracks)
        and (track.program, track.is_drum) == (piece.tracks[k].program, piece.tracks[k].is_drum)
        for k, track in enumerate(tracks)
    ]
    instruments = []
    for k, track in enumerate(tracks):
        if same[k]:
            old = midi.instruments[k]
            old.name = track.name
        else:
            old = Instrument(track.program, is_drum=track.is_drum, name=track.name)
        old.notes = []
        instruments.append(old)
    for note in notes:
        if note.track >= len(instruments):
            raise UserError(f"a note is in track {note.track}: there are {len(instruments)}")
        instruments[note.track].notes.append(_in_ticks(note, ticks))
    midi.instruments = instruments
    return repair(midi)


def file_of(
    notes: Sequence[Note], tracks: Sequence[Track], *, tempo: float, metre: str
) -> MidiFile:
    """Return notes as a file; a note in a track that is not described is a piano's.

    Raises:
        UserError: there is no note, or the metre is none.
    """
    if not notes:
        raise UserError(NO_NOTE)
    if re.fullmatch(METRE, metre) is None:
        raise UserError(f"metre {metre}: write it as in 3/4")
    numerator, denominator = map(int, metre.split("/"))
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.tempo_changes = [TempoChange(tempo, 0)]
    midi.time_signature_changes = [TimeSignature(numerator, denominator, 0)]
    for number in sorted({note.track for note in notes}):
        known = tracks[number] if number < len(tracks) else PIANO
        track = Instrument(known.program, is_drum=known.is_drum, name=known.name)
        track.notes = [_in_ticks(note, TICKS) for note in notes if note.track == number]
        midi.instruments.append(track)
    return repair(midi)


def difference(before: Sequence[Note], after: Sequence[Note]) -> int:
    """Return how many first notes are the same."""
    for i, (a, b) in enumerate(zip(before, after, strict=False)):
        if a != b:
            return i
    return min(len(before), len(after))


def _in_ticks(note: Note, ticks: int) -> MidiNote:
    start = round(note.start * ticks)
    end = max(round((note.start + note.length) * ticks), start + 1)
    return MidiNote(note.velocity, note.pitch, start, end)


def _key(note: Note, track: Track) -> Key:
    return (-1 if track.is_drum else track.program, track.is_drum, note.pitch, round(note.start, 3))


def told_otherwise(midi: MidiFile, parts: Sequence[str]) -> list[str]:
    """Say which tracks of a file have no part of their own among those that a run tells apart."""
    _, changes = assign(midi.instruments, [Part.named(name) for name in parts])
    return in_words(changes) if parts else []


def _part_names(tracks: Sequence[Track], parts: Sequence[str]) -> list[str | None]:
    """Return which part each track is; None where it is none."""
    instruments = [Instrument(t.program, is_drum=t.is_drum, name=t.name) for t in tracks]
    found, _ = assign(instruments, [Part.named(name) for name in parts])
    return [parts[k] if k >= 0 else None for k in found]
