"""Responses that are no JSON, each of one kind, as the schema names it."""

from fastapi.responses import Response


class Binary(Response):
    """Bytes that only a program reads."""

    media_type = "application/octet-stream"


class Picture(Response):
    """A PNG."""

    media_type = "image/png"


class MidiFile(Response):
    """A MIDI file."""

    media_type = "audio/midi"


class Wave(Response):
    """A WAV file."""

    media_type = "audio/wav"


class Packed(Response):
    """A project file."""

    media_type = "application/vnd.seqgen"
