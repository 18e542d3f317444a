"""Reading and writing MIDI files: checked, repaired, measured.

The data classes are those of miditoolkit; other packages import them from here.
"""

from miditoolkit import Instrument, MidiFile, Note, TempoChange, TimeSignature

from seqgen.midi.gate import ANY_SIZE, DEFAULT_LIMITS, GENEROUS, open_midi
from seqgen.midi.inspect import MidiSummary, summarize, track_label
from seqgen.midi.store import midi_bytes

__all__ = [
    "ANY_SIZE",
    "DEFAULT_LIMITS",
    "GENEROUS",
    "Instrument",
    "MidiFile",
    "MidiSummary",
    "Note",
    "TempoChange",
    "TimeSignature",
    "midi_bytes",
    "open_midi",
    "summarize",
    "track_label",
]
