"""What a written file is, measured from the file itself, beside what was asked of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from seqgen.midi import ANY_SIZE, MidiFile, open_midi
from seqgen.midi.timing import bars_and_beats, last_note_end, metre_at
from seqgen.tasks.asking import describe_part
from seqgen.tasks.bars import DRUMS, Bar, BarNote
from seqgen.tasks.controls import BLOCK, LEVELS, MEASURES, OF_BLOCKS, Wish
from seqgen.tasks.harmony import chord_of, key_of

CLOSE_TEMPO = 0.03
MOST_SAID = 16  # words of what was found; records have all
SAME = 1e-3  # of a quarter note: rounding to ticks


@dataclass(frozen=True)
class ControlCheck:
    """One thing that was asked for.

    Attributes:
        name: of the control.
        asked, found: in words.
        met: the share of the bars, or of the pieces, where it was met.
    """

    name: str
    asked: str
    found: str
    met: float

    def __str__(self) -> str:
        words = self.found.split(" ")
        found = " ".join([*words[:MOST_SAID], *["…"] * (len(words) > MOST_SAID)])
        if self.met in (0, 1):
            return f"{self.name} {self.asked}: {'met' if self.met else f'not met, {found}'}"
        return f"{self.name} {self.asked}: met in {self.met:.0%} of the bars ({found})"


def check_asked(
    path: Path,
    asked: Mapping[str, str | None],
    wish: Wish,
    *,
    levels: Mapping[str, Sequence[float]],
    begin: float = 0.0,
    end: float = inf,
    bars: int | None = None,
    metre: str | None = None,
    tempo: float | None = None,
) -> list[ControlCheck]:
    """Measure the new bars of a file.

    Args:
        path: of the MIDI file.
        asked: controls, in the words of the person who asked.
        wish: the same, by new bar.
        levels: borders between the levels of each measure, as the run's tokens have them.
        begin, end: of the new bars, in quarter notes.
        bars: how many were asked for.
        metre: asked for, such as "3/4".
        tempo: asked for, in quarter notes per minute.
    """
    midi = open_midi(path, ANY_SIZE)
    found = [bar for start, bar in read_bars(midi) if begin <= start + SAME < end]
    findings = []
    if bars is not None:
        findings.append(ControlCheck("bars", str(bars), str(len(found)), float(len(found) == bars)))
    if metre is not None:
        metres = [f"{c.numerator}/{c.denominator}" for c in midi.time_signature_changes] or ["4/4"]
        findings.append(ControlCheck("metre", metre, ", ".join(metres), float(metres == [metre])))
    if tempo is not None:
        first = midi.tempo_changes[0].tempo
        met = abs(first / tempo - 1) <= CLOSE_TEMPO
        findings.append(ControlCheck("tempo", f"{tempo:g}", f"{first:.4g}", float(met)))
    for name, words in asked.items():
        if words is not None and found:
            findings.append(_check(name, words, wish, found, levels))
        elif words is not None:
            findings.append(ControlCheck(name, words, "no new notes", 0.0))
    return findings


def read_bars(midi: MidiFile) -> list[tuple[float, Bar]]:
    """Return the bars of a file up to its last note, and where each begins, in quarter notes."""
    ticks = midi.ticks_per_beat
    starts, _ = bars_and_beats(midi, max(last_note_end(midi), 1))
    notes: list[list[BarNote]] = [[] for _ in starts]
    for number, track in enumerate(midi.instruments):
        part = f"{DRUMS if track.is_drum else track.program}.{number}"
        for note in track.notes:
            k = int(np.searchsorted(starts, note.start, side="right")) - 1
            start, length = (note.start - starts[k]) / ticks, (note.end - note.start) / ticks
            notes[k].append(BarNote(start, length, note.pitch, note.velocity, part))
    bars = []
    for start, inside in zip(starts, notes, strict=True):
        metre = metre_at(midi, int(start))
        quarters = 4 * metre.numerator / metre.denominator
        bars.append((float(start) / ticks, Bar((), {}, {}, tuple(inside), quarters)))
    while bars and not bars[-1][1].notes:  # a last note that is held
        bars.pop()
    return bars


def _check(
    name: str,
    words: str,
    wish: Wish,
    bars: Sequence[Bar],
    levels: Mapping[str, Sequence[float]],
) -> ControlCheck:
    """Compare one control with what the bars are."""
    if name == "key":
        key = key_of(note for bar in bars for note in bar.notes)
        return ControlCheck(name, words, str(key), float([key] == wish(0)["key"]))
    if name == "instruments":
        parts = {note.part for bar in bars for note in bar.notes}
        # Two pianos are two.
        playing, wanted = (sorted(x.partition(".")[0] for x in of) for of in (parts, wish(0)[name]))
        counts = Counter(map(describe_part, playing))
        who = ", ".join(name if n == 1 else f"{name} ({n} parts)" for name, n in counts.items())
        return ControlCheck(name, words, who, float(playing == wanted))
    size = BLOCK if name in OF_BLOCKS else 1
    came, met = [], []
    for number in range(0, len(bars), size):
        inside = bars[number : number + size]
        if name == "chords":
            value = chord_of(note for bar in inside for note in bar.notes) or "silence"
        else:
            level = MEASURES[name](inside) if any(bar.notes for bar in inside) else 0.0
            value = LEVELS[int(np.searchsorted(levels[name], level))]
        came.append(value)
        met += [value in wish(number)[name]] if wish(number)[name] else []
    return ControlCheck(name, words, " ".join(came), float(np.mean(met)) if met else 1.0)
