"""A piece as the messages that a synthesizer gets, timed in seconds: notes, controls, bends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from seqgen.midi import Instrument, MidiFile
from seqgen.midi.repair import repair
from seqgen.midi.timing import TempoMap

ORDER = ("noteoff", "cc", "pitch_bend", "noteon")  # of messages at one time
BANK_SELECT = (0, 32)  # left out: all parts use the General MIDI bank
SUSTAIN = 64
FIRST_MODE_MESSAGE = 120  # from here on, controls switch whole channels: left out


class Event(NamedTuple):
    """A message: a method of pyfluidsynth's `Synth`, and its arguments after the channel."""

    seconds: float
    part: int
    method: str
    arguments: tuple[int, ...]


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
            if event.seconds < seconds or event.method == "noteoff"
        ]
        return Performance(self.parts, tuple(events), seconds)


def performance_of(midi: MidiFile) -> Performance:
    """Turn a piece into events in seconds; each track is a part of its own."""
    midi = repair(midi)
    to_seconds, seconds = TempoMap(midi).to_seconds, 0.0
    events: list[Event] = []
    for part, track in enumerate(midi.instruments):
        for tick, method, *arguments in (*_notes(track), *_controls(track)):
            events.append(Event(to_seconds(tick), part, method, tuple(arguments)))
        seconds = max(seconds, to_seconds(max(note.end for note in track.notes)))
    events = [event for event in events if event.seconds <= seconds]
    events.sort(key=lambda event: (event.seconds, ORDER.index(event.method)))
    return Performance(tuple(midi.instruments), tuple(events), seconds)


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
