"""A piece as the messages that a synthesizer gets, timed in seconds: notes, controls, bends."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from seqgen.midi import Instrument, MidiFile
from seqgen.midi.repair import repair
from seqgen.midi.timing import TempoMap, last_note_end

ORDER = ("noteoff", "cc", "pitch_bend", "noteon")  # of messages at one time
BANK_SELECT = (0, 32)  # left out: all parts use the General MIDI bank
FIRST_MODE_MESSAGE = 120  # from here on, controls switch whole channels: left out


class SynthesizerCall(NamedTuple):
    """A message: a method of pyfluidsynth's `Synth`, and its arguments, the part first."""

    seconds: float
    method: str
    arguments: tuple[int, ...]


class Performance(NamedTuple):
    """What is played: events sorted by time, and the time at which the last note ends."""

    parts: tuple[Instrument, ...]
    events: list[SynthesizerCall]
    seconds: float


def performance_of(midi: MidiFile, *, opening_seconds: float = math.inf) -> Performance:
    """Turn a piece, or its opening, into events; each track is a part of its own.

    Notes that sound at the end of the opening end there.
    """
    midi = repair(midi)
    to_seconds = TempoMap(midi).to_seconds
    end = min(to_seconds(last_note_end(midi)), opening_seconds)
    events = [
        SynthesizerCall(min(to_seconds(tick), end), method, (part, *arguments))
        for part, track in enumerate(midi.instruments)
        for tick, method, *arguments in (*_notes(track), *_controls(track))
        if to_seconds(tick) < end or method == "noteoff"
    ]
    events.sort(key=lambda event: (event.seconds, ORDER.index(event.method)))
    return Performance(tuple(midi.instruments), events, end)


def _notes(track: Instrument) -> Iterator[tuple]:
    """Yield notes switched on and off: tick, method and arguments.

    A key is on or off. Where notes overlap on one, the earlier note ends where the later one
    begins, and the key is released where the last of them ends.
    """
    held: dict[int, int] = {}  # pitch -> tick at which the key is released
    for note in track.notes:  # by start
        end = held.get(note.pitch, -1)
        if end >= 0:
            yield min(end, note.start), "noteoff", note.pitch
        yield note.start, "noteon", note.pitch, note.velocity
        held[note.pitch] = max(end, note.end)
    yield from ((end, "noteoff", pitch) for pitch, end in held.items())


def _controls(track: Instrument) -> Iterator[tuple]:
    for change in track.control_changes:
        if change.number not in BANK_SELECT and change.number < FIRST_MODE_MESSAGE:
            yield change.time, "cc", change.number, change.value
    yield from ((bend.time, "pitch_bend", bend.pitch) for bend in track.pitch_bends)
