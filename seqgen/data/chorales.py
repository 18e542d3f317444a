"""Bach's four-part chorales: which of music21's scores they are, and how one is read.

music21 is an optional package and slow to import: only the functions that need it import it.
"""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from seqgen.data.score_corpora import ScoreCorpus
from seqgen.data.scores import Meter, Piece, ScoreNote, Unfit, Voice, join_tied, lay_out_bars

if TYPE_CHECKING:
    from music21.stream import Part, Score

VOICES = ("Soprano", "Alto", "Tenor", "Bass")
PIANO = 0


def find_chorales(folder: Path) -> list[tuple[str, Path]]:
    """Return the Bach scores in MusicXML below music21's corpus, sorted by name.

    The few in Humdrum's format also exist as MusicXML, and have a more restrictive licence.
    """
    paths = sorted(path for path in (folder / "bach").glob("*") if path.suffix in (".mxl", ".xml"))
    return [(path.name, path) for path in paths]


def read_chorale(path: Path) -> Piece:
    """Return the four voices of a score. Raises `Unfit` where it has others."""
    parts = _four_voices(_parse(path))
    layouts = [_measures(part) for part in parts]
    if any(layout != layouts[0] for layout in layouts):
        raise Unfit("the voices do not share their bar lines")
    rest, meters = lay_out_bars(layouts[0])
    voices = (_voice(part, rest) for part in parts)
    return Piece(dict(zip(VOICES, voices, strict=True)), meters)


CHORALES = ScoreCorpus(
    name="chorales",
    pieces="chorales",
    files=("bwv*.mid",),
    format=1,
    find=find_chorales,
    read=read_chorale,
    program=PIANO,
    tempo=90.0,
)


def _parse(path: Path) -> "Score":
    """Parse from text: that way music21 neither reads nor leaves pickles in a temporary folder."""
    from music21 import converter

    if path.suffix == ".mxl":
        text = converter.ArchiveManager(path).getData()
    else:
        text = path.read_text(encoding="utf-8")
    return cast("Score", converter.parseData(text, format="musicxml"))


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


def _measures(part: "Part") -> list[tuple[Fraction, Meter]]:
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
    """Return the notes of a part after `rest`, ornaments in small notes left out.

    Repeats are not played out: a piece that holds the same bars twice teaches nothing but copying.
    """
    notes = []
    for measure in part.getElementsByClass("Measure"):
        if measure.voices:
            raise Unfit(f"{part.partName} has several voices")
        for note in measure.notes:
            if note.duration.isGrace:
                continue
            if not note.isNote:
                raise Unfit(f"{part.partName} has chords")
            start = rest + Fraction(measure.offset) + Fraction(note.offset)
            tie = None if note.tie is None else note.tie.type
            notes.append(ScoreNote(start, Fraction(note.quarterLength), note.pitch.midi, tie))
    return join_tied(notes, str(part.partName))
