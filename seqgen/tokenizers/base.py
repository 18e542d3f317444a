"""A modality: what reads, checks, tokenizes, previews, measures and writes files of one kind.

No other package knows pitches, bytes or pixels.

Legend: T positions, F fields.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.files import write_bytes, write_json
from seqgen.midi import ANY_SIZE, MidiFile, midi_bytes, open_midi, summarize
from seqgen.vocabulary import Vocabulary

# What people see of a file: music, a picture [height, width, 3] of bytes, or text.
Preview: TypeAlias = MidiFile | np.ndarray | str


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
        field: in which of its fields.
    """

    start: float
    pitch: int
    tokens: tuple[int, ...]
    at: int
    field: int = 0


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


class Tokenizer(ABC):
    """Turns files into ids and back. Ids are int64 arrays [T, F], without BOS and EOS.

    A modality sets `types`, `kind`, `unit`, `suffix`, `suffixes` and, when it is built,
    `vocabulary`; it writes `encode`, `content` and `preview`. All else has a default, which suits
    whatever has no settings, no time and no bars.

    Attributes:
        types: values of `tokenizer.type` that it is for.
        kind: what it writes, as messages call it: "music", "text".
        is_music: whether its files can be played, and measured as music.
        unit: what `units` counts, one of them: "note", "byte".
        suffix: of the files it writes.
        suffixes: of the files it looks for in a folder.
        merges: whether it can learn merged tokens (`tokenizer.bpe_vocab_size`).
        n_shown: how many samples make a picture during training.
        bar: the token [F] that begins a bar, where there is one.
        tells_parts: whether a bar is told part by part, so that a note may follow a later one.
        config: its settings.
        vocabulary: its ids, as the model sees them.
    """

    types: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[str]
    is_music: ClassVar[bool] = False
    unit: ClassVar[str]
    suffix: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]
    merges: ClassVar[bool] = False
    n_shown: ClassVar[int] = 1
    bar: np.ndarray | None = None
    tells_parts: bool = False
    config: TokenizerConfig
    vocabulary: Vocabulary

    def __init__(self, config: TokenizerConfig, limits: LimitsConfig):
        """Keep the settings, and the limits beyond which files are refused."""
        self.config, self._limits = config, limits

    @abstractmethod
    def encode(self, path: Path) -> np.ndarray:
        """Read a file into ids. Raises FileRejected naming the file where it cannot be used."""

    @abstractmethod
    def content(self, ids: np.ndarray) -> bytes:
        """Return the content of a file from ids, without special ids and an unfinished last unit.

        Raises FileRejected where nothing is left.
        """

    @classmethod
    @abstractmethod
    def preview(cls, path: Path) -> Preview:
        """Read what people see of a file of any size; FileRejected where it cannot be read."""

    @classmethod
    def load(cls, config: TokenizerConfig, limits: LimitsConfig, folder: Path) -> Self:
        """Build again what was saved in a folder."""
        return cls(config, limits)

    @classmethod
    def is_open(cls, config: TokenizerConfig) -> bool:
        """Whether a configuration leaves settings open that are chosen from the corpus."""
        return False

    @classmethod
    def survey(cls, path: Path, *, limits: LimitsConfig) -> Any:
        """Return what open settings depend on in one file; it can be pickled."""
        raise NotImplementedError(f"{cls.__name__} leaves no settings open")

    @classmethod
    def add_surveys(cls, surveys: Iterable[Any]) -> Any:
        """Return one survey of all files of some surveys, small whatever their number."""
        raise NotImplementedError(f"{cls.__name__} leaves no settings open")

    @classmethod
    def choose(
        cls, config: TokenizerConfig, surveys: Iterable[Any]
    ) -> tuple[TokenizerConfig, dict[str, str]]:
        """Choose open settings from the surveys of all files; also say for each why."""
        return config, {}

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a file once, into ids under each shift; shifts that do not fit are left out.

        The ids may be of any integer type. By default only the shift that changes nothing fits.
        """
        ids = self.encode(path)
        return Encoded([ids for shift in shifts if shift == Shift()], self.units(ids), {})

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
            tempo: of music; see `played`.
            original: of music; see `played`.
        """
        write_bytes(path, self.content(ids))

    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Return the music that `decode` writes. Raises UserError where tokens are no music.

        Args:
            ids: tokens [T, F].
            tempo: quarter notes per minute with which the file begins; None: as the tokens or the
                configuration say.
            original: the file that the first tokens were read from, which is written as it is; or
                the one of which some bars are replaced by those of the tokens.
        """
        raise UserError(f"this run writes {self.kind}, which cannot be played: choose one of music")

    def describe(self, path: Path, *, until: float = inf) -> tuple[str, list[str]]:
        """Say what a file holds in a few words, and what of it the tokens cannot hold.

        `until`: of music, in quarter notes from the beginning.
        """
        return self.measure(path)[1], []

    def measure(self, path: Path) -> tuple[dict[str, float], str]:
        """Read a written file back; return what it holds, for records and in words."""
        n = self.units(self.encode(path))
        return {f"{self.unit}s": n}, f"{n} {self.unit}s"

    def units(self, ids: np.ndarray) -> int:
        """Count what ids [T, F] from the beginning of a piece hold, in units that others share.

        By default each token but the special ones is a unit.
        """
        return int((~np.isin(ids[:, 0], self.vocabulary.special_ids)).sum())

    def told_notes(self, ids: np.ndarray) -> list[ToldNote] | None:
        """Tell which tokens of a piece [T, F] are of which note; None where that is not known."""
        return None

    def repeats(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Tell which tokens of a piece [T, F] are music of a bar that its part has played before.

        Also return how many units each token holds; both are [T]. None where there are no bars.
        """
        return None

    def quote_bars(self, ids: np.ndarray, *, back: int, n_bars: int) -> np.ndarray:
        """Return tokens [·, F] that tell the next bars of a piece as quotes of earlier ones.

        Each is the bar so many bars `back`, which the piece [T, F] must have; where it ends with
        the token that begins a bar, that bar is the first of them. UserError without quotes.
        """
        raise UserError(f"tokens of type {self.config.type} have no bars to quote")

    def write_out(self, ids: np.ndarray) -> np.ndarray:
        """Replace the quotes in tokens [T, F] from the beginning of a piece by their music [·, F].

        Special tokens are not among them.
        """
        return ids

    def tempo(self, path: Path) -> float | None:
        """Quarter notes per minute with which a file begins; None where files have no tempo."""
        return None

    def clock(self, *, tempo: float | None = None) -> Clock | None:
        """Return a new clock at zero, or None where tokens have no time.

        `tempo` holds until tokens say otherwise; None: that of the configuration.
        """
        return None

    def train(self, pieces: Iterable[np.ndarray], *, vocab_size: int) -> "Tokenizer":
        """Return this tokenizer with merged tokens (byte-pair encoding) learned from plain ids."""
        raise UserError(f"tokens of type {self.config.type} cannot be merged")

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """Turn plain ids into merged ones, as `encode` does; none where no merges were learned."""
        return ids

    def names(self, field: int = 0) -> list[str]:
        """One readable name per id of a field; by default its number."""
        special = dict(zip(self.vocabulary.special_ids, ("BOS", "EOS", "PAD"), strict=True))
        return [special.get(i, str(i)) for i in range(self.vocabulary.sizes[field])]

    def fingerprint(self) -> str:
        """A hash that two tokenizers share only if they give every file the same ids.

        By default it is one of settings and vocabulary.
        """
        return digest([self.config.model_dump(exclude_none=True), self.vocabulary.to_json()])

    def save(self, folder: Path) -> None:
        """Write all that `load_tokenizer` needs into an existing folder."""
        settings = {"config": self.config.model_dump(), "limits": self._limits.model_dump()}
        write_json(folder / "tokenizer.json", {"type": self.config.type, **settings})

    def plain(self, ids: np.ndarray) -> np.ndarray:
        """Leave special tokens out of ids [T, F] -> [·, F]."""
        return ids[~np.isin(ids[:, 0], self.vocabulary.special_ids)]


class MusicTokenizer(Tokenizer):
    """Writes MIDI files: `played` says what is in them."""

    kind = "music"
    is_music = True
    unit = "note"
    suffix = ".mid"
    suffixes = frozenset({".mid", ".midi", ".kar", ".rmi", ".smf"})

    @abstractmethod
    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Return the music that `decode` writes, as `Tokenizer.played` says."""

    def content(self, ids: np.ndarray) -> bytes:
        """Return ids [T, F] as the content of a MIDI file."""
        return midi_bytes(self.played(ids))

    def decode(
        self,
        ids: np.ndarray,
        path: Path,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> None:
        """Write what `played` returns as a MIDI file."""
        write_bytes(path, midi_bytes(self.played(ids, tempo=tempo, original=original)))

    @classmethod
    def preview(cls, path: Path) -> MidiFile:
        """Read the music of a file."""
        return open_midi(path, ANY_SIZE)

    def measure(self, path: Path) -> tuple[dict[str, float], str]:
        """Count notes and seconds with miditoolkit, which writes no tokens."""
        summary = summarize(open_midi(path, ANY_SIZE))
        facts = {"notes": summary.n_notes, "music_seconds": round(summary.seconds, 3)}
        return facts, f"{summary.n_notes} notes, {facts['music_seconds']:.1f} s of music"

    def tempo(self, path: Path) -> float:
        """Quarter notes per minute with which a MIDI file begins."""
        return open_midi(path, self._limits).tempo_changes[0].tempo


def read_bytes(path: Path, limits: LimitsConfig) -> bytes:
    """Read a file; FileRejected where it is unreadable, or larger than the limit."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(limits.max_file_bytes + 1)
    except OSError as error:
        raise FileRejected("unreadable", str(path), f"{error.strerror}") from None
    if len(content) > limits.max_file_bytes:
        reason = f"it is larger than {limits.named('max_file_bytes')}"
        raise FileRejected("over-limit", str(path), reason)
    return content


def digest(meaning: object) -> str:
    """Hash a value that JSON can hold, for fingerprints."""
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]
