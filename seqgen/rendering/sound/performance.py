"""A piece as what a synthesizer is told and when: notes, programs, pedals, bends, in seconds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from seqgen.midi import Instrument, MidiFile
from seqgen.midi.repair import repair
from seqgen.midi.timing import TempoMap

Kind = Literal["off", "control", "bend", "on"]
ORDER: dict[Kind, int] = {"off": 0, "control": 1, "bend": 2, "on": 3}  # at one time, in this order
BANK_SELECT = (0, 32)  # a part keeps the General MIDI bank
SUSTAIN = 64
FIRST_MODE_MESSAGE = 120  # these switch whole channels off or to other modes


class Event(NamedTuple):
    """A change: pitch and velocity, controller and value, or a bend (-8192 to 8191) and 0."""

    seconds: float
    part: int
    kind: Kind
    first: int
    second: int


@dataclass(frozen=True)
class Part:
    """An instrument that plays."""

    program: int
    is_drum: bool


@dataclass(frozen=True)
class Performance:
    """What is played: events sorted by time, and the time at which the last note ends."""

    parts: tuple[Part, ...]
    events: tuple[Event, ...]
    seconds: float

    def opening(self, seconds: float) -> "Performance":
        """The first `seconds` of it: what sounds then is released."""
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
    parts = tuple(Part(track.program, track.is_drum) for track in midi.instruments)
    return Performance(parts, tuple(events), seconds)


def _notes(part: int, track: Instrument, to_seconds) -> list[Event]:
    """Return notes switched on and off.

    A synthesizer knows one switch for each key: of notes that overlap on a key, the earlier one
    ends where the later one begins, and the key is released where the last of them ends.
    """
    events: list[Event] = []
    held: dict[int, int] = {}  # pitch -> tick at which the key is released
    for note in track.notes:  # by start
        end = held.get(note.pitch, -1)
        if end > note.start:
            events.append(Event(to_seconds(note.start), part, "off", note.pitch, 0))
        elif end >= 0:
            events.append(Event(to_seconds(end), part, "off", note.pitch, 0))
        events.append(Event(to_seconds(note.start), part, "on", note.pitch, note.velocity))
        held[note.pitch] = max(end, note.end)
    events += [Event(to_seconds(end), part, "off", pitch, 0) for pitch, end in held.items()]
    return events


def _controls(part: int, track: Instrument, to_seconds) -> list[Event]:
    return [
        Event(to_seconds(change.time), part, "control", change.number, change.value)
        for change in track.control_changes
        if change.number not in BANK_SELECT and change.number < FIRST_MODE_MESSAGE
    ] + [Event(to_seconds(bend.time), part, "bend", bend.pitch, 0) for bend in track.pitch_bends]
