"""What becomes of a file in tokens: measured by writing its tokens back and comparing the two."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seqgen.config import TokenizerConfig
from seqgen.midi import MidiFile, Note
from seqgen.midi.bends import STANDARD_RANGE, semitones_of
from seqgen.tokenizers.midi.continuation import SUSTAIN
from seqgen.tokenizers.midi.metres import NEGLIGIBLE, metres_of
from seqgen.tokenizers.midi.settings import accepted_metres

ERRORS = ("onset_ms", "duration_ms")
WORST_MS = 1000  # larger errors count as this
APART = 0.5  # of a quarter note: so far apart two notes are not the same one
LOUDER = 8  # of 127: from there on another velocity is heard
FASTER = 0.01  # from there on another tempo is heard
CONTROLLERS = {
    **dict.fromkeys((0, 32), "bank selects"),
    1: "changes of modulation",
    7: "changes of volume",
    10: "changes of pan",
    11: "changes of expression",
    **dict.fromkeys((6, 38, 98, 99, 100, 101), "messages that set parameters of a channel"),
    **dict.fromkeys((91, 93), "changes of reverb and chorus"),
}

Notes = Mapping[tuple[int, int], list[Note]]  # by part and pitch, in order of time


def account_for(
    midi: MidiFile,
    assigned: Sequence[int],
    written: MidiFile,
    parts: Sequence[int],
    config: TokenizerConfig,
) -> dict[str, Any]:
    """Compare a file with what its tokens give back.

    Args:
        midi: the file as it was read.
        assigned: the part of each of its tracks, -1 for those left out.
        written: the file written from its tokens.
        parts: the part of each track of that.
        config: the settings of the tokenizer, for what it cannot hold at all.

    Returns:
        notes: of the file, and how many of them came back ("notes_kept").
        lost: how many of what did not come back, or not as it was.
        onset_ms, duration_ms: how many notes have which error in milliseconds, rounded.
    """
    lost: Counter[str] = Counter()
    onsets: Counter[int] = Counter()
    durations: Counter[int] = Counter()
    before, after = _notes(midi, assigned), _notes(written, parts)
    tempos, new_tempos = _Steps(midi), _Steps(written)
    kept = 0
    for key, notes in before.items():
        pairs = _matched(
            [n.start / midi.ticks_per_beat for n in notes],
            [n.start / written.ticks_per_beat for n in after.get(key, [])],
        )
        kept += len(pairs)
        for i, j in pairs:
            old, new = notes[i], after[key][j]
            start, end = old.start / midi.ticks_per_beat, old.end / midi.ticks_per_beat
            new_start = new.start / written.ticks_per_beat
            length = (new.end - new.start) / written.ticks_per_beat
            tempo = tempos.at(start)
            onsets[_milliseconds(new_start - start, tempo)] += 1
            durations[_milliseconds(length - (end - start), tempo)] += 1
            lost["notes shorter or longer by more than a beat"] += abs(length - (end - start)) > 1
            lost["notes with another velocity"] += abs(old.velocity - new.velocity) > LOUDER
            lost["notes at another tempo"] += abs(new_tempos.at(new_start) / tempo - 1) > FASTER
    n_notes = sum(len(track.notes) for track in midi.instruments)
    drums = sum(
        len(track.notes) for track, part in zip(midi.instruments, assigned, strict=True) if part < 0
    )
    lost["drum notes"] = drums
    lost["notes"] = n_notes - drums - kept
    lost |= _other(midi, assigned, written, parts, config)
    return {
        "notes": n_notes,
        "notes_kept": kept,
        "lost": dict(+lost),
        "onset_ms": dict(onsets),
        "duration_ms": dict(durations),
    }


def in_words(counts: Mapping[str, int]) -> list[str]:
    """Say how many of each thing there are: "track names (1)"."""
    return [f"{what} ({n:,})" for what, n in counts.items()]


def _other(
    midi: MidiFile,
    assigned: Sequence[int],
    written: MidiFile,
    parts: Sequence[int],
    config: TokenizerConfig,
) -> Counter[str]:
    """Count what is no note and did not come back."""
    lost: Counter[str] = Counter()
    if config.use_time_signatures:
        lost |= metres_of(midi, accepted_metres(config))[1]
    else:
        metres, _ = metres_of(midi, None)
        lost["time signatures"] = len(metres) - (metres == [(0, 4, 4)])
    # Tracks of a part may share a channel, and so its pedal, bends and controllers.
    changes: set[tuple[int, int, int, int]] = set()
    for sign, file, of_file in ((1, midi, assigned), (-1, written, parts)):
        presses, bends = set(), set()
        for track, part in zip(file.instruments, of_file, strict=True):
            presses |= {(part, pedal.start) for pedal in track.pedals}
            bends |= {(part, bend.time, bend.pitch) for bend in track.pitch_bends if bend.pitch}
        lost["presses of the sustain pedal"] += sign * len(presses)
        lost["pitch bends"] += sign * len(bends)
    names = {track.name.strip().lower() for track in written.instruments}
    for track, part in zip(midi.instruments, assigned, strict=True):
        lost["track names"] += track.name.strip().lower() not in names | {""}
        if config.use_pitch_bends:
            lost["bends by more than two semitones"] += sum(
                abs(semitones) > STANDARD_RANGE for semitones in semitones_of(track)
            )
        changes |= {(part, c.time, c.number, c.value) for c in track.control_changes}
    for _, _, number, _ in changes:
        if number != SUSTAIN:
            lost[CONTROLLERS.get(number, "other controller changes")] += 1
    lost["lyrics and markers"] = len(midi.lyrics) + len(midi.markers)
    lost["key signatures"] = len(midi.key_signature_changes)
    return +lost


def _notes(midi: MidiFile, parts: Sequence[int]) -> Notes:
    notes: dict[tuple[int, int], list[Note]] = defaultdict(list)
    for track, part in zip(midi.instruments, parts, strict=True):
        if part >= 0:
            for note in track.notes:
                notes[part, note.pitch].append(note)
    for of_key in notes.values():
        of_key.sort(key=lambda note: (note.start, note.end))
    return notes


def _matched(before: Sequence[float], after: Sequence[float]) -> list[tuple[int, int]]:
    """Pair onsets in quarter notes, in order of time; those too far apart have no partner."""
    pairs, j = [], 0
    for i, onset in enumerate(before):
        while j < len(after) and after[j] < onset - APART:
            j += 1
        if j < len(after) and abs(after[j] - onset) <= APART:
            pairs.append((i, j))
            j += 1
    return pairs


def _milliseconds(quarters: float, tempo: float) -> int:
    return min(round(abs(quarters) * 60_000 / tempo), WORST_MS)


class _Steps:
    """The tempo of a file at any quarter note."""

    def __init__(self, midi: MidiFile):
        self._times = [change.time / midi.ticks_per_beat for change in midi.tempo_changes]
        self._tempos = [change.tempo for change in midi.tempo_changes]

    def at(self, quarter: float) -> float:
        return self._tempos[max(bisect_right(self._times, quarter + NEGLIGIBLE) - 1, 0)]


def add_accounts(accounts: Iterable[dict]) -> dict[str, Any]:
    """Add up the accounts of several files to one of the same form."""
    total: dict[str, Any] = {"notes": 0, "notes_kept": 0}
    total |= {kind: Counter() for kind in ("lost", "repaired", *ERRORS)}
    for account in accounts:
        for kind, value in account.items():
            if isinstance(value, int):
                total[kind] += value
            else:
                total[kind].update(value)
    return total


def total_account(accounts: Iterable[dict]) -> dict[str, Any]:
    """Add up the accounts of several files; errors become median and 95th percentile."""
    total = add_accounts(accounts)
    return {
        "notes": total["notes"],
        "notes_kept": total["notes_kept"],
        "lost": dict(total["lost"].most_common()),
        "repaired": dict(total["repaired"].most_common()),
        **{kind: _percentiles(total[kind]) for kind in ERRORS},
    }


def _percentiles(counts: Counter[int]) -> dict[str, int]:
    values = np.repeat(sorted(counts), [counts[value] for value in sorted(counts)])
    if not len(values):
        return {"median": 0, "p95": 0}
    median, p95 = np.percentile(values, [50, 95], method="inverted_cdf")
    return {"median": int(median), "p95": int(p95)}
