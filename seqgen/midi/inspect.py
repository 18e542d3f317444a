"""What a MIDI file holds, in a few numbers and names."""

from dataclasses import dataclass

from miditoolkit import Instrument, MidiFile

from seqgen.files import counted
from seqgen.midi.programs import program_name
from seqgen.midi.timing import TempoMap, bars_and_beats, first_note_start, last_note_end, metre_at


@dataclass(frozen=True)
class MidiSummary:
    """What a person counts in a piece; `seconds`, `n_ticks` and `n_bars` reach to the last note.

    `programs` are the programs in use, sorted, each once, without the drums. `metres` are those
    under which something sounds, as "3/4", each once, in the order in which they come. `tempo` is
    the opening one in quarter notes per minute. `n_bars` counts from the beginning of the file.
    """

    n_notes: int
    n_tracks: int
    seconds: float
    programs: tuple[int, ...]
    n_ticks: int
    ticks_per_beat: int
    n_bars: int
    metres: tuple[str, ...]
    tempo: float

    def __str__(self) -> str:
        """Say it in words: "8 bars of 4/4 at 68 bpm, 212 notes, 3 tracks"."""
        return (
            f"{counted(self.n_bars, 'bar')} of {', '.join(self.metres)} at {self.tempo:.0f} bpm, "
            f"{counted(self.n_notes, 'note')}, {counted(self.n_tracks, 'track')}"
        )


def summarize(midi: MidiFile) -> MidiSummary:
    """Measure a repaired file."""
    n_ticks = last_note_end(midi)
    opening = metre_at(midi, first_note_start(midi))
    metres = [opening] + [
        change for change in midi.time_signature_changes if opening.time < change.time < n_ticks
    ]
    return MidiSummary(
        n_notes=sum(len(track.notes) for track in midi.instruments),
        n_tracks=len(midi.instruments),
        seconds=TempoMap(midi).to_seconds(n_ticks),
        programs=tuple(sorted({int(t.program) for t in midi.instruments if not t.is_drum})),
        n_ticks=n_ticks,
        ticks_per_beat=midi.ticks_per_beat,
        n_bars=len(bars_and_beats(midi, n_ticks)[0]),
        metres=tuple(dict.fromkeys(f"{m.numerator}/{m.denominator}" for m in metres)),
        tempo=midi.tempo_changes[0].tempo,
    )


def track_label(track: Instrument) -> str:
    """Return the name of a track, or else what plays it."""
    return track.name.strip() or program_name(track.program, is_drum=track.is_drum)
