"""Writing MIDI files as bytes."""

import io

from miditoolkit import MidiFile


def midi_bytes(midi: MidiFile) -> bytes:
    """Return a repaired file as the bytes of a .mid file.

    MIDI cannot tell which of two overlapping notes of one track and pitch is released: where one
    encloses the other, a reader will give the earlier start the earlier end.
    """
    file = io.BytesIO()
    midi.dump(file=file)
    return file.getvalue()
