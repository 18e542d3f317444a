"""The tokenizer interface: files to ids and back; no other package knows pitches or bytes.

Legend: T positions, F fields.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Protocol

import numpy as np

from seqgen.config import TokenizerConfig
from seqgen.midi import MidiFile
from seqgen.vocabulary import Vocabulary


@dataclass(frozen=True)
class Shift:
    """A data augmentation of a piece: semitones up or down, velocity up or down."""

    transpose: int = 0
    velocity: int = 0


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a file is recognised by, also as a part of another file.

    Attributes:
        points: the units of the file as different numbers in ascending order [n], int32. The same
            units elsewhere, or in another key, are the same numbers with one number added to all.
        grams: hashes of runs of units, each once [m], uint32; equal runs have equal ones.
        starts: the point with which each run begins, the first time that it occurs [m], int32.
    """

    points: np.ndarray
    grams: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """One file in tokens.

    Attributes:
        variants: its tokens [T, F] under each shift, the unchanged ones first.
        units: how many units it holds.
        account: what became of what the file held (`seqgen.tokenizers.midi.account`); may be empty.
        sketch: what its near-duplicates are found by; None where they are not looked for.
    """

    variants: list[np.ndarray]
    units: int
    account: dict
    sketch: Sketch | None = None


@dataclass(frozen=True)
class ToldNote:
    """A note, and the tokens of a piece that tell it.

    Attributes:
        start: in quarter notes from the beginning.
        pitch: MIDI's number.
        tokens: their indexes, that of its position included where it is the first one there.
        at: which of them tells the pitch.
    """

    start: float
    pitch: int
    tokens: tuple[int, ...]
    at: int


@dataclass(frozen=True)
class Original:
    """The file that the first tokens of a sample were read from.

    Attributes:
        path: of the file.
        n_tokens: how many tokens, BOS included.
        until: the end of what they hold, in quarter notes from the beginning; infinity: all.
    """

    path: Path
    n_tokens: int
    until: float = inf


@dataclass(frozen=True)
class Edit:
    """A file of which some bars are written anew, and all else is kept.

    Attributes:
        path: of the file.
        places: for each part that is written anew or added somewhere, its name ("" is an only one),
            and where these bars begin and end, in quarter notes from the beginning.
    """

    path: Path
    places: tuple[tuple[str, float, float], ...]


class Clock(Protocol):
    """Counts musical time while tokens are drawn."""

    def feed(self, token: np.ndarray) -> None:
        """Take the next token [F]."""

    @property
    def bars(self) -> int:
        """Bars begun so far."""

    @property
    def quarters(self) -> float:
        """Quarter notes from the beginning to the latest onset or bar."""

    @property
    def bar_start(self) -> float:
        """Quarter notes from the beginning to the latest bar."""

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the latest onset or bar."""


class Tokenizer(Protocol):
    """Turns a file into ids and back. Ids are int64 arrays [T, F], without BOS and EOS."""

    config: TokenizerConfig
    vocabulary: Vocabulary
    unit: str  # what `units` counts: "note", "byte"
    suffix: str  # of the files it writes
    suffixes: frozenset[str]  # of the files it looks for in a folder
    bar: np.ndarray | None  # the token [F] that begins a bar, where there is one
    tells_parts: bool  # whether a bar is told part by part, so that a note may follow a later one

    def encode(self, path: Path) -> np.ndarray:
        """Read a file into ids. Raises UserError naming the file where it cannot be used."""

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a file once, into ids under each shift; shifts that do not fit are left out.

        The ids may be of any integer type.
        """

    def decode(
        self,
        ids: np.ndarray,
        path: Path,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> None:
        """Write ids as a file, atomically, without special tokens and an unfinished last unit.

        Args:
            ids: tokens [T, F].
            path: of the new file.
            tempo: quarter notes per minute with which the file begins; None: as the tokens or the
                configuration say. For text it means nothing.
            original: the file that the first tokens were read from, which is written as it is; or
                the one of which some bars are replaced by those of the tokens.
        """

    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Return the music that `decode` writes. Raises UserError where tokens are no music."""

    def describe(self, path: Path, *, until: float) -> tuple[str, list[str]]:
        """Say what a file holds in a few words, and what of it the tokens cannot hold.

        `until`: in quarter notes from the beginning; for text it means nothing.
        """

    def units(self, ids: np.ndarray) -> int:
        """Count what ids [T, F] from the beginning of a piece hold, in units that others share."""

    def told_notes(self, ids: np.ndarray) -> list[ToldNote] | None:
        """Tell which tokens of a piece [T, F] are of which note; None where one tells several."""

    def repeats(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Tell which tokens of a piece [T, F] are music of a bar that its part has played before.

        Also return how many units each token holds; both are [T]. None where there are no bars.
        """

    def quote_bars(self, ids: np.ndarray, *, back: int, n_bars: int) -> np.ndarray:
        """Return tokens [·, F] that tell the next bars of a piece as quotes of earlier ones.

        Each is the bar so many bars `back`, which the piece [T, F] must have; where it ends with
        the token that begins a bar, that bar is the first of them. UserError without quotes.
        """

    def write_out(self, ids: np.ndarray) -> np.ndarray:
        """Replace the quotes in tokens [T, F] from the beginning of a piece by their music [·, F].

        Special tokens are not among them.
        """

    def tempo(self, path: Path) -> float | None:
        """Quarter notes per minute with which a file begins; None where files have no tempo."""

    def clock(self, *, tempo: float | None = None) -> Clock | None:
        """Return a new clock at zero, or None where tokens have no time.

        `tempo` holds until tokens say otherwise; None: that of the configuration.
        """

    def train(self, pieces: Iterable[np.ndarray], *, vocab_size: int) -> "Tokenizer":
        """Return this tokenizer with merged tokens (byte-pair encoding) learned from plain ids."""

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """Turn plain ids into merged ones, as `encode` does; none where no merges were learned."""

    def names(self) -> list[str]:
        """One readable name per id of the first field."""

    def fingerprint(self) -> str:
        """A hash that two tokenizers share only if they give every file the same ids."""

    def save(self, folder: Path) -> None:
        """Write all that `load_tokenizer` needs into an existing folder."""
