"""What scores of every corpus have in common: voices, bars, meters, and ties between notes."""

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

TICKS_PER_QUARTER = 480

Pitch = int
Tick = int
Meter = tuple[int, int]  # beats, beat type
Voice = list[tuple[Tick, Tick, Pitch]]  # start, end, pitch


class Piece(NamedTuple):
    """Voices by name, top to bottom, and the (tick, beats, beat type) of each new meter."""

    voices: dict[str, Voice]
    meters: list[tuple[Tick, int, int]]


class Unfit(ValueError):
    """A score that cannot become voices with one note at a time; the message says why."""


class ScoreNote(NamedTuple):
    """A note as it is written: from the start of the score in quarters; a tie as music21 has it."""

    start: Fraction
    length: Fraction
    pitch: Pitch
    tie: str | None


def join_tied(notes: Iterable[ScoreNote], name: str) -> Voice:
    """Return the notes of a voice with tied ones as one.

    Raises `Unfit`, by the name of the voice, where there are none or some overlap.
    """
    voice: Voice = []
    held = False  # the note before has a tie to this one
    for note in notes:
        start, end = to_ticks(note.start), to_ticks(note.start + note.length)
        if voice and start < voice[-1][1]:
            raise Unfit(f"{name} has notes that overlap")
        if held and note.tie in ("continue", "stop") and voice[-1][1:] == (start, note.pitch):
            voice[-1] = (voice[-1][0], end, note.pitch)
        else:
            voice.append((start, end, note.pitch))
        held = note.tie in ("start", "continue")
    if not voice:
        raise Unfit(f"{name} is silent")
    return voice


def lay_out_bars(
    measures: list[tuple[Fraction, Meter]],
) -> tuple[Fraction, list[tuple[Tick, int, int]]]:
    """Return the rest before a pickup in quarters, and each new meter: tick, beats, beat type.

    `measures` are the lengths in quarters, with the meter each is written in. A short first one is
    a pickup: the rest fills its bar. A bar that a repeat sign divides is written as two measures;
    they become one again. A bar left short gets a meter of its own length, and what follows starts
    on a bar line; a measure longer than its meter becomes several bars.
    """
    length, meter = measures[0]
    rest = max(_bar_length(meter) - length, Fraction(0))
    bars: list[tuple[Fraction, Meter]] = []
    filled, bar_meter = rest, meter
    for length, meter in measures:
        if filled and filled + length > _bar_length(bar_meter):
            bars.append((filled, _meter_of_length(filled)))
            filled = Fraction(0)
        if not filled:
            bar_meter = meter
        filled += length
        while filled >= _bar_length(bar_meter):
            bars.append((_bar_length(bar_meter), bar_meter))
            filled -= _bar_length(bar_meter)
    if filled:
        bars.append((filled, bar_meter))
    changes: list[tuple[Tick, int, int]] = []
    offset = Fraction(0)
    for length, meter in bars:
        if not changes or changes[-1][1:] != meter:
            changes.append((to_ticks(offset), *meter))
        offset += length
    return rest, changes


def to_ticks(quarters: Fraction) -> Tick:
    """Return a number of quarters in ticks."""
    return round(quarters * TICKS_PER_QUARTER)


def _bar_length(meter: Meter) -> Fraction:
    return Fraction(4 * meter[0], meter[1])


def _meter_of_length(quarters: Fraction) -> Meter:
    for beat_type in (4, 8, 16, 32):
        beats = quarters * beat_type / 4
        if beats.denominator == 1:
            return int(beats), beat_type
    raise Unfit(f"a bar of {quarters} quarters")
