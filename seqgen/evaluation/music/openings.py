"""Beginnings of pieces, so that sets of unlike length can be compared at the same length."""

from seqgen.midi import Instrument, MidiFile, Note
from seqgen.midi.repair import repair
from seqgen.midi.timing import bars_and_beats, last_note_end


def opening(midi: MidiFile, *, n_bars: int) -> MidiFile:
    """Return a copy of the first `n_bars` bars; notes that sound on are cut there.

    The range, the entropies and what comes back all grow with the length of a piece. Where samples
    are shorter than real pieces, real openings are what they can be held against.
    """
    midi = repair(midi)
    bars, _ = bars_and_beats(midi, last_note_end(midi))
    if n_bars >= len(bars):
        return midi
    end = int(bars[n_bars])
    midi.instruments = [
        Instrument(
            track.program,
            is_drum=track.is_drum,
            name=track.name,
            notes=[
                Note(note.velocity, note.pitch, note.start, min(note.end, end))
                for note in track.notes
                if note.start < end
            ],
        )
        for track in midi.instruments
    ]
    return repair(midi)
