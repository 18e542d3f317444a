"""From files to MidiTok's scores and back, and a continuation put behind the file it continues.

Here the two MIDI libraries meet: miditoolkit's files, which the gate has checked, and symusic's
scores, which MidiTok works on. Times are in ticks; a quarter is a quarter note.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import symusic

from seqgen.config import TokenizerConfig
from seqgen.midi import (
    DEFAULT_LIMITS,
    ControlChange,
    Instrument,
    MidiFile,
    Note,
    Pedal,
    PitchBend,
    TempoChange,
    TimeSignature,
    program_name,
)
from seqgen.midi.timing import metre_at
from seqgen.tokenizers.midi.parts import Part
from seqgen.tokenizers.midi.settings import accepted_metres, told_by_bars

TICKS_PER_QUARTER = 480  # of written files; MidiTok itself decodes to its own coarse grid
SUSTAIN = 64  # the controller of the sustain pedal
DOWN = 64  # from this value on it is pressed
NEGLIGIBLE = 1 / 16  # of a quarter note: so far a metre may begin beside a bar line
SHORT_FORMS = frozenset({"i", "ii", "iii", "iv", "v", "vi", "lh", "rh"})  # in names of tracks
MOST_BEATS = 32  # of a bar that tokens can tell
MOVED = "changes of metre moved to a bar line"


def to_score(
    midi: MidiFile,
    assigned: Sequence[int],
    parts: Sequence[Part],
    config: TokenizerConfig,
    *,
    velocity: int = 0,
) -> tuple[symusic.Score, list[int]]:
    """Return a score with one track for each part that plays, and the indexes of these parts.

    Its times are on the grid that MidiTok would choose, and rounded to the nearest.

    Args:
        midi: a file that was read through the gate.
        assigned: the part of each of its tracks, -1 for those left out.
        parts: all parts.
        config: what the tokens can hold.
        velocity: added to that of each note.
    """
    metres = [(0, 4, 4)]
    if config.use_time_signatures:
        metres, _ = metres_of(midi, accepted_metres(config))
    finest = max(denominator for _, _, denominator in metres)
    grid = (config.positions_per_beat or 4) * finest // 4
    scale = grid / midi.ticks_per_beat
    score = symusic.Score(grid)
    playing = sorted(set(assigned) - {-1})
    for k in playing:
        tracks = [t for t, part in zip(midi.instruments, assigned, strict=True) if part == k]
        score.tracks.append(_track(parts[k], tracks, config, scale, velocity))
    for change in midi.tempo_changes:
        score.tempos.append(symusic.Tempo(round(change.time * scale), change.tempo))
    for tick, numerator, denominator in metres:
        score.time_signatures.append(
            symusic.TimeSignature(round(tick * scale), numerator, denominator)
        )
    return score, playing


def _track(
    part: Part, tracks: Sequence[Instrument], config: TokenizerConfig, scale: float, velocity: int
) -> symusic.Track:
    # Where each track is told by itself, MidiTok has tokens for the pedal of program 0 alone.
    program = part.program if config.parts == "tracks" and not told_by_bars(config) else 0
    track = symusic.Track(name=part.name, program=program, is_drum=part.is_drum)
    start, end, pitch, loudness = np.array(
        [(n.start, n.end, n.pitch, n.velocity) for one in tracks for n in one.notes]
    ).T
    time = np.rint(start * scale).astype(np.int32)
    duration = np.maximum(np.rint((end - start) * scale), 1).astype(np.int32)
    loudness = np.clip(loudness + velocity, 1, 127)
    order = np.lexsort([loudness, duration, pitch, time])
    track.notes = symusic.Note.from_numpy(
        time=time[order],
        duration=duration[order],
        pitch=pitch[order].astype(np.int8),
        velocity=loudness[order].astype(np.int8),
    )
    if config.use_sustain_pedals and not part.is_drum:
        pedals = sorted((p.start, p.end) for one in tracks for p in one.pedals)
        for begin, stop in pedals:
            length = max(round((stop - begin) * scale), 1)
            track.pedals.append(symusic.Pedal(round(begin * scale), length))
    if config.use_pitch_bends:
        bends = sorted((b.time, b.pitch) for one in tracks for b in one.pitch_bends)
        for tick, value in bends:
            track.pitch_bends.append(symusic.PitchBend(round(tick * scale), value))
    return track


def to_midi(score: symusic.Score) -> MidiFile:
    """Return a decoded score as a file of miditoolkit's, in time order."""
    score = score.resample(TICKS_PER_QUARTER)
    midi = MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    midi.tempo_changes = [TempoChange(t.tempo, t.time) for t in _sorted(score.tempos)]
    midi.time_signature_changes = [
        TimeSignature(t.numerator, t.denominator, t.time) for t in _sorted(score.time_signatures)
    ]
    for track in score.tracks:
        instrument = Instrument(track.program, is_drum=track.is_drum, name=track.name)
        instrument.notes = [Note(n.velocity, n.pitch, n.start, n.end) for n in track.notes]
        instrument.pitch_bends = [PitchBend(b.value, b.time) for b in _sorted(track.pitch_bends)]
        instrument.pedals = [Pedal(p.time, p.end) for p in _sorted(track.pedals)]
        instrument.control_changes = _pedal_controls(instrument.pedals)
        midi.instruments.append(instrument)
    return midi


def title(part: Part) -> str:
    """Name a part for people: "Violin", "Violin 2", "Melody"."""
    if part.label and not part.label.isdecimal():
        return " ".join(
            word.upper() if word in SHORT_FORMS else word.capitalize()
            for word in part.label.split()
        )
    name = program_name(part.program, is_drum=part.is_drum)
    return f"{name} {part.label}".strip()


def thin(midi: MidiFile) -> None:
    """Leave out notes on a key that already sounds as often as the gate accepts."""
    sounding: dict[int, list[int]] = defaultdict(list)  # by pitch: a heap of the notes' ends
    kept: list[list[Note]] = [[] for _ in midi.instruments]
    notes = [(n.start, i, n) for i, track in enumerate(midi.instruments) for n in track.notes]
    for start, i, note in sorted(notes, key=lambda entry: entry[:2]):
        ends = sounding[note.pitch]
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        if len(ends) < DEFAULT_LIMITS.max_notes_on_one_key:
            heapq.heappush(ends, note.end)
            kept[i].append(note)
    for track, of_track in zip(midi.instruments, kept, strict=True):
        track.notes = of_track


def drop_late_changes(midi: MidiFile) -> None:
    """Leave out changes of tempo or metre after the last note, which would lengthen the file."""
    end = max((note.end for track in midi.instruments for note in track.notes), default=0)
    midi.tempo_changes = _before(midi.tempo_changes, end)
    midi.time_signature_changes = _before(midi.time_signature_changes, end)


def metres_of(
    midi: MidiFile, accepted: Sequence[str] | None
) -> tuple[list[tuple[int, int, int]], Counter[str]]:
    """Find time signatures that all begin at a bar line.

    A bar that is cut short by the next time signature becomes a bar of its own length, as 3/8 or
    5/16 say it. What cannot be told so is moved to the next bar line.

    Args:
        midi: the file.
        accepted: time signatures that may be used, such as "9/8"; None: all. In place of others
            comes one with bars of the same length, or the one before.

    Returns:
        (tick, numerator, denominator) for each change, the first at tick 0, and how many were not
        kept.
    """
    quarter = midi.ticks_per_beat
    found: list[tuple[int, int, int]] = []
    changed: Counter[str] = Counter()

    def accept(numerator: int, denominator: int) -> tuple[int, int] | None:
        options = [(numerator, denominator)] + [
            (numerator * d // denominator, d)
            for d in (4, 8, 2, 16, 32, 1)
            if numerator * d % denominator == 0
        ]
        for n, d in options:
            if n <= MOST_BEATS and (accepted is None or f"{n}/{d}" in accepted):
                return n, d
        return None

    def put(tick: int, metre: tuple[int, int]) -> None:
        while found and found[-1][0] >= tick:
            found.pop()
        if not found or found[-1][1:] != metre:
            found.append((tick, *metre))

    for change in midi.time_signature_changes or [TimeSignature(4, 4, 0)]:
        metre = accept(change.numerator, change.denominator)
        if metre is None:
            lacking = f"{change.numerator}/{change.denominator}"
            changed[f"changes of metre to {lacking}, which the vocabulary lacks"] += 1
            if found:
                continue
            metre = (4, 4)
        if not found:
            put(0, metre)
            continue
        start, numerator, denominator = found[-1]
        bar = 4 * quarter * numerator / denominator
        bars, rest = divmod(max(change.time - start, 0), bar)
        line = round(start + bars * bar)
        if min(rest, bar - rest) <= NEGLIGIBLE * quarter:
            put(round(start + (bars + (rest > bar / 2)) * bar), metre)
            continue
        length = _fraction(rest, quarter)
        filler = accept(*length) if length else None
        if filler:
            put(line, filler)
            put(change.time, metre)
        else:
            changed[MOVED] += 1
            put(round(line + bar), metre)
    return found, changed


def _fraction(ticks: float, quarter: int) -> tuple[int, int] | None:
    """Return a length in ticks as a time signature; None where no 32nd note ends there."""
    for denominator in (4, 8, 16, 32):
        numerator, rest = divmod(ticks * denominator, 4 * quarter)
        if rest == 0 and 1 <= numerator <= MOST_BEATS:
            return int(numerator), denominator
    return None


def join(
    first: MidiFile,
    first_parts: Sequence[int],
    second: MidiFile,
    second_parts: Sequence[int],
    *,
    cut: float,
    keep_all: bool = False,
    keep_tempo: bool = False,
    keep_metre: bool = False,
) -> MidiFile:
    """Put what a file holds from `cut` on behind what another holds before it.

    Args:
        first: the file whose beginning is kept as it is: names, velocities, timing, controls.
        first_parts: the part of each of its tracks; -1: a track that nothing continues.
        second: the file whose tracks go on with those of the same part.
        second_parts: the part of each of its tracks.
        cut: in quarters.
        keep_all: whether the first file is kept to its end, also beyond the cut.
        keep_tempo: whether the tempo at the cut goes on; else the second file changes it.
        keep_metre: the same of the time signature.
    """
    result = MidiFile(ticks_per_beat=first.ticks_per_beat)
    tick = round(cut * first.ticks_per_beat)
    end = max(first.max_tick, tick) if keep_all else tick

    def later(events: Sequence) -> list:
        return _moved(events, first.ticks_per_beat / second.ticks_per_beat, tick)

    result.tempo_changes = _before(first.tempo_changes, end + 1)
    if not keep_tempo:
        result.tempo_changes += later(second.tempo_changes)
    result.time_signature_changes = _before(first.time_signature_changes, end)
    if not keep_metre:
        told = metre_at(second, round(cut * second.ticks_per_beat))
        held = metre_at(first, tick)
        if (told.numerator, told.denominator) != (held.numerator, held.denominator):
            told = TimeSignature(told.numerator, told.denominator, tick)
            result.time_signature_changes.append(told)
        result.time_signature_changes += later(second.time_signature_changes)
    result.key_signature_changes = _before(first.key_signature_changes, end)
    result.lyrics, result.markers = _before(first.lyrics, end), _before(first.markers, end)
    by_part: dict[int, Instrument] = {}
    for track, part in zip(first.instruments, first_parts, strict=True):
        kept = _beginning(track, end)
        result.instruments.append(kept)
        by_part.setdefault(part, kept)
    for track, part in zip(second.instruments, second_parts, strict=True):
        scale = first.ticks_per_beat / second.ticks_per_beat
        notes = [
            Note(n.velocity, n.pitch, round(n.start * scale), round(n.end * scale))
            for n in track.notes
            if round(n.start * scale) >= tick
        ]
        if not notes:
            continue
        if part not in by_part:
            by_part[part] = Instrument(track.program, is_drum=track.is_drum, name=track.name)
            result.instruments.append(by_part[part])
        by_part[part].notes += notes
        by_part[part].control_changes += later(track.control_changes)
        by_part[part].pitch_bends += later(track.pitch_bends)
    result.instruments = [track for track in result.instruments if track.notes]
    _release_held(result, tick)
    return result


def remove_notes(
    midi: MidiFile, parts: Sequence[int], told: MidiFile, told_parts: Sequence[int]
) -> None:
    """Take the notes of one file of tokens out of another one, which begins with them."""
    known = Counter(
        (part, note.start, note.pitch)
        for track, part in zip(told.instruments, told_parts, strict=True)
        for note in track.notes
    )
    for track, part in zip(midi.instruments, parts, strict=True):
        kept = []
        for note in track.notes:
            key = (part, note.start, note.pitch)
            if known[key]:
                known[key] -= 1
            else:
                kept.append(note)
        track.notes = kept


def _release_held(midi: MidiFile, tick: int) -> None:
    """End notes from before a tick with the last note that begins there or later."""
    notes = [note for track in midi.instruments for note in track.notes]
    end = max((note.end for note in notes if note.start >= tick), default=None)
    for note in notes if end is not None else ():
        if note.start < tick < note.end:
            note.end = min(note.end, end)


def _before(events: Sequence[Any], tick: int) -> list:
    return [event for event in events if event.time < tick or event.time == 0]


def _moved(events: Sequence[Any], scale: float, tick: int) -> list:
    moved = []
    for event in events:
        event.time = round(event.time * scale)
        if event.time >= tick and event.time > 0:
            moved.append(event)
    return moved


def _beginning(track: Instrument, tick: int) -> Instrument:
    """Return what a track holds before a tick; a pedal and a bend that hold there are released."""
    kept = Instrument(track.program, is_drum=track.is_drum, name=track.name)
    kept.notes = [note for note in track.notes if note.start < tick]
    kept.control_changes = _before(track.control_changes, tick)
    kept.pitch_bends = _before(track.pitch_bends, tick)
    pedals = [change for change in kept.control_changes if change.number == SUSTAIN]
    if pedals and pedals[-1].value >= DOWN:
        kept.control_changes.append(ControlChange(SUSTAIN, 0, tick))
    if kept.pitch_bends and kept.pitch_bends[-1].pitch:
        kept.pitch_bends.append(PitchBend(0, tick))
    return kept


def _pedal_controls(pedals: Sequence[Pedal]) -> list[ControlChange]:
    return [
        ControlChange(SUSTAIN, value, tick)
        for pedal in pedals
        for tick, value in ((pedal.start, 127), (pedal.end, 0))
    ]


def _sorted(events: Any) -> list:
    return sorted(events, key=lambda event: event.time)
