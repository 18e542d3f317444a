"""One score of music21's corpus becomes four voices, their bars and their meters.

music21 is an optional package and slow to import: only the functions that need it import it.
"""

import contextlib
import gc
import io
import warnings
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from music21.stream import Part, Score

VOICES = ("Soprano", "Alto", "Tenor", "Bass")
TICKS_PER_QUARTER = 480

Pitch = int
Tick = int
Voice = list[tuple[Tick, Tick, Pitch]]  # start, end, pitch


class Chorale(NamedTuple):
    """The four voices, top to bottom, and the (tick, numerator, denominator) of each new meter."""

    voices: list[Voice]
    meters: list[tuple[Tick, int, int]]


class Unfit(ValueError):
    """A score that is not one of four voices with one note at a time; the message says why."""


def start_worker() -> None:
    """Import music21 silently, and exclude its objects from garbage collection."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(io.StringIO()):  # it names the optional packages it misses
        import music21  # noqa: F401
    gc.disable()  # a score is cyclic: one collection after each, instead of hundreds during it
    gc.freeze()


def read_chorale(path: Path) -> Chorale | str:
    """Return the chorale in one of music21's scores, or why there is none."""
    try:
        return _chorale(_parse(path))
    except Unfit as error:
        return str(error)
    except Exception as error:  # music21 raises whatever its parsers trip over: one score is lost
        return f"music21 could not read it ({type(error).__name__}: {error})"
    finally:
        gc.collect()


def lay_out_bars(
    measures: list[tuple[Fraction, tuple[int, int]]],
) -> tuple[Fraction, list[tuple[Fraction, int, int]]]:
    """Return the rest before a pickup, and the meters as (offset in quarters, beats, beat type).

    `measures` are the lengths in quarters, with the meter each is written in. A short first one is
    a pickup: the rest fills its bar. A bar that a repeat sign divides is written as two measures;
    they become one again. A bar left short gets a meter of its own length, and what follows starts
    on a bar line; a measure longer than its meter becomes several bars.
    """
    length, meter = measures[0]
    rest = max(_bar_length(meter) - length, Fraction(0))
    bars: list[tuple[Fraction, tuple[int, int]]] = []
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
    changes: list[tuple[Fraction, int, int]] = []
    offset = Fraction(0)
    for length, meter in bars:
        if not changes or changes[-1][1:] != meter:
            changes.append((offset, *meter))
        offset += length
    return rest, changes


def _bar_length(meter: tuple[int, int]) -> Fraction:
    return Fraction(4 * meter[0], meter[1])


def _meter_of_length(quarters: Fraction) -> tuple[int, int]:
    for beat_type in (4, 8, 16, 32):
        beats = quarters * beat_type / 4
        if beats.denominator == 1:
            return int(beats), beat_type
    raise Unfit(f"a bar of {quarters} quarters")


def _parse(path: Path) -> "Score":
    """Parse from text: that way music21 neither reads nor leaves pickles in a temporary folder."""
    from music21 import converter

    if path.suffix == ".mxl":
        text = converter.ArchiveManager(path).getData()
    else:
        text = path.read_text(encoding="utf-8")
    return cast("Score", converter.parseData(text, format="musicxml"))


def _chorale(score: "Score") -> Chorale:
    parts = _four_voices(score)
    layouts = [_measures(part) for part in parts]
    if any(layout != layouts[0] for layout in layouts):
        raise Unfit("the voices do not share their bar lines")
    rest, changes = lay_out_bars(layouts[0])
    meters = [(_tick(offset), beats, beat_type) for offset, beats, beat_type in changes]
    return Chorale([_voice(part, rest) for part in parts], meters)


def _four_voices(score: "Score") -> list["Part"]:
    """Return the parts of a four-part score, or those that are sung where instruments join in."""
    sung: dict[str, list[Part]] = {voice: [] for voice in VOICES}
    for part in score.parts:
        words = (part.partName or "").split()
        if words and words[0] in sung:
            sung[words[0]].append(part)
    if any(len(parts) != 1 for parts in sung.values()):
        raise Unfit(f"not one part each for {', '.join(VOICES)}")
    return [sung[voice][0] for voice in VOICES]


def _measures(part: "Part") -> list[tuple[Fraction, tuple[int, int]]]:
    """Return length and meter of each measure of a part."""
    measures = list(part.getElementsByClass("Measure"))
    ends = [Fraction(measure.offset) for measure in measures[1:]]
    ends.append(Fraction(part.duration.quarterLength))
    meter = None
    layout = []
    for measure, end in zip(measures, ends, strict=True):
        if measure.timeSignature is not None:
            meter = (measure.timeSignature.numerator, measure.timeSignature.denominator)
        if meter is None:
            raise Unfit("no time signature at the start")
        layout.append((end - Fraction(measure.offset), meter))
    if not layout:
        raise Unfit("no measures")
    return layout


def _voice(part: "Part", rest: Fraction) -> Voice:
    """Return the notes of a part after `rest`, tied ones as one, ornaments in small notes left out.

    Repeats are not played out: a piece that holds the same bars twice teaches nothing but copying.
    """
    voice: Voice = []
    held = False  # the note before has a tie to this one
    for measure in part.getElementsByClass("Measure"):
        if measure.voices:
            raise Unfit(f"{part.partName} has several voices")
        for note in measure.notes:
            if note.duration.isGrace:
                continue
            if not note.isNote:
                raise Unfit(f"{part.partName} has chords")
            offset = rest + Fraction(measure.offset) + Fraction(note.offset)
            start, end = _tick(offset), _tick(offset + Fraction(note.quarterLength))
            pitch = note.pitch.midi
            tie = None if note.tie is None else note.tie.type
            if voice and start < voice[-1][1]:
                raise Unfit(f"{part.partName} has notes that overlap")
            if held and tie in ("continue", "stop") and voice[-1][1:] == (start, pitch):
                voice[-1] = (voice[-1][0], end, pitch)
            else:
                voice.append((start, end, pitch))
            held = tie in ("start", "continue")
    if not voice:
        raise Unfit(f"{part.partName} is silent")
    return voice


def _tick(quarters: Fraction) -> Tick:
    return round(quarters * TICKS_PER_QUARTER)
