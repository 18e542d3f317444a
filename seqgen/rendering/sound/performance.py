"""A piece as the messages that a synthesizer gets, timed in seconds: notes, controls, bends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from seqgen.midi import Instrument, MidiFile
from seqgen.midi.repair import repair
from seqgen.midi.timing import TempoMap

Kind = Literal["off", "control", "bend", "on"]
ORDER: dict[Kind, int] = {"off": 0, "control": 1, "bend": 2, "on": 3}  # at one time, in this order
BANK_SELECT = (0, 32)  # left out: all parts use the General MIDI bank
SUSTAIN = 64
FIRST_MODE_MESSAGE = 120  # from here on, controls switch whole channels: left out


class Event(NamedTuple):
    """A message: pitch and velocity, controller and value, or a bend (-8192 to 8191) and 0."""

    seconds: float
    part: int
    kind: Kind
    first: int
    second: int


@dataclass(frozen=True)
class Performance:
    """What is played: events sorted by time, and the time at which the last note ends."""

    parts: tuple[Instrument, ...]
    events: tuple[Event, ...]
    seconds: float

    def opening(self, seconds: float) -> "Performance":
        """Return the first `seconds` of it; notes that sound then end there."""
        if self.seconds <= seconds:
            return self
        events = [
            event._replace(seconds=min(event.seconds, seconds))
            for event in self.events
            if event.seconds < seconds or event.kind == "off"
        ]
        return Performance(self.parts, tuple(events), seconds)


def performance_of(midi: MidiFile) -> Performance:
    """Turn a piece into events in seconds; each track is a part of its own."""
    midi = repair(midi)
    to_seconds = TempoMap(midi).to_seconds
    events, seconds = [], 0.0
    for part, track in enumerate(midi.instruments):
        events += _notes(part, track, to_seconds)
        events += _controls(part, track, to_seconds)
        seconds = max(seconds, to_seconds(max(note.end for note in track.notes)))
    events = [event for event in events if event.seconds <= seconds]
    events.sort(key=lambda event: (event.seconds, ORDER[event.kind]))
    return Performance(tuple(midi.instruments), tuple(events), seconds)


def _notes(part: int, track: Instrument, to_seconds: Callable[[float], float]) -> list[Event]:
    """Return notes switched on and off.

    A key is on or off. Where notes overlap on one, the earlier note ends where the later one
    begins, and the key is released where the last of them ends.
    """
    events: list[Event] = []
    held: dict[int, int] = {}  # pitch -> tick at which the key is released
    for note in track.notes:  # by start
        end = held.get(note.pitch, -1)
        if end >= 0:
            events.append(Event(to_seconds(min(end, note.start)), part, "off", note.pitch, 0))
        events.append(Event(to_seconds(note.start), part, "on", note.pitch, note.velocity))
        held[note.pitch] = max(end, note.end)
    events += [Event(to_seconds(end), part, "off", pitch, 0) for pitch, end in held.items()]
    return events


def _controls(part: int, track: Instrument, to_seconds: Callable[[float], float]) -> list[Event]:
    return [
        Event(to_seconds(change.time), part, "control", change.number, change.value)
        for change in track.control_changes
        if change.number not in BANK_SELECT and change.number < FIRST_MODE_MESSAGE
    ] + [Event(to_seconds(bend.time), part, "bend", bend.pitch, 0) for bend in track.pitch_bends]
