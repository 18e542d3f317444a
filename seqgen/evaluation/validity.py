"""Whether a MIDI file can be used: read by two libraries, with notes, in whole bars.

Legend: T positions, F fields.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import symusic

from seqgen.data.corpora import Progress, tracked
from seqgen.errors import FileRejected
from seqgen.evaluation.generated import Generated
from seqgen.midi import GENEROUS, MidiFile, open_midi
from seqgen.midi.timing import bars_and_beats, last_note_end
from seqgen.tokenizers import Tokenizer

READER_ERRORS = (OSError, ValueError, EOFError, LookupError, ArithmeticError)  # miditoolkit's
SYMUSIC_ERRORS = (*READER_ERRORS, RuntimeError, MemoryError)
CHECKS = ("miditoolkit", "symusic", "has_notes", "bars_complete")


@dataclass(frozen=True)
class Validity:
    """The results of the checks of a file, and the reasons of those that failed.

    Bars are complete when each change of time signature falls on a bar line of the one before, and
    at most one beat of the last bar is silent at its end, as in a piece with an upbeat. A piece in
    4/4 that is cut anywhere fails three times in four. Some real pieces fail too: compare the share
    with that of real pieces.
    """

    miditoolkit: bool = False
    symusic: bool = False
    has_notes: bool = False
    bars_complete: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(getattr(self, name) for name in CHECKS)


def check_generated(pieces: Sequence[Generated], *, progress: Progress) -> dict:
    """Check each generated file, and count how many pass each check."""
    found = [
        check_file(piece.path, piece.midi or piece.rejected)
        for piece in tracked(pieces, "checking generated files", progress)
    ]
    failed = [
        {"file": piece.name, **asdict(validity), "reasons": list(validity.reasons)}
        for piece, validity in zip(pieces, found, strict=True)
        if not validity.ok
    ]
    return {"generated": _shares(found), "failed": failed}


def check_real(pieces: Sequence[np.ndarray], tokenizer: Tokenizer, *, progress: Progress) -> dict:
    """Check real pieces [T, F], written from their tokens, for comparison."""
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mid"
        for ids in tracked(pieces, "checking real pieces", progress):
            with contextlib.suppress(FileRejected):  # no whole note is among these tokens
                tokenizer.decode(ids, path)
                found.append(check_file(path))
    return _shares(found)


def check_file(path: Path, read: MidiFile | FileRejected | None = None) -> Validity:
    """Check a file; never raises, whatever the file holds and also if it does not exist.

    `read` is what `open_midi` returned or raised, if that is known. symusic checks only files that
    `open_midi` accepts: some damaged files crash the process in symusic.
    """
    if read is None:
        try:
            read = open_midi(path, GENEROUS)
        except FileRejected as rejected:
            read = rejected
    if isinstance(read, MidiFile):
        faults, bars = _faults_of_symusic(path), _faults_of_bars(read)
        return Validity(True, not faults, True, not bars, (*faults, *bars))
    if read.kind == "empty":  # without notes, but it may be a MIDI file
        with contextlib.suppress(*READER_ERRORS):
            MidiFile(str(path))
            faults = _faults_of_symusic(path)
            return Validity(miditoolkit=True, symusic=not faults, reasons=(read.reason, *faults))
    return Validity(reasons=(read.reason, "not checked with symusic"))


def _faults_of_symusic(path: Path) -> list[str]:
    """Describe why symusic cannot read a file."""
    try:
        symusic.Score(path)
    except SYMUSIC_ERRORS as error:
        return [f"symusic cannot read it ({error})"]
    return []


def _faults_of_bars(midi: MidiFile) -> list[str]:
    """Describe where bars are incomplete."""
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


def _shares(found: Sequence[Validity]) -> dict:
    counts = {name: sum(getattr(validity, name) for validity in found) for name in CHECKS}
    opened = sum(v.miditoolkit and v.symusic and v.has_notes for v in found)
    return {"files": len(found), "usable": opened, **counts}
