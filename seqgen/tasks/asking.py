"""What a person asks for, in words, as values of controls and names of parts."""

import re
from collections.abc import Mapping, Sequence

from seqgen.errors import UserError
from seqgen.midi import program_name
from seqgen.tasks.bars import DRUMS, Bar
from seqgen.tasks.controls import BLOCK, LEVELS, OPEN, Controls, Values, Wish
from seqgen.tasks.harmony import QUALITIES, parse_chord, parse_key

# Words for families of General MIDI: the first program, and how many there are.
FAMILIES = {
    "piano": (0, 8),
    "organ": (16, 8),
    "guitar": (24, 8),
    "bass": (32, 8),
    "strings": (40, 12),
    "choir": (52, 3),
    "brass": (56, 8),
    "sax": (64, 4),
    "reed": (64, 8),
    "flute": (72, 8),
    "synth": (80, 24),
}

SAME = "same"  # as in the bars before
BY_BAR = r"[\s,|]+"  # between words that are for one bar each, as a regular expression


def asks(asked: Mapping[str, str | None]) -> bool:
    """Whether anything is asked for, beyond what is left open."""
    return any(text not in (None, OPEN) for text in asked.values())


def no_wish(number: int) -> Values:
    """Ask for nothing."""
    return {}


def read_wishes(controls: Controls, asked: Mapping[str, str | None], n_bars: int | None) -> Wish:
    """Turn what is asked for in words into the values of each bar.

    Args:
        controls: those that the run has learned.
        asked: by control, such as {"key": "Am", "chords": "Am F C G"}; None: nothing.
        n_bars: how many bars there will be, if that is known: they are counted down.

    Raises:
        UserError: the run has not learned a control, or there is no such value.
    """
    given = {name: text for name, text in asked.items() if text is not None}
    for name in given:
        if name not in controls.names:
            known = ", ".join(n for n in controls.names if n != "bars") or "none"
            raise UserError(
                f"--{name}: this run has not learned to follow it (it knows: {known}); train one "
                f"with data.controls=[{name}]"
            )
    series = {name: _values(controls, name, text) for name, text in given.items()}

    def wish(number: int) -> Values:
        values = {
            name: found[number % len(found)]
            for name, found in series.items()
            if name != "instruments" or number % BLOCK == 0
        }
        if n_bars is not None and "bars" in controls.names:
            values["bars"] = [str(n_bars - number)]
        return values

    return wish


def as_before(
    controls: Controls, asked: Mapping[str, str | None], bars: Sequence[Bar]
) -> dict[str, str | None]:
    """Return what is asked, with what the last of some bars are in place of "same".

    What is "-" is left open, and so is what means nothing there, such as the key of drums.

    Raises:
        UserError: there are no bars, or a control of which single bars have their own.
    """
    found = {name: None if text == OPEN else text for name, text in asked.items()}
    for name in (name for name, text in asked.items() if text == SAME):
        if name == "chords":
            raise UserError("--chords same: chords change from bar to bar; name them")
        if not bars:
            raise UserError(f"--{name} same: as in what? Give a --prompt, or name it")
        found[name] = ",".join(controls.of(name, bars[-BLOCK:])) or None
    return found


def _values(controls: Controls, name: str, text: str) -> list[list[str]]:
    """Return the values that a text asks for, for one bar after the other; they repeat."""
    if name == "key":
        key = parse_key(text)
        if key is None:
            raise UserError(f"--key {text!r} is no key: write it as in Am, F# minor or Bb")
        return [[key]]
    if name == "chords":
        return [[] if word == OPEN else [_chord(word)] for word in _words(name, text)]
    if name == "instruments":
        return [find_parts(text, controls.values(name), option="--instruments")]
    words = _words(name, text) if name == "density" else [text.strip()]
    for word in words:
        if word not in (*LEVELS, OPEN):
            raise UserError(
                f"--{name} {text!r}: {word!r} must be one of {', '.join(LEVELS)}, or {SAME} "
                f"as in the bars before"
            )
    return [[] if word == OPEN else [word] for word in words]


def _words(name: str, text: str) -> list[str]:
    words = [word for word in re.split(BY_BAR, text) if word]
    if not words:
        raise UserError(f"--{name} is empty")
    return words


def _chord(word: str) -> str:
    chord = parse_chord(word)
    if chord is None:
        kinds = ", ".join(f"C{quality}" for quality in QUALITIES)
        raise UserError(
            f"--chords: {word!r} is no chord that can be asked for: those are {kinds} on any note, "
            f"one for each bar, and {OPEN} for a bar that is left open"
        )
    return chord


def find_parts(text: str, parts: Sequence[str], *, option: str) -> list[str]:
    """Return the parts that words name: "piano, 0.melody, drums", in the order of `parts`.

    A word is the name of a part, its role, the name of its General MIDI program or the beginning of
    one, or a family of instruments. Several words may mean several parts of one program: the first
    "piano" is the first piano.

    Raises:
        UserError: a word names no part.
    """
    found: list[str] = []
    for word in filter(None, (word.strip().lower() for word in text.split(","))):
        matches = [part for part in parts if _is_called(part, word)]
        fresh = [part for part in matches if part not in found]
        if not matches:
            known = ", ".join(f"{part} ({describe_part(part)})" for part in parts[:12])
            raise UserError(f"{option}: there is no part called {word!r}; there are {known}")
        labelled = [part for part in matches if word in (part, part.partition(".")[2])]
        exact = [word] if word in parts else labelled
        found += exact or fresh[:1]
    if not found:
        raise UserError(f"{option} names no part")
    return [part for part in parts if part in found]


def describe_part(part: str) -> str:
    """Say what a part is: "Acoustic Grand Piano, melody"."""
    program, _, label = part.partition(".")
    name = "Drums" if program == DRUMS else program_name(int(program or 0))
    return f"{name}, {label}" if label else name


def _is_called(part: str, word: str) -> bool:
    program, _, label = part.partition(".")
    if word in (part, label):
        return True
    if program == DRUMS:
        return word == "drum"
    if word in FAMILIES:
        first, n = FAMILIES[word]
        return first <= int(program) < first + n
    return program_name(int(program)).lower().startswith(word)
