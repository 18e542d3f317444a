"""Fiddle tunes in ABC notation: which they are in music21's corpus, and how one is read.

music21 is an optional package and slow to import: only the functions that need it import it. It
reads notes, lengths, keys and bar lines; its streams, which take half a second a tune, are not
made, and its expansion of repeats, which needs them, is not used.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from seqgen.data.score_corpora import ScoreCorpus
from seqgen.data.scores import Meter, Piece, Pitch, ScoreNote, Unfit, join_tied, lay_out_bars

if TYPE_CHECKING:
    from music21.abcFormat import ABCNote, ABCToken

FIDDLE = 40
ABC_VERSION = (2, 1, 0)  # from 2 on, music21 lets an accidental last until the end of the bar
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # of a name like ThisOne

# Annotations, grace notes, decorations, the letters of others, slurs, marks at the ends of lines.
ORNAMENTS = re.compile(r'"[^"]*"|\{[^}]*\}|![^!]*!|[~.\\]|[^\W\d_A-GZa-gz]|\((?!\d)|\)')
BROKEN_SLUR = re.compile(r"-\s*([<>]+)|([<>]+)\s*-")  # the lengths differ: it ties no notes
OTHER_ENDING = re.compile(r"[|\[]\s*(?:[3-9]|[12]\s*[,-]\s*\d)")
STRAY = re.compile(r"[\^=_]+(?![\^=_A-Ga-g])\d*")  # accidentals of no note: "=20", of a mail
UNREAD = re.compile(r"[^A-Ga-gz\d/<>|:,'\s()^_=\[\]-]|\^\^|__")  # music21 forgets half of ^^


@dataclass
class Measure:
    """What stands between two bar lines.

    Attributes:
        notes: start within the measure and length in quarters, pitch, and tie as music21 has it.
        opens: a repeat starts here.
        begins: a section begins here, after a double bar line.
        closes: a repeat ends here.
        ending: 1 or 2 where a first or second ending begins here.
    """

    meter: Meter
    opens: bool = False
    begins: bool = False
    closes: bool = False
    ending: int | None = None
    notes: list[ScoreNote] = field(default_factory=list)
    length: Fraction = Fraction(0)


def find_tunes(folder: Path) -> list[tuple[str, str]]:
    """Return name and ABC text of each tune of the two collections below music21's corpus.

    Some of O'Neill's are there twice, transcribed by two people: the second is called "…-2".
    """
    tunes = {}
    for path in sorted((folder / "ryansMammoth").glob("*.abc")):
        tunes[f"ryan-{_slug(WORDS.sub(' ', path.stem))}"] = path.read_text("utf-8")
    for path in sorted((folder / "oneills1850").glob("*.abc")):
        for text in re.split(r"(?m)^(?=X:)", path.read_text("utf-8"))[1:]:
            number, title = re.match(r"X:\s*(\d+)", text), re.search(r"(?m)^T:(.*)", text)
            if number and title:
                name = f"oneill-{int(number[1]):04d}-{_slug(title[1])}"
                numbered = (f"{name}-{i}" for i in count(2))
                tunes[next(name for name in chain([name], numbered) if name not in tunes)] = text
    return list(tunes.items())


def read_tune(text: str) -> Piece:
    """Return the melody of a tune in ABC notation, with the repeats that have a sign played out.

    Raises `Unfit` where it is not one melody, or its repeats or bars do not add up.
    """
    measures = _measures(text)
    measures = [measures[i] for i in _play_order(measures)]
    rest, meters = lay_out_bars([(measure.length, measure.meter) for measure in measures])
    written = {measure.meter for measure in measures}
    if odd := [meter for _, *meter in meters if tuple(meter) not in written]:
        raise Unfit(f"its bars do not add up: one of {odd[0][0]}/{odd[0][1]}")
    return Piece({"Melody": join_tied(_notes(measures, rest), "the melody")}, meters)


FOLK = ScoreCorpus(
    name="folk",
    pieces="tunes",
    files=("ryan-*.mid", "oneill-*.mid"),
    format=1,
    find=find_tunes,
    read=read_tune,
    program=FIDDLE,
    tempo=120.0,
)


def _play_order(measures: list[Measure]) -> list[int]:
    """Return the numbers of the measures as they are played.

    A sign that ends a repeat goes back to the one that starts it or, where there is none, to the
    last double bar line or repeat. Raises `Unfit` where signs or endings have no counterpart.
    """
    order: list[int] = []
    start, first = 0, None  # of the section, and of its first ending
    is_open = False  # by a sign that starts a repeat
    ending = None  # that is being played
    for i, measure in enumerate(measures):
        if measure.opens:
            if is_open:
                raise Unfit("a repeat starts within a repeat")
            start, is_open, ending = i, True, None
        elif measure.begins and not is_open and measure.ending is None:
            start, ending = i, None
        if (measure.ending == 2) != (i > 0 and measures[i - 1].closes and first is not None):
            raise Unfit("a first ending without a second, or a second without a first")
        if measure.ending is not None:
            ending, first = measure.ending, i if measure.ending == 1 else None
        order.append(i)
        if measure.closes:
            if ending != 2:  # a sign after the second ending only closes it
                order += range(start, i + 1 if first is None else first)
            start, is_open, ending = i + 1, False, None
    if is_open or first is not None:
        raise Unfit("a repeat that does not end")
    return order


def _measures(text: str) -> list[Measure]:
    """Return the measures of a tune as they are written."""
    from music21.abcFormat import ABCBar, ABCChord, ABCMetadata, ABCNote

    measures: list[Measure] = []
    meter: Meter | None = None
    bars: list[str] = [""]  # the bar lines since the last note
    for token in _tokens(text):
        if isinstance(token, ABCBar):
            bars.append(token.src)
        elif isinstance(token, ABCMetadata):
            if token.isMeter():
                parameters = token.getTimeSignatureParameters()
                meter = None if parameters is None else parameters[:2]
        elif isinstance(token, ABCChord):
            raise Unfit("it has chords")
        elif isinstance(token, ABCNote):
            if meter is None:
                raise Unfit("no time signature at the start")
            if bars:
                if measures:
                    measures[-1].closes = _closes(bars)
                measures.append(_begin(meter, bars))
                bars = []
            _append(measures[-1], token)
    if not measures:
        raise Unfit("no notes")
    measures[-1].closes = _closes(bars)
    if any(bar.endswith(":") for bar in bars):
        raise Unfit("a repeat starts after the last note")
    return measures


def _tokens(text: str) -> "Iterator[ABCToken]":
    """Yield what music21 reads in a tune: notes, rests, bar lines, and changes of key and meter."""
    from music21.abcFormat import ABCHandler

    handler = ABCHandler(abcVersion=ABC_VERSION)
    handler.process(_plain(text))
    yield from handler.tokens


def _plain(text: str) -> str:
    """Return the notes of a tune and the fields that they need, in a form that music21 reads right.

    music21 counts grace notes among those of a triplet, overlooks the sign of a dotted pair beside
    grace notes or a slur, and takes every capital letter before a colon for the name of a field.
    """
    lines = []
    for line in re.sub(r"\[([KLM]:[^]]*)\]", r"\n\1\n", text).splitlines():
        line = line.split("%")[0]
        if re.match(r"[KLM]:(?!\|)", line):
            lines.append(line)
        elif not re.match(r"[A-Za-z]:(?!\|)", line):
            line = STRAY.sub("", ORNAMENTS.sub("", line)).replace("[|]", "| ").replace("::", ":||:")
            line = re.sub(r"(?<=[A-Z]):", " :", BROKEN_SLUR.sub(r"\1\2", line))
            if OTHER_ENDING.search(line):
                raise Unfit("it has endings besides a first and a second one")
            if unread := UNREAD.search(line):
                raise Unfit(f"it has the sign {unread[0]}")
            lines.append(line)
    return "\n".join(lines)


def _begin(meter: Meter, bars: list[str]) -> Measure:
    """Return the measure after some bar lines, still without notes."""
    endings = [int(bar[-1]) for bar in bars if bar[-1:] in ("1", "2")]
    opens = any(bar.endswith(":") for bar in bars)
    begins = any(bar in ("||", "|]", "[|") for bar in bars)
    return Measure(meter, opens, begins, ending=endings[0] if endings else None)


def _closes(bars: list[str]) -> bool:
    return any(bar.startswith(":|") for bar in bars)


def _append(measure: Measure, note: "ABCNote") -> None:
    length = Fraction(note.quarterLength)
    if note.activeTuplet is not None:
        length *= Fraction(note.activeTuplet.tupletMultiplier())
    if not note.isRest:
        measure.notes.append(ScoreNote(measure.length, length, _pitch(note), note.tie))
    measure.length += length


def _pitch(note: "ABCNote") -> Pitch:
    from music21.pitch import Pitch as NamedPitch

    return NamedPitch(note.pitchName).midi


def _notes(measures: list[Measure], rest: Fraction) -> Iterator[ScoreNote]:
    """Yield the notes of measures that follow one another, after a rest."""
    for measure in measures:
        for note in measure.notes:
            yield note._replace(start=rest + note.start)
        rest += measure.length


def _slug(title: str) -> str:
    """Return a title as part of the name of a file: "The King's Jig" becomes "the-kings-jig"."""
    plain = unicodedata.normalize("NFKD", title.replace("'", "")).encode("ascii", "ignore").decode()
    return "-".join(re.findall(r"[a-z0-9]+", plain.lower()))
