"""The measures by name: what each means, in which unit, and where it comes from."""

from dataclasses import dataclass
from typing import Literal

LAGS = (1, 2, 4, 8)  # bars
LONGEST_CYCLE = 32  # quarter notes: eight bars of 4/4
SHORTEST_RUN = 4  # quarter notes; two equal chords in a row are no cycle yet
# Note values in quarter notes: thirty-second to double whole, triplets and dots between them.
DURATIONS = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
ONSET_CELLS = 12  # to a quarter note: sixteenths and triplets fall apart
ONSET_QUARTERS = 4  # what is later in a longer bar shares the last bin

PITCH_CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")

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


@dataclass(frozen=True)
class Definition:
    """One measure: a number of a piece, or shares over bins that sum to 1."""

    name: str
    kind: Literal["scalar", "histogram"]
    title: str
    unit: str
    meaning: str
    source: str
    bins: tuple[str, ...] = ()


def _scalar(name: str, title: str, unit: str, meaning: str, source: str) -> Definition:
    return Definition(name, "scalar", title, unit, meaning, source)


def _histogram(name: str, title: str, meaning: str, source: str, bins: tuple) -> Definition:
    return Definition(name, "histogram", title, "share of notes", meaning, source, bins)


def _places() -> tuple[str, ...]:
    """Names of the places in a bar, in quarter notes from its beginning."""
    n_cells = ONSET_CELLS * ONSET_QUARTERS
    return (*(f"{cell / ONSET_CELLS:.3g}" for cell in range(n_cells)), "later")


def _lag(lag: int) -> Definition:
    bars = "bar" if lag == 1 else "bars"
    return _scalar(
        f"bar_similarity_{lag}",
        f"similarity of bars, {lag} apart",
        "share",
        f"onsets that a bar and the one {lag} {bars} later have in common, over those that either "
        "has; an onset is a sixteenth of the bar and a pitch class; mean over bars, drums left out",
        MUSEFORMER,
    )


_ALL = (
    _scalar("n_notes", "notes", "notes", "notes of all tracks, drums too", OURS),
    _scalar("n_bars", "bars", "bars", "bars up to the one in which the last note ends", OURS),
    _scalar("seconds", "length", "s", "time from the start to the end of the last note", OURS),
    _scalar(
        "ended_by_itself",
        "ended by itself",
        "share of pieces",
        "the model wrote the end of the piece, and was not cut at the length it was allowed",
        OURS,
    ),
    _histogram(
        "pitch_histogram",
        "pitches",
        "shares of the 128 MIDI pitches among the notes, drums left out",
        MUSPY,
        tuple(str(pitch) for pitch in range(128)),
    ),
    _histogram(
        "pitch_class_histogram",
        "pitch classes",
        "shares of the 12 pitch classes among the notes, drums left out; follows the key, so music "
        "in more keys is flatter",
        YANG_LERCH,
        PITCH_CLASSES,
    ),
    _histogram(
        "duration_histogram",
        "durations",
        "shares of note values in quarter notes, each note counted for the nearest by ratio, "
        "drums left out",
        f"after {YANG_LERCH} (note length histogram)",
        tuple(f"{value:.3g}" for value in DURATIONS),
    ),
    _histogram(
        "onset_histogram",
        "onsets in the bar",
        "shares of the places at which notes begin, in twelfths of a quarter note from the "
        "beginning of the bar, drums too",
        OURS,
        _places(),
    ),
    _scalar(
        "pitch_entropy",
        "pitch entropy",
        "bits",
        "Shannon entropy of the piece's pitch histogram, 0 to 7",
        MUSPY,
    ),
    _scalar(
        "pitch_class_entropy",
        "pitch-class entropy",
        "bits",
        "Shannon entropy of the piece's pitch-class histogram, 0 to 3.58",
        f"{WU_YANG}, over the whole piece as in MusPy",
    ),
    _scalar(
        "scale_consistency",
        "scale consistency",
        "share of notes",
        "the largest share of notes that lie in one major or natural minor scale, drums left out",
        f"{MOGREN}; scales as in MusPy",
    ),
    _scalar(
        "pitch_range",
        "pitch range",
        "semitones",
        "highest minus lowest pitch, drums left out",
        f"{MOGREN} (tone span); {YANG_LERCH}; MusPy",
    ),
    _scalar(
        "n_pitches_used", "pitches used", "pitches", "different pitches, drums left out", MUSPY
    ),
    _scalar(
        "n_pitch_classes_used",
        "pitch classes used",
        "pitch classes",
        "different pitch classes, drums left out",
        f"{MUSEGAN}, over the whole piece as in MusPy",
    ),
    _scalar(
        "polyphony",
        "polyphony",
        "pitches",
        "mean number of different pitches that sound, while any does, drums left out",
        f"{MUSPY}; Mogren's polyphony counts simultaneous onsets",
    ),
    _scalar(
        "polyphony_rate",
        "polyphony rate",
        "share of time",
        "share of the piece in which two or more pitches sound, drums left out",
        f"{MUSPY}, whose default asks for three or more",
    ),
    _scalar(
        "notes_per_second",
        "notes per second",
        "notes/s",
        "notes over the time to the end of the last one, drums too",
        OURS,
    ),
    _scalar(
        "notes_per_bar",
        "notes per bar",
        "notes/bar",
        "notes over bars, drums and empty bars too",
        f"after {YANG_LERCH} (note count per bar)",
    ),
    _scalar(
        "groove_consistency",
        "groove consistency",
        "share",
        "share of a bar's places, 64 in 4/4, at which it and the next bar agree on whether a note "
        "begins; mean over neighbours, drums too",
        f"{WU_YANG} (grooving similarity), of neighbouring bars as in MusPy",
    ),
    _scalar(
        "empty_bar_rate",
        "empty bars",
        "share of bars",
        "bars in which nothing sounds, drums too",
        f"{MUSEGAN}; MusPy",
    ),
    _scalar(
        "empty_beat_rate",
        "empty beats",
        "share of beats",
        "beats in which nothing sounds, drums too; a beat is the unit of the time signature",
        "Dong et al. 2018b (Pypianoroll); MusPy",
    ),
    *(_lag(lag) for lag in LAGS),
    _scalar(
        "recurring_bars",
        "bars heard before",
        "share of bars",
        "bars that an earlier bar equals in all onsets (sixteenths) and pitches, drums too; empty "
        "bars left out",
        OURS,
    ),
    _scalar(
        "repeated_cycles",
        "notes in a loop",
        "share of notes",
        f"notes in immediate repetitions of a cycle of 1 to {LONGEST_CYCLE} quarter notes: all "
        f"onsets and pitches as one period before, for a period or longer and at least "
        f"{SHORTEST_RUN} quarter notes; the first statement does not count",
        OURS,
    ),
)
DEFINITIONS: dict[str, Definition] = {definition.name: definition for definition in _ALL}
