"""MIDI files on their way in and out: checked, repaired, measured, written."""

from seqgen.midi.gate import MidiFile, open_midi
from seqgen.midi.inspect import MidiSummary, summarize, track_label
from seqgen.midi.store import midi_bytes

__all__ = [
    "MidiFile",
    "MidiSummary",
    "midi_bytes",
    "open_midi",
    "summarize",
    "track_label",
]
