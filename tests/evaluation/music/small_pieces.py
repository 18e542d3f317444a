"""Small pieces, note by note, in quarter notes."""

from seqgen.midi import Instrument, MidiFile, Note, TempoChange, TimeSignature

QUARTER = 16  # ticks: then a bar of 4/4 has 64, the places that grooves are compared in


def piece(*tracks, drums=(), meter=(4, 4), tempo=120, quarter=QUARTER) -> MidiFile:
    """A piece of tracks of (start, length, pitch), of which `drums` are one more."""
    midi = MidiFile(ticks_per_beat=quarter)
    midi.tempo_changes = [TempoChange(tempo, 0)]
    midi.time_signature_changes = [TimeSignature(*meter, 0)]
    for notes, is_drum in [*((track, False) for track in tracks), (drums, True)]:
        track = Instrument(0, is_drum=is_drum)
        for start, length, pitch in notes:
            start, length = round(start * quarter), round(length * quarter)
            track.notes.append(Note(70, pitch, start, start + length))
        midi.instruments.append(track)
    return midi


def shifted(notes, *, by):
    """The same notes, later."""
    return [(start + by, length, pitch) for start, length, pitch in notes]


def repeated(notes, times, *, every):
    """The same notes several times, one statement beginning `every` quarter notes."""
    return [note for i in range(times) for note in shifted(notes, by=i * every)]
