"""Keys and chords: estimated from notes, and read from what a person writes."""

import re
from collections.abc import Iterable

import numpy as np

from seqgen.tasks.bars import BarNote

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
QUALITIES = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "7": (0, 4, 7, 10),
    "maj7": (0, 4, 7, 11),
    "m7": (0, 3, 7, 10),
}
KEYS = [name + mode for mode in ("", "m") for name in NAMES]
CHORDS = [name + quality for quality in QUALITIES for name in NAMES]
# How well each scale degree fits a key: Temperley 1999, "What's Key for Key?", p. 74.
MAJOR = (5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0)
MINOR = (5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0)
MAJOR_WORDS, MINOR_WORDS = ("major", "maj"), ("minor", "min")
SPELT = {**dict.fromkeys(MAJOR_WORDS, ""), **dict.fromkeys(MINOR_WORDS, "m")}
SPELT |= {"M7": "maj7", "min7": "m7", "-7": "m7", "-": "m", "o": "dim", "°": "dim", "+": "aug"}


def chroma(notes: Iterable[BarNote]) -> np.ndarray:
    """Return for how many quarter notes each pitch class sounds [12]; drums do not count."""
    sums = np.zeros(12)
    for note in notes:
        if not note.is_drum:
            sums[note.pitch % 12] += note.length
    return sums


def key_of(notes: Iterable[BarNote]) -> str | None:
    """Return the key whose profile correlates best with the notes' pitch classes; None: silence.

    The method is Krumhansl and Schmuckler's (Krumhansl 1990, "Cognitive Foundations of Musical
    Pitch", chapter 4), with Temperley's profiles.
    """
    found = chroma(notes)
    if not found.any():
        return None
    return KEYS[int((_KEY_PROFILES @ (found - found.mean())).argmax())]


def chord_of(notes: Iterable[BarNote]) -> str | None:
    """Return the chord whose tones match best; None where nothing with a pitch sounds.

    That is the one with the highest cosine between the durations of the pitch classes and the
    chord's tones, all equal; of several with the same one, that with fewer tones.
    """
    found = chroma(notes)
    if not found.any():
        return None
    return CHORDS[int(np.round(_CHORD_TONES @ found, 9).argmax())]


def parse_key(text: str) -> str | None:
    """Read a key such as "Am", "F# minor" or "Bb"; None where it is none."""
    found = re.fullmatch(r"([A-Ga-g])([#b♯♭]?)\s*(.*)", text.strip())
    if found is None:
        return None
    mode = found[3].lower() if found[3] != "M" else ""
    mode = SPELT.get(mode, mode)
    return _root(found[1], found[2]) + mode if mode in ("", "m") else None


def parse_chord(text: str) -> str | None:
    """Read a chord such as "Am", "Bb7", "F#maj7" or "Bdim"; None where it is none."""
    found = re.fullmatch(r"([A-G])([#b♯♭]?)(.*)", text.strip())
    if found is None:
        return None
    quality = SPELT.get(found[3], found[3])
    return _root(found[1], found[2]) + quality if quality in QUALITIES else None


def chord_spellings() -> list[str]:
    """Return all that `parse_chord` reads."""
    spelt = (
        letter + accidental + quality
        for letter in "CDEFGAB"
        for accidental in ("", "#", "b", "♯", "♭")
        for quality in (*QUALITIES, *SPELT)
    )
    return [text for text in spelt if parse_chord(text) is not None]


def _root(letter: str, accidental: str) -> str:
    shift = {"#": 1, "♯": 1, "b": -1, "♭": -1}.get(accidental, 0)
    return NAMES[(NAMES.index(letter.upper()) + shift) % 12]


def _profiles() -> np.ndarray:
    """One row for each key [24, 12], as correlation needs it: mean 0, norm 1."""
    rows = np.stack([np.roll(profile, k) for profile in (MAJOR, MINOR) for k in range(12)])
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _tones() -> np.ndarray:
    """One row for each chord [·, 12], of norm 1."""
    rows = np.zeros((len(CHORDS), 12))
    for row, (tones, k) in enumerate((t, k) for t in QUALITIES.values() for k in range(12)):
        rows[row, [(tone + k) % 12 for tone in tones]] = 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


_KEY_PROFILES, _CHORD_TONES = _profiles(), _tones()
