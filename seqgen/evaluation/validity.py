"""Whether a MIDI file can be used: read by two libraries, with notes, in whole bars."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import symusic

from seqgen.data.corpora import Progress, tracked
from seqgen.errors import FileRejected
from seqgen.evaluation.generated import GeneratedFile
from seqgen.midi import GENEROUS, MidiFile, open_midi
from seqgen.midi.timing import bars_and_beats, last_note_end

READING_ERRORS = (OSError, ValueError, EOFError, LookupError, ArithmeticError)
SYMUSIC_ERRORS = (*READING_ERRORS, RuntimeError, MemoryError)
Faults = tuple[list[str], list[str]]  # why a file cannot be used, and where bars are incomplete


def check_generated(pieces: Sequence[GeneratedFile], *, progress: Progress) -> dict:
    """Check each generated file; return counts, and the faults of those that have any."""
    found = [
        check_file(piece.path, piece.midi or piece.rejected)
        for piece in tracked(pieces, "checking generated files", progress)
    ]
    failed = [
        {"file": piece.name, "reasons": [*unusable, *bars]}
        for piece, (unusable, bars) in zip(pieces, found, strict=True)
        if unusable or bars
    ]
    return {"generated": _counts(found), "failed": failed}


def check_real(pieces: Sequence[MidiFile | None]) -> dict:
    """Count the same of real pieces, as their tokens have them, for comparison."""
    return _counts([([], _faults_of_bars(x)) if x else (["it has no notes"], []) for x in pieces])


def check_file(path: Path, read: MidiFile | FileRejected | None = None) -> Faults:
    """Find the faults of a file; never raises, whatever it holds and also if it does not exist.

    It can be used if miditoolkit and symusic open it and it has notes. Bars are complete when each
    change of time signature falls on a bar line of the one before, and at most one beat of the last
    bar is silent at its end, as in a piece with an upbeat. A piece in 4/4 that is cut anywhere
    fails three times in four. Some real pieces fail too: compare the share with that of real ones.

    `read` is what `open_midi` returned or raised, if that is known. symusic checks only files that
    `open_midi` accepts: some damaged files crash the process in symusic.
    """
    try:
        read = read or open_midi(path, GENEROUS)
    except FileRejected as rejected:
        read = rejected
    if isinstance(read, FileRejected):
        return [read.reason], []
    try:
        symusic.Score(path)
    except SYMUSIC_ERRORS as error:
        return [f"symusic cannot read it ({error})"], _faults_of_bars(read)
    return [], _faults_of_bars(read)


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


def _counts(found: Sequence[Faults]) -> dict:
    """How many files there are, can be used, and have complete bars."""
    usable = [bars for unusable, bars in found if not unusable]
    return {"files": len(found), "usable": len(usable), "bars_complete": usable.count([])}
