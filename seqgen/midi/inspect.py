"""What a MIDI file holds, in a few numbers and names."""

from dataclasses import dataclass

from miditoolkit import Instrument, MidiFile

from seqgen.midi.timing import TempoMap, last_note_end

# General MIDI groups its 128 programs into sixteen families of eight.
PROGRAM_FAMILIES = (
    "piano",
    "chromatic percussion",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "synth lead",
    "synth pad",
    "synth effects",
    "ethnic",
    "percussive",
    "sound effects",
)


@dataclass(frozen=True)
class MidiSummary:
    """The size of a piece; `seconds` and `n_ticks` reach to the end of the last note.

    `programs` are the programs in use, sorted, each once, without the drums.
    """

    n_notes: int
    n_tracks: int
    seconds: float
    programs: tuple[int, ...]
    n_ticks: int
    ticks_per_beat: int


def summarize(midi: MidiFile) -> MidiSummary:
    """Measure a repaired file."""
    n_ticks = last_note_end(midi)
    return MidiSummary(
        n_notes=sum(len(track.notes) for track in midi.instruments),
        n_tracks=len(midi.instruments),
        seconds=TempoMap(midi).to_seconds(n_ticks),
        programs=tuple(sorted({int(t.program) for t in midi.instruments if not t.is_drum})),
        n_ticks=n_ticks,
        ticks_per_beat=midi.ticks_per_beat,
    )


def track_label(track: Instrument) -> str:
    """Return the name of a track, or else what plays it."""
    if track.name.strip():
        return track.name.strip()
    if track.is_drum:
        return "drums"
    return f"{PROGRAM_FAMILIES[track.program // 8]} (program {track.program})"
