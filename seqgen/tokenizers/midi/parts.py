"""Parts of a piece: which track is which part, and music told bar by bar and part by part."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from seqgen.midi import Instrument, program_name

DRUMS = "drums"
PER_FAMILY = 8  # programs of one General MIDI family
MERGED = "tracks merged with another of the same instrument"
LEFT_OUT = "drum tracks left out"
STANDARD_KIT = "drum tracks told with the standard kit"


@dataclass(frozen=True)
class Part:
    """One instrument of a corpus, and which of those with the same program.

    Attributes:
        program: 0 to 127; 0 for drums.
        label: a role that track names of the corpus share ("melody"), or "2" and up for the second
            track with this program and later ones; "" for the first.
    """

    program: int
    is_drum: bool
    label: str = ""

    @classmethod
    def named(cls, name: str) -> "Part":
        """Return the part that `name` gives: "0", "40.2", "0.melody", "drums"; ValueError."""
        kind, _, label = name.partition(".")
        if kind == DRUMS:
            return cls(0, True, label)
        if not kind.isdecimal() or int(kind) > 127 or role(label) != label:
            raise ValueError(
                f"{name!r} names no part: it must be a program from 0 to 127 or {DRUMS!r}, and may "
                f"have a role or a number, as in 0.melody or 40.2"
            )
        return cls(int(kind), False, label)

    @cached_property
    def name(self) -> str:
        """What `named` understands."""
        kind = DRUMS if self.is_drum else str(self.program)
        return f"{kind}.{self.label}" if self.label else kind

    @property
    def code(self) -> int:
        """The program as MidiTok counts: -1 for drums."""
        return -1 if self.is_drum else self.program


ALL_PARTS = [Part(program, False) for program in range(128)] + [Part(0, True)]


def role(track_name: str) -> str:
    """Return the role that a track's name gives: lower-case words without punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", track_name.lower()))[:24].strip()


def assign(tracks: Sequence[Instrument], parts: Sequence[Part]) -> tuple[list[int], Counter]:
    """Find the part of each track.

    A track takes the part of its program and its role; else the first free one of its program by
    number; else it shares the last of these. Where no part has its program, that is the nearest one
    of its General MIDI family, or of all.

    Returns:
        The index in `parts` for each track, -1 for drums where no part has drums (or the reverse);
        and how many tracks had no part of their own.
    """
    found, changed = [-1] * len(tracks), Counter[str]()
    taken: set[int] = set()
    for i, track in enumerate(tracks):  # roles first: numbers are for the others
        label = role(track.name)
        for k, part in enumerate(parts):
            if k not in taken and _plays(part, track) and part.label == label and label:
                found[i] = k
                taken.add(k)
                break
    for i, track in enumerate(tracks):
        if found[i] >= 0:
            continue
        options = [k for k, part in enumerate(parts) if _plays(part, track)]
        if not options:
            options = [] if track.is_drum else _nearest(track, parts)
            if not options:
                changed[LEFT_OUT if track.is_drum else "pitched tracks left out"] += 1
                continue
            nearest = program_name(parts[options[0]].program)
            changed[f"tracks of {program_name(track.program)} told as {nearest}"] += 1
        numbered = [k for k in options if not parts[k].label or parts[k].label.isdecimal()]
        free = [k for k in numbered or options if k not in taken]
        found[i] = free[0] if free else (numbered or options)[-1]
        changed[MERGED] += not free
        taken.add(found[i])
    changed[STANDARD_KIT] += sum(
        k >= 0 and track.is_drum and track.program > 0
        for k, track in zip(found, tracks, strict=True)
    )
    return found, +changed


def _plays(part: Part, track: Instrument) -> bool:
    return part.is_drum == track.is_drum and (part.is_drum or part.program == track.program)


def _nearest(track: Instrument, parts: Sequence[Part]) -> list[int]:
    """Return the parts with the program nearest to that of a track; none where all are drums."""
    pitched = [part for part in parts if not part.is_drum]

    def distance(part: Part) -> tuple[bool, int]:
        other_family = part.program // PER_FAMILY != track.program // PER_FAMILY
        return other_family, abs(part.program - track.program)

    program = min(pitched, key=distance).program if pitched else None
    return [k for k, part in enumerate(parts) if not part.is_drum and part.program == program]


def tell(sequences: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Combine sequences of plain REMI tokens, each from the first bar on, into one.

    A bar begins with Bar, its time signature, and its changes of tempo; then come the parts that
    play in it, each with its name once and MidiTok's own tokens of that track.

    Args:
        sequences: for each part its name and its tokens, in the order in which bars tell them; an
            only part may be called "", and is not named.
    """
    split = [(name, _bars(tokens)) for name, tokens in sequences]
    told: list[str] = []
    for number in range(max((len(bars) for _, bars in split), default=0)):
        playing = [(name, bars[number]) for name, bars in split if number < len(bars)]
        told.append("Bar_None")
        told += playing[0][1].head  # the same in each part
        for name, bar in playing:
            if bar.music:
                told += [f"Part_{name}"] * bool(name) + bar.music
    return told


def untell(told: Iterable[str], names: Sequence[str]) -> list[list[str]]:
    """Return the plain REMI tokens that `tell` has combined: first those of time, then each part's.

    The first sequence has the bars, time signatures and tempos. Notes before the name of a part are
    left out, unless there is a part "".
    """
    common: list[str] = []
    sequences = {name: list[str]() for name in names}
    current: list[str] | None = None
    for token in told:
        kind, _, value = token.partition("_")
        if kind in ("Bar", "TimeSig"):
            current = sequences.get("")
            for sequence in (common, *sequences.values()):
                sequence.append(token)
        elif kind == "TempoPosition":
            common.append(f"Position_{value}")
        elif kind == "Tempo":
            common.append(token)
        elif kind == "Part":
            current = sequences[value]
        elif current is not None:
            current.append(token)
    return [common, *sequences.values()]


@dataclass(frozen=True)
class _Bar:
    head: list[str]
    music: list[str]


def _bars(tokens: Sequence[str]) -> list[_Bar]:
    """Cut one part's tokens where bars begin, and take the changes of tempo out of its music."""
    bars: list[_Bar] = []
    position: str | None = None  # not yet taken over into the music
    value = ""
    for token in tokens:
        kind, _, rest = token.partition("_")
        if kind == "Bar":
            bars.append(_Bar([], []))
            position = None
        elif kind == "TimeSig":
            bars[-1].head.append(token)
        elif kind == "Position":
            position, value = token, rest
        elif kind == "Tempo":
            bars[-1].head.extend([f"TempoPosition_{value}", token])
        else:
            if position is not None:
                bars[-1].music.append(position)
                position = None
            bars[-1].music.append(token)
    return bars
