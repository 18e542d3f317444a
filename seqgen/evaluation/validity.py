"""Whether a MIDI file can be used: read by two libraries, with notes, in whole bars."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import symusic

from seqgen.errors import FileRejected
from seqgen.midi import GENEROUS, MidiFile, open_midi
from seqgen.midi.gate import READER_ERRORS
from seqgen.midi.timing import bars_and_beats, last_note_end

SYMUSIC_ERRORS = (*READER_ERRORS, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Validity:
    """What holds for a file, and why the rest does not, in words.

    Bars are complete when each change of time signature falls on a bar line of the one before, and
    at most one beat of the last bar is silent at its end: that much a piece with an upbeat leaves.
    A piece in 4/4 that is cut anywhere fails three times in four. So do some real pieces, which end
    as they please: read the share beside that of data.
    """

    miditoolkit: bool = False
    symusic: bool = False
    has_notes: bool = False
    bars_complete: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.miditoolkit and self.symusic and self.has_notes and self.bars_complete

    def to_json(self) -> dict:
        return {"ok": self.ok, **asdict(self), "reasons": list(self.reasons)}


def check_file(path: str | Path) -> Validity:
    """Judge a file; whatever it holds, and if it is not there, the answer is a `Validity`."""
    path = Path(path)
    try:
        return check_read(path, open_midi(path, GENEROUS))
    except FileRejected as rejected:
        return check_read(path, rejected)


def check_read(path: Path, read: MidiFile | FileRejected) -> Validity:
    """Judge a file by what the gate has made of it.

    symusic is asked about files that have passed the gate only: some damaged ones bring down the
    whole process in it.
    """
    if isinstance(read, FileRejected):
        if read.kind != "empty":
            return Validity(reasons=(read.reason, "symusic was not asked"))
        return _check_without_notes(path, read.reason)
    reasons = [_ask_symusic(path), *_faults_of_bars(read)]
    return Validity(
        miditoolkit=True,
        symusic=reasons[0] is None,
        has_notes=True,
        bars_complete=len(reasons) == 1,
        reasons=tuple(reason for reason in reasons if reason),
    )


def _check_without_notes(path: Path, reason: str) -> Validity:
    """Judge a file in which the gate has found nothing but that it holds too little."""
    try:
        MidiFile(str(path))
    except READER_ERRORS:
        return Validity(reasons=(reason, "symusic was not asked"))
    fault = _ask_symusic(path)
    reasons = (reason, fault) if fault else (reason,)
    return Validity(miditoolkit=True, symusic=fault is None, reasons=reasons)


def _ask_symusic(path: Path) -> str | None:
    """What symusic says against a file, if anything."""
    try:
        symusic.Score(path)
    except SYMUSIC_ERRORS as error:
        return f"symusic cannot read it ({error})"
    return None


def _faults_of_bars(midi: MidiFile) -> list[str]:
    """Where bars are incomplete, in words."""
    faults = []
    end = last_note_end(midi)
    changes = [change for change in midi.time_signature_changes if change.time < end]
    for before, after in pairwise(changes):
        bar = 4 * midi.ticks_per_beat * before.numerator / before.denominator
        over = (after.time - before.time) % bar
        if min(over, bar - over) > 1:  # ticks: bars of broken lengths are rounded in files
            numerator, denominator = after.numerator, after.denominator
            faults.append(f"the change to {numerator}/{denominator} comes inside a bar")
    signature = changes[-1]
    beat = 4 * midi.ticks_per_beat / signature.denominator
    filled = (end - bars_and_beats(midi, end)[0][-1]) / beat
    if signature.numerator - filled > 1:
        faults.append(f"the last bar breaks off after {filled:.3g} of {signature.numerator} beats")
    return faults
