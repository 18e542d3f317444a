"""The measures of a piece: what each is called, what it means, and how it is computed.

A measure is one row of the table below; comparison, record and report follow from the row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np

from seqgen.evaluation.music import features, structure
from seqgen.evaluation.music.features import DURATIONS, ONSET_CELLS, ONSET_QUARTERS, Shares
from seqgen.evaluation.music.notes import Notes, read_notes
from seqgen.evaluation.music.structure import DISTANCES, LONGEST_CYCLE, SHORTEST_RUN
from seqgen.midi import MidiFile

LAGS = (1, 2, 4, 8)  # bars

PITCH_CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
PITCHES = tuple(f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}" for pitch in range(128))

SOURCES = {
    "Dong et al. 2020": "Dong, Chen, McAuley, Berg-Kirkpatrick: MusPy: A Toolkit for Symbolic "
    "Music Generation. ISMIR 2020",
    "Wu & Yang 2020": "Wu, Yang: The Jazz Transformer on the Front Line: Exploring the "
    "Shortcomings of AI-composed Music through Quantitative Measures. ISMIR 2020",
    "Mogren 2016": "Mogren: C-RNN-GAN: Continuous Recurrent Neural Networks with Adversarial "
    "Training. NIPS 2016, Constructive Machine Learning Workshop",
    "Dong et al. 2018a": "Dong, Hsiao, Yang, Yang: MuseGAN: Multi-track Sequential Generative "
    "Adversarial Networks for Symbolic Music Generation and Accompaniment. AAAI 2018",
    "Dong et al. 2018b": "Dong, Hsiao, Yang: Pypianoroll: Open Source Python Package for Handling "
    "Multitrack Pianorolls. ISMIR 2018, late-breaking demos",
    "Yang & Lerch 2020": "Yang, Lerch: On the Evaluation of Generative Models in Music. Neural "
    "Computing and Applications 32, 2020",
    "Yu et al. 2022": "Yu, Lu, Wang, Hu, Tan, Ye, Zhang, Qin, Liu: Museformer: Transformer with "
    "Fine- and Coarse-Grained Attention for Music Generation. NeurIPS 2022",
    "Foote 1999": "Foote: Visualizing Music and Audio Using Self-Similarity. ACM Multimedia 1999",
}
MUSPY = "Dong et al. 2020 (MusPy)"
WU_YANG = "Wu & Yang 2020 (The Jazz Transformer)"
MOGREN = "Mogren 2016 (C-RNN-GAN)"
MUSEGAN = "Dong et al. 2018a (MuseGAN)"
YANG_LERCH = "Yang & Lerch 2020"
MUSEFORMER = "after Yu et al. 2022 (Museformer) and Foote 1999 (self-similarity)"
OURS = "this project"
NOTES = "share of notes"
# Names of the places in a bar, in quarter notes from its beginning.
PLACES = (*(f"{cell / ONSET_CELLS:.3g}" for cell in range(ONSET_CELLS * ONSET_QUARTERS)), "later")
REACHES = (
    *(
        f"{first}" if after == first + 1 else f"{first} to {after - 1}"
        for first, after in pairwise(DISTANCES)
    ),
    f"{DISTANCES[-1]} and more",
)
# What a musician hears, in the order of the report.
ASPECTS = ("rhythm", "density", "key", "pitch range", "texture", "repetition", "length")

Value = float | bool | Shares | None


@dataclass(frozen=True)
class Measure:
    """A number of a piece, or shares over bins that sum to 1."""

    name: str  # in records
    aspect: str | None  # of music, one of `ASPECTS`; None where it is no part of the sound
    title: str  # what a musician calls it
    plain: str  # one line on what it tells
    unit: str  # of a number; of a histogram, what is shared out
    meaning: str  # how it is computed
    source: str  # where it comes from
    compute: Callable[[Notes], Value]  # None where it has no meaning for the notes of a piece
    bins: tuple[str, ...] = ()  # names of the bins of a histogram

    @property
    def kind(self) -> Literal["scalar", "histogram"]:
        return "histogram" if self.bins else "scalar"


def measure(midi: MidiFile, *, ended_by_itself: bool | None = None) -> dict[str, Value]:
    """Measure a piece by everything in `MEASURES`; any MIDI file will do, also one without notes.

    `ended_by_itself` is what the record of a generated piece says; None for others.
    """
    notes = read_notes(midi)
    values = {name: found.compute(notes) for name, found in MEASURES.items()}
    return values | {"ended_by_itself": ended_by_itself}


_Row = tuple[
    str, str | None, str, str, str, str, str, Callable[[Notes], Value], *tuple[tuple[str, ...], ...]
]
# fmt: off
# Name, aspect, title, plain words, unit, meaning, source, how it is computed; bins of histograms.
_TABLE: tuple[_Row, ...] = (
    ("n_notes", "length", "number of notes", "how many notes a piece has", "notes",
     "notes of all tracks, drums too", OURS, lambda notes: len(notes.starts)),
    ("n_bars", "length", "number of bars", "how many bars a piece has", "bars",
     "bars up to the one in which the last note ends", OURS, lambda notes: notes.n_bars),
    ("seconds", "length", "duration", "how long a piece plays", "s",
     "time from the start to the end of the last note", OURS, lambda notes: notes.seconds),
    ("ended_by_itself", None, "ends by itself",
     "whether the model ended the piece, or the limit of its length did", "share of pieces",
     "the model wrote the end of the piece, and was not cut at the length it was allowed", OURS,
     lambda notes: None),
    ("pitch_histogram", "pitch range", "pitches", "how often each note of the keyboard is played",
     NOTES, "shares of the 128 MIDI pitches among the notes, drums left out", MUSPY,
     lambda notes: features.histogram(notes.pitched, 128), PITCHES),
    ("pitch_class_histogram", "key", "note names",
     "how often C, C♯, D … are played, in any octave", NOTES,
     "shares of the 12 pitch classes among the notes, drums left out; follows the key, so music in "
     "more keys is flatter", YANG_LERCH,
     lambda notes: features.histogram(notes.pitched % 12, 12), PITCH_CLASSES),
    ("duration_histogram", "rhythm", "note lengths", "how often quarters, eighths, … are played",
     NOTES, "shares of note values in quarter notes, each note counted for the nearest by ratio, "
     "drums left out", f"after {YANG_LERCH} (note length histogram)", features.duration_histogram,
     tuple(f"{value:.3g}" for value in DURATIONS)),
    ("onset_histogram", "rhythm", "places in the bar",
     "on which beats, and where between them, notes begin", NOTES,
     "shares of the places at which notes begin, in twelfths of a quarter note from the beginning "
     "of the bar, drums too", OURS, features.onset_histogram, PLACES),
    ("pitch_entropy", "pitch range", "variety of pitches",
     "how many different notes of the keyboard are in use, and how evenly", "bits",
     "Shannon entropy of the piece's pitch histogram, 0 to 7", MUSPY,
     lambda notes: features.entropy(notes.pitched)),
    ("pitch_class_entropy", "key", "variety of note names",
     "how evenly the twelve note names are used: low in one key, high in chromatic music", "bits",
     "Shannon entropy of the piece's pitch-class histogram, 0 to 3.58",
     f"{WU_YANG}, over the whole piece as in MusPy",
     lambda notes: features.entropy(notes.pitched % 12)),
    ("scale_consistency", "key", "staying in key", "how many of the notes belong to one scale",
     NOTES, "the largest share of notes that lie in one major or natural minor scale, drums left "
     "out", f"{MOGREN}; scales as in MusPy", features.scale_consistency),
    ("pitch_range", "pitch range", "range", "from the lowest note to the highest", "semitones",
     "highest minus lowest pitch, drums left out",
     f"{MOGREN} (tone span); {YANG_LERCH}; MusPy", features.pitch_range),
    ("n_pitches_used", "pitch range", "number of pitches",
     "how many different notes of the keyboard are played", "pitches",
     "different pitches, drums left out", MUSPY, lambda notes: len(np.unique(notes.pitched))),
    ("n_pitch_classes_used", "key", "number of note names", "how many of C, C♯, D … are played",
     "pitch classes", "different pitch classes, drums left out",
     f"{MUSEGAN}, over the whole piece as in MusPy",
     lambda notes: len(np.unique(notes.pitched % 12))),
    ("polyphony", "texture", "notes at once", "how many notes sound together on average", "pitches",
     "mean number of different pitches that sound, while any does, drums left out",
     f"{MUSPY}; Mogren's polyphony counts simultaneous onsets",
     lambda notes: features.polyphony(notes)[0]),
    ("polyphony_rate", "texture", "time with several notes",
     "how much of the time two or more notes sound together", "share of time",
     "share of the piece in which two or more pitches sound, drums left out",
     f"{MUSPY}, whose default asks for three or more", lambda notes: features.polyphony(notes)[1]),
    ("notes_per_second", "density", "notes per second", "how fast notes follow each other",
     "notes/s", "notes over the time to the end of the last one, drums too", OURS,
     lambda notes: len(notes.starts) / notes.seconds if len(notes.starts) else None),
    ("notes_per_bar", "density", "notes per bar", "how full the bars are", "notes/bar",
     "notes over bars, drums and empty bars too", f"after {YANG_LERCH} (note count per bar)",
     lambda notes: len(notes.starts) / notes.n_bars if len(notes.starts) else None),
    ("groove_consistency", "rhythm", "steadiness of rhythm",
     "how alike the rhythms of neighbouring bars are", "share",
     "share of a bar's places, 64 in 4/4, at which it and the next bar agree on whether a note "
     "begins; mean over neighbours, drums too",
     f"{WU_YANG} (grooving similarity), of neighbouring bars as in MusPy",
     features.groove_consistency),
    ("empty_bar_rate", "density", "silent bars", "how many bars are silent", "share of bars",
     "bars in which nothing sounds, drums too", f"{MUSEGAN}; MusPy",
     lambda notes: features.empty_rate(notes, notes.bar_ticks)),
    ("empty_beat_rate", "density", "silent beats", "how many beats are silent", "share of beats",
     "beats in which nothing sounds, drums too; a beat is the unit of the time signature",
     "Dong et al. 2018b (Pypianoroll); MusPy",
     lambda notes: features.empty_rate(notes, notes.beat_ticks)),
    *((f"bar_similarity_{lag}", "repetition",
       f"likeness of bars {lag} apart" if lag > 1 else "likeness of neighbouring bars",
       "how much a bar has in common with the " + (f"one {lag} later" if lag > 1 else "next"),
       "share",
       f"onsets that a bar and the one {lag} later have in common, over those that either has; an "
       "onset is a sixteenth of the bar and a pitch class; mean over bars, drums left out",
       MUSEFORMER, partial(structure.bar_similarity, lag=lag)) for lag in LAGS),
    ("recurring_bars", "repetition", "bars heard before",
     "how many bars are exact repeats of an earlier one", "share of bars",
     "bars that an earlier bar equals in all onsets (sixteenths) and pitches, drums too; empty "
     "bars left out", OURS, structure.recurring_bars),
    ("repeated_notes", "repetition", "notes heard before",
     "how much of the music each part has played before, bar for bar", NOTES,
     "notes in bars that equal an earlier bar of their track in all onsets (sixteenths) and "
     "pitches, drums too", OURS, structure.repeated_notes),
    ("repeat_distances", "repetition", "how far back repeats reach",
     "how many bars lie between a bar of a part and its repeat", "share of repeated notes",
     "distances in bars from a repeated bar of a track to the nearest one before that it equals, "
     "weighted by its notes", OURS, structure.repeat_distances, REACHES),
    ("repeated_cycles", "repetition", "notes in a loop",
     "how much of the piece repeats the same few bars over and over", NOTES,
     f"notes in immediate repetitions of a cycle of 1 to {LONGEST_CYCLE} quarter notes: all onsets "
     f"and pitches as one period before, for a period or longer and at least {SHORTEST_RUN} "
     "quarter notes; the first statement does not count", OURS, structure.repeated_cycles),
)
# fmt: on
MEASURES = {row[0]: Measure(*row) for row in _TABLE}
# Measures that grow with the length of a piece: for pieces that were cut they reflect the limit.
GROWING = (
    *("n_notes", "n_bars", "seconds", "pitch_entropy", "pitch_class_entropy", "pitch_range"),
    *("n_pitches_used", "n_pitch_classes_used", "recurring_bars", "repeated_cycles"),
    *("repeated_notes", "repeat_distances"),
)
