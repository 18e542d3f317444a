"""Bach's four-part chorales, read out of music21's own corpus and written once as MIDI files.

music21 is an optional package: it is imported in the worker processes only, never by this module.
"""

import contextlib
import gc
import importlib.metadata
import importlib.util
import io
import json
import multiprocessing
import os
import warnings
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from miditoolkit import Instrument, MidiFile, Note, TempoChange, TimeSignature

from seqgen.errors import UserError
from seqgen.files import atomic_folder, write_json
from seqgen.midi.store import midi_bytes

if TYPE_CHECKING:
    from music21.stream import Part, Score

MANIFEST = "manifest.json"
FORMAT = 1  # raise it when the same scores would give other files
VOICES = ("Soprano", "Alto", "Tenor", "Bass")
TICKS_PER_QUARTER = 480
TEMPO = 90.0  # quarters per minute; the scores leave it open
VELOCITY = 80
PIANO = 0
MAX_WORKERS = 8  # beyond, starting the workers takes longer than the reading they share
CHUNK = 4
COPY_SHARE = 0.9  # of the shorter setting's notes; other settings of one tune share up to 0.87

Pitch = int
Tick = int
Voice = list[tuple[Tick, Tick, Pitch]]  # start, end, pitch
Outline = set[tuple[int, Tick, Pitch]]  # index of the voice, start, pitch from the last of voice 0


class Chorale(NamedTuple):
    """The four voices, top to bottom, and the (tick, numerator, denominator) of each new meter."""

    voices: list[Voice]
    meters: list[tuple[Tick, int, int]]


class Unfit(ValueError):
    """A score that is not one of four voices with one note at a time; the message says why."""


def build_chorales(
    folder: Path,
    *,
    only: Collection[str] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make sure that `folder` holds the chorales, one MIDI file each and a manifest; return it.

    A finished folder of this format and music21 version is left alone, anything less is written
    anew. `only` names works, such as "bwv66.6"; the default is all of them. `progress` is called
    with the scores read and their number. The manifest counts what was written and lists what was
    left out and why. Raises `UserError` where music21 is missing or `folder` holds other files.
    """
    folder = Path(folder)
    scores = _find_scores(only)
    wanted = {
        "format": FORMAT,
        "music21": importlib.metadata.version("music21"),
        "only": None if only is None else sorted(only),
    }
    if _is_finished(folder, wanted):
        return folder
    _check_replaceable(folder)
    n_workers = min(workers or os.cpu_count() or 1, MAX_WORKERS, len(scores))
    with (
        atomic_folder(folder) as temporary,
        ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _start_worker) as pool,
    ):
        left_out: dict[str, str] = {}
        written: dict[str, Outline] = {}
        results = pool.map(read_chorale, scores, chunksize=CHUNK)
        for done, (path, result) in enumerate(zip(scores, results, strict=True), start=1):
            if isinstance(result, str):
                left_out[path.name] = result
            elif original := _find_copied(outline := _outline(result), written):
                left_out[path.name] = f"the same setting as {original}"
            else:
                written[path.name] = outline
                (temporary / f"{path.stem}.mid").write_bytes(chorale_midi(result))
            if progress is not None:
                progress(done, len(scores))
        if not written:
            raise UserError(f"none of music21's {len(scores)} scores could be read: {left_out}")
        write_json(temporary / MANIFEST, {**wanted, "count": len(written), "left_out": left_out})
    return folder


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


def chorale_midi(chorale: Chorale) -> bytes:
    """Return a chorale as the bytes of a MIDI file with one track for each voice."""
    midi = MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    midi.tempo_changes = [TempoChange(TEMPO, 0)]
    midi.time_signature_changes = [TimeSignature(n, d, tick) for tick, n, d in chorale.meters]
    for name, voice in zip(VOICES, chorale.voices, strict=True):
        track = Instrument(PIANO, name=name)
        track.notes = [Note(VELOCITY, pitch, start, end) for start, end, pitch in voice]
        midi.instruments.append(track)
    return midi_bytes(midi)


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


def _find_scores(only: Collection[str] | None) -> list[Path]:
    """Return music21's Bach scores in MusicXML, sorted by name.

    The few in Humdrum's format are there as MusicXML too, and carry narrower terms.
    """
    package = importlib.util.find_spec("music21")
    if package is None or package.origin is None:
        raise UserError("the chorales corpus needs music21: pip install 'seqgen[chorales]'")
    folder = Path(package.origin).parent / "corpus" / "bach"
    scores = sorted(path for path in folder.glob("*") if path.suffix in (".mxl", ".xml"))
    if not scores:
        raise UserError(f"this copy of music21 came without its corpus: {folder} holds no scores")
    if only is None:
        return scores
    if unknown := set(only) - {path.stem for path in scores}:
        raise UserError(f"music21's Bach corpus has no {', '.join(sorted(unknown))}")
    return [path for path in scores if path.stem in only]


def _is_finished(folder: Path, wanted: dict[str, object]) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(manifest, dict) or any(manifest.get(key) != wanted[key] for key in wanted):
        return False
    return manifest.get("count") == len(list(folder.glob("*.mid")))


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an earlier build."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the chorales")
    for path in folder.glob("*"):
        if path.name != MANIFEST and not path.match("bwv*.mid"):
            raise UserError(f"{folder} holds {path.name}; name a new folder for the chorales")


def _start_worker() -> None:
    """Import music21 without a word, and keep the collector off what it brought."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(io.StringIO()):  # it names the optional packages it misses
        import music21  # noqa: F401
    gc.disable()  # a score is cyclic: one collection after each, instead of hundreds during it
    gc.freeze()


def _parse(path: Path) -> "Score":
    """Parse from text: that way music21 neither reads nor leaves pickles in a temporary folder."""
    from music21 import converter

    if path.suffix == ".mxl":
        text = converter.ArchiveManager(path).getData()
    else:
        text = path.read_text(encoding="utf-8")
    return converter.parseData(text, format="musicxml")


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
    sung = {voice: [] for voice in VOICES}
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


def _outline(chorale: Chorale) -> Outline:
    """Return the onsets of each voice, with pitches counted from the last note of the melody."""
    last = chorale.voices[0][-1][2]
    return {
        (index, start, pitch - last)
        for index, voice in enumerate(chorale.voices)
        for start, _, pitch in voice
    }


def _find_copied(outline: Outline, others: dict[str, Outline]) -> str | None:
    """Return which of `others` this setting copies, in the same key or another.

    Bach used a setting again with another text, and the corpus holds some in two editions. Apart
    in two files, such a pair could lie on both sides of the split into training and validation.
    """
    for name, other in others.items():
        if len(outline & other) >= COPY_SHARE * min(len(outline), len(other)):
            return name
    return None
