"""Reading and writing MIDI files: checked, repaired, measured.

The data classes are those of miditoolkit; other packages import them from here.
"""

from miditoolkit import (
    ControlChange,
    Instrument,
    MidiFile,
    Note,
    Pedal,
    PitchBend,
    TempoChange,
    TimeSignature,
)

from seqgen.midi.gate import ANY_SIZE, DEFAULT_LIMITS, GENEROUS, ReadMidi, open_midi, read_midi
from seqgen.midi.inspect import MidiSummary, summarize, track_label
from seqgen.midi.programs import program_name
from seqgen.midi.store import midi_bytes
from seqgen.midi.timing import metre_at

__all__ = [
    "ANY_SIZE",
    "DEFAULT_LIMITS",
    "GENEROUS",
    "ControlChange",
    "Instrument",
    "MidiFile",
    "MidiSummary",
    "Note",
    "Pedal",
    "PitchBend",
    "ReadMidi",
    "TempoChange",
    "TimeSignature",
    "metre_at",
    "midi_bytes",
    "open_midi",
    "program_name",
    "read_midi",
    "summarize",
    "track_label",
]
