"""MIDI files as MidiTok ids and back.

Legend: T positions.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path

import miditok
import numpy as np
import symusic
from miditok.constants import CHR_ID_START

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.midi import MidiFile, TempoChange, read_midi, summarize
from seqgen.midi.repair import repair
from seqgen.midi.timing import bars_and_beats
from seqgen.tokenizers.base import (
    Edit,
    Encoded,
    MusicTokenizer,
    Original,
    Shift,
    ToldNote,
    digest,
)
from seqgen.tokenizers.midi.account import account_for, in_words
from seqgen.tokenizers.midi.clock import MidiClock
from seqgen.tokenizers.midi.continuation import drop_late_changes, join, remove_notes
from seqgen.tokenizers.midi.edits import replace_bars
from seqgen.tokenizers.midi.grammar import COMPLETING, SOUNDING, build_grammar, close_notes
from seqgen.tokenizers.midi.parts import LEFT_OUT, assign, tell, untell
from seqgen.tokenizers.midi.quotes import NO_QUOTES, Unquoter, quote, quote_ahead, repeated
from seqgen.tokenizers.midi.scores import thin, title, to_midi, to_score
from seqgen.tokenizers.midi.settings import (
    FORMATS,
    HELD,
    MARKS,
    SPECIAL,
    longest,
    miditok_config,
    named_parts,
    settled,
    told_by_bars,
)
from seqgen.tokenizers.midi.sketch import sketch_of
from seqgen.tokenizers.midi.survey import Survey, add_surveys, choose_settings, survey_file
from seqgen.vocabulary import Field, Vocabulary

PITCHED = ("Pitch", "PitchDrum", "NoteOn", "DrumOn")  # types of tokens that tell a note's key
SHIFTED = ("Pitch", "NoteOn", "NoteOff")  # types of tokens that a transposition changes


@dataclass(frozen=True)
class Reading:
    """A file as tokens will see it: which of its tracks is which part.

    Attributes:
        midi: as it was read.
        parts: for each track its part, -1 for one left out.
        changes: how many tracks had no part of their own, by what became of them; and what of the
            file was left out when it was read.
        repairs: how much of what was repaired when the file was read.
    """

    midi: MidiFile
    parts: list[int]
    changes: Counter[str]
    repairs: dict[str, int]


class OpenSettings(MusicTokenizer):
    """Music whose tokens have settings that are chosen from a corpus."""

    @classmethod
    def is_open(cls, config: TokenizerConfig) -> bool:
        """Whether settings are left open."""
        return config != settled(config)

    @classmethod
    def survey(cls, path: Path, *, limits: LimitsConfig) -> Survey:
        """Return what open settings depend on in one file."""
        return survey_file(path, limits)

    @classmethod
    def add_surveys(cls, surveys: Iterable[Survey]) -> Survey:
        """Return the survey of all files."""
        return add_surveys(surveys)

    @classmethod
    def choose(
        cls, config: TokenizerConfig, surveys: Iterable[Survey]
    ) -> tuple[TokenizerConfig, dict[str, str]]:
        """Choose settings so that tokens carry what the files hold."""
        return choose_settings(config, surveys)


class MidiTokenizer(OpenSettings):
    """MIDI files as MidiTok ids, F = 1."""

    types = tuple(FORMATS)
    merges = True

    def __init__(
        self, config: TokenizerConfig, limits: LimitsConfig, saved: Path | None = None
    ) -> None:
        """Build from the configuration, or with what a saved MidiTok file adds (merged tokens)."""
        super().__init__(settled(config), limits)
        self.parts = named_parts(self.config)
        self._by_bars = told_by_bars(self.config)
        self.tells_parts = self._by_bars and self.config.parts == "tracks"
        if saved is None:
            self._miditok = FORMATS[config.type](miditok_config(self.config))
        else:
            self._miditok = FORMATS[config.type](params=saved)
        special = self._miditok.vocab
        self.bar = np.array([special["Bar_None"]]) if "Bar_None" in special else None
        self.vocabulary = Vocabulary(
            fields=(Field(config.type, len(self._plain_parts)),),
            bos_id=special["BOS_None"],
            eos_id=special["EOS_None"],
            pad_id=special["PAD_None"],
            grammar=build_grammar(
                self._miditok.tokens_types_graph,
                self._plain_parts,
                by_bars=self._by_bars,
                positions_per_beat=self._miditok.config.max_num_pos_per_beat,
                part_names=[part.name for part in self.parts] if self.tells_parts else [],
            ),
            anchors=tuple(i for i, kinds in enumerate(self._types) if "Bar" in kinds),
            held=self._held(),
        )

    @classmethod
    def load(cls, config: TokenizerConfig, limits: LimitsConfig, folder: Path) -> "MidiTokenizer":
        """Build again what was saved in a folder, merged tokens included."""
        return cls(config, limits, folder / "miditok.json")

    def encode(self, path: Path) -> np.ndarray:
        """Read a MIDI file into ids [T, 1]."""
        return self.merge(self._encode(self._read(path), path))

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a MIDI file once: ids [T, 1] per shift that keeps pitches in MIDI's range."""
        reading = self._read(path)
        pitches = [
            note.pitch
            for track in reading.midi.instruments
            if not track.is_drum
            for note in track.notes
        ]
        low, high = min(pitches, default=0), max(pitches, default=0)
        plain: dict[int, np.ndarray] = {}  # by velocity added
        variants = []
        for shift in shifts:
            if low + shift.transpose < 0 or high + shift.transpose > 127:
                continue
            if shift.velocity not in plain:
                plain[shift.velocity] = self._encode(reading, path, velocity=shift.velocity)
            variants.append(self._transposed(plain[shift.velocity], shift.transpose))
        account = self._account(reading, variants[0])
        return Encoded(
            [self.merge(ids) for ids in variants],
            self.units(variants[0]),
            account,
            sketch_of(reading.midi),
        )

    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Return the music of ids [T, 1], special ones included.

        Args:
            ids: tokens.
            tempo: quarter notes per minute with which it begins; by default those of the tokens or,
                where they have none, of the configuration.
            original: the file that the first tokens were read from; its music is written as it is.
                Or the one of which some bars are replaced by those of the tokens; it keeps its own
                tempo.
        """
        midi, parts = self._decoded(ids)
        if isinstance(original, Edit):
            return self._edited(original, midi, parts)
        if original is not None:
            midi = self._continued(original, ids, midi, parts)
        if tempo is not None and midi.tempo_changes:
            faster = tempo / midi.tempo_changes[0].tempo
            for change in midi.tempo_changes:
                change.tempo *= faster
        return repair(midi)

    def _continued(
        self, original: Original, ids: np.ndarray, midi: MidiFile, parts: list[int]
    ) -> MidiFile:
        """Put what ids [T, 1] add to those of a file, decoded as `midi`, behind the file itself."""
        prompt = ids[: original.n_tokens]
        clock = self.clock()
        for token in prompt:
            clock.feed(token)
        reading = self._read(original.path)
        remove_notes(midi, parts, *self._decoded(prompt))
        return join(
            reading.midi,
            reading.parts,
            midi,
            parts,
            cut=original.until if original.until < inf else clock.quarters,
            keep_all=original.until == inf,
            keep_tempo=not self.config.use_tempos,
            keep_metre=not self.config.use_time_signatures,
        )

    def _edited(self, edit: Edit, midi: MidiFile, parts: list[int]) -> MidiFile:
        """Put bars of some parts of a decoded file into the file itself."""
        reading = self._read(edit.path)
        names = [part.name for part in self.parts] if self.tells_parts else [""]
        edited = repair(
            replace_bars(
                reading.midi,
                reading.parts,
                midi,
                parts,
                places=[(names.index(name), begin, end) for name, begin, end in edit.places],
            )
        )
        # A repaired file begins as its first note does, which may be another one now.
        edited.tempo_changes = reading.midi.tempo_changes
        edited.time_signature_changes = reading.midi.time_signature_changes
        return edited

    def describe(self, path: Path, *, until: float = inf) -> tuple[str, list[str]]:
        """Say what a file holds in a few words, and what of it the tokens cannot hold."""
        reading = self._read(path)
        if until < inf:
            midi, kept = _beginning_of(reading, until)
            reading = replace(reading, midi=midi, parts=kept)
        if max(reading.parts, default=-1) < 0:
            return "no notes", []
        account = self._account(reading, self._encode(reading, path))
        left_out = in_words(account["lost"])
        end = round(until * reading.midi.ticks_per_beat) if until < inf else 0
        bars, _ = bars_and_beats(reading.midi, end + 1)
        if until < inf and min(abs(bars - end)) > 1:
            left_out.append(
                f"its bars, of which the model counts others: the prompt is its first {until:g} "
                f"quarter notes, and ends inside a bar"
            )
        return str(summarize(reading.midi)), left_out

    def _account(self, reading: Reading, ids: np.ndarray) -> dict:
        """Compare a file with what its plain ids [T, 1] give back."""
        written, parts = self._decoded(ids)
        account = account_for(reading.midi, reading.parts, written, parts, self.config)
        account["lost"] |= reading.changes
        account["repaired"] = reading.repairs
        return account

    def units(self, ids: np.ndarray) -> int:
        """Count notes, those that quotes stand for as well."""
        if self.config.quotes:
            return _count_notes(self._unquoted(ids))
        return int(self._notes_per_id[ids[:, 0]].sum())

    def told_notes(self, ids: np.ndarray) -> list[ToldNote]:
        """Tell which tokens [T, 1] are of which note; the notes of a quote have its one token."""
        return self.told_in(ids[:, 0:1])

    def told_in(self, told: Iterable[Iterable[int]]) -> list[ToldNote]:
        """Return what `told_notes` does for tokens of which each stands for several plain ids."""
        clock, found = self.clock(), list[ToldNote]()
        place: list[int] = []  # tokens of a position that no note has taken
        tokens: list[int] = []
        pitch, at = -1, 0
        for t, ids in enumerate(told):
            plain_tokens = (step for i in ids for step in clock.follow(np.array([i])))
            for plain, onset in plain_tokens:
                kind, _, value = plain.partition("_")
                if kind in ("Position", "TimeShift"):
                    place = [t]
                elif kind in PITCHED:
                    pitch, at, tokens, place = int(value), t, [*place, t], []
                elif kind in ("Velocity", "Duration"):
                    tokens.append(t)
                if kind in SOUNDING and pitch >= 0:
                    found.append(ToldNote(onset, pitch, tuple(sorted(set(tokens))), at))
        return found

    def repeats(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Tell which tokens [T, 1] are of bars that their part has played before; count notes."""
        if self.bar is None:
            return None
        return self.repeats_in(self._plain_parts[i] for i in ids[:, 0])

    def repeats_in(self, told: Iterable[Iterable[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `repeats` does for tokens of which each stands for several plain ones."""
        unquoter = self._unquoter()
        plain = [[x for token in tokens for x in unquoter.take(token)] for tokens in told]
        return repeated(plain), np.array([_count_notes(tokens) for tokens in plain])

    def quote_bars(self, ids: np.ndarray, *, back: int, n_bars: int) -> np.ndarray:
        """Return ids [·, 1] that tell the next bars of a piece as quotes of earlier ones."""
        if not self.config.quotes:
            raise UserError(NO_QUOTES)
        plain = self._plain(ids)
        begun = int(plain[-1].startswith("Bar_"))
        return self.merge(self._ids(quote_ahead(plain, back=back, n_bars=n_bars, begun=begun)))

    def write_out(self, ids: np.ndarray) -> np.ndarray:
        """Replace the quotes in ids [T, 1] by the music that they stand for."""
        return self.merge(self._ids(self._unquoted(ids))) if self.config.quotes else ids

    def clock(self, *, tempo: float | None = None) -> MidiClock:
        """Return a new clock before the first bar."""
        return MidiClock(
            self._plain_parts,
            tempo=tempo or self.config.tempo or 120.0,
            positions_per_beat=self._miditok.config.max_num_pos_per_beat,
            unquoter=self._unquoter() if self.config.quotes else None,
        )

    def train(self, pieces: Iterable[np.ndarray], *, vocab_size: int) -> "MidiTokenizer":
        """Return a tokenizer with byte-pair merges learned from plain ids [T, 1] of each piece."""
        # MidiTok learns from strings: a word for each stretch, a character for each plain id.
        words = [
            "".join(chr(CHR_ID_START + i) for i in stretch)
            for ids in pieces
            for is_mergeable, stretch in self._stretches(self._material(ids))
            if is_mergeable
        ]
        learner = FORMATS[self.config.type](miditok_config(self.config))
        learner.train(vocab_size=vocab_size, model="BPE", iterator=words)
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "miditok.json"
            learner.save(saved)
            return MidiTokenizer(self.config, self._limits, saved)

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """Turn plain ids [T, 1] into merged ones.

        None reaches over the beginning of a bar or of a part in it.
        """
        if not self._miditok.is_trained:
            return ids
        stretches = self._stretches(ids)
        sequences = {
            i: miditok.TokSequence(ids=stretch)
            for i, (is_mergeable, stretch) in enumerate(stretches)
            if is_mergeable
        }
        self._miditok.encode_token_ids(list(sequences.values()))
        merged = [
            i
            for number, (_, stretch) in enumerate(stretches)
            for i in (sequences[number].ids if number in sequences else stretch)
        ]
        return np.array(merged, dtype=np.int64)[:, None]

    def names(self, field: int = 0) -> list[str]:
        """Name ids by the plain tokens they stand for."""
        return ["+".join(parts) for parts in self._plain_parts]

    def fingerprint(self) -> str:
        """Hash all settings and the meaning of every id."""
        # Those of other modalities are None, and may come and go without a change here.
        settings = self.config.model_dump(exclude={"tempo", "velocity"}, exclude_none=True)
        return digest([settings, self._plain_parts])

    def save(self, folder: Path) -> None:
        """Write settings and MidiTok's own JSON."""
        super().save(folder)
        self._miditok.save(folder / "miditok.json")

    @property
    def _is_single_stream(self) -> bool:
        """Whether MidiTok tells all instruments in one stream, and not each track by itself."""
        return self._miditok.config.one_token_stream_for_programs

    @cached_property
    def _plain_parts(self) -> list[list[str]]:
        """The plain tokens each id stands for."""
        plain = {i: token for token, i in self._miditok.vocab.items()}
        if not self._miditok.is_trained:
            return [[plain[i]] for i in range(len(plain))]
        expanded = []
        for i in range(len(self._miditok)):
            sequence = miditok.TokSequence(ids=[i], are_ids_encoded=True)
            self._miditok.decode_token_ids(sequence)
            expanded.append([plain[j] for j in sequence.ids])
        return expanded

    @cached_property
    def _types(self) -> list[list[str]]:
        return [[part.partition("_")[0] for part in parts] for parts in self._plain_parts]

    @cached_property
    def _notes_per_id(self) -> np.ndarray:
        return np.array([sum(kind in SOUNDING for kind in kinds) for kinds in self._types])

    @cached_property
    def _shift_tables(self) -> dict[int, np.ndarray]:
        return {}

    def _transposed(self, ids: np.ndarray, semitones: int) -> np.ndarray:
        """Move the pitches of plain ids [T, 1], which stay in MIDI's range; drums stay."""
        if semitones == 0:
            return ids
        if semitones not in self._shift_tables:
            known = self._miditok.vocab
            table = np.arange(len(known))
            for token, i in known.items():
                kind, _, value = token.partition("_")
                if kind in SHIFTED:
                    table[i] = known.get(f"{kind}_{int(value) + semitones}", i)
            self._shift_tables[semitones] = table
        return self._shift_tables[semitones][ids]

    def _read(self, path: Path) -> Reading:
        """Open a file through the gate, and find which track is which part."""
        read = read_midi(path, self._limits)
        tracks = read.midi.instruments
        if self.config.parts == "tracks":
            found, changes = assign(tracks, self.parts)
            names = ", ".join(part.name for part in self.parts[:8])
            way_out = f"the parts that the tokens have ({names})"
        else:
            found = [-1 if track.is_drum else 0 for track in tracks]
            n_pitched = found.count(0)
            one = {"pitched tracks told as one part": n_pitched * (n_pitched > 1)}
            changes = Counter({LEFT_OUT: found.count(-1), **one})
            way_out = "tokenizer.parts=one; drums need tokenizer.parts=tracks"
        if max(found, default=-1) < 0:
            only = "drums" if tracks and tracks[0].is_drum else "pitched instruments"
            raise FileRejected(
                "unsupported", str(path), f"it has {only} only, which are left out with {way_out}"
            )
        changes.update(read.left_out)
        return Reading(read.midi, found, +changes, read.repairs)

    def _encode(self, reading: Reading, path: Path, *, velocity: int = 0) -> np.ndarray:
        """Return plain ids [T, 1] up to the last note."""
        score, playing = to_score(
            reading.midi, reading.parts, self.parts, self.config, velocity=velocity
        )
        encoded = self._miditok.encode(score, encode_ids=False)
        if self._by_bars:
            names = [self.parts[k].name if self.tells_parts else "" for k in playing]
            plain = tell(zip(names, (one.tokens for one in encoded), strict=True))
        else:
            plain = (encoded if self._is_single_stream else encoded[0]).tokens
        if _count_notes(plain) == 0:
            raise FileRejected("empty", str(path), "no note is left after tokenizing")
        plain = _up_to_last_note(plain)
        if self.config.quotes:
            plain = quote(plain, most=self.config.quote_bars or 0)
        return self._ids(plain)

    def _decoded(self, ids: np.ndarray) -> tuple[MidiFile, list[int]]:
        """Turn ids [T, 1] into a file; also return the part of each of its tracks."""
        if self.config.type == "midilike":
            plain = close_notes(
                self._plain(self._material(ids)), longest=f"TimeShift_{longest(self.config)}"
            )
        else:
            plain = _up_to_last_note(self._unquoted(self._material(ids)))
        if self._by_bars:
            score, parts = self._decoded_parts(plain)
        else:
            sequence = self._sequence(plain)
            score = self._miditok.decode(sequence if self._is_single_stream else [sequence])
            parts = [self._part_of(track) for track in score.tracks]
        for track, k in zip(score.tracks, parts, strict=True):
            track.name, track.program = title(self.parts[k]), self.parts[k].program
        midi = to_midi(score)
        for track in midi.instruments:
            # A note without its velocity has what MidiTok found instead.
            track.notes = [note for note in track.notes if 0 < note.velocity < 128]
            if not self.config.use_velocities:
                for note in track.notes:
                    note.velocity = self.config.velocity
        thin(midi)
        if not self.config.use_tempos:
            midi.tempo_changes = [TempoChange(self.config.tempo, 0)]
        drop_late_changes(midi)
        return midi, parts

    def _decoded_parts(self, plain: Sequence[str]) -> tuple[symusic.Score, list[int]]:
        """Decode tokens that are told bar by bar; also return the part of each track."""
        names = [part.name for part in self.parts] if self.tells_parts else [""]
        common, *told = untell(plain, names)
        score = self._miditok.decode([self._sequence(common)], programs=[(0, False)])
        parts = []
        for k, tokens in enumerate(told):
            program = (self.parts[k].program, self.parts[k].is_drum)
            pair = [self._sequence(common), self._sequence(tokens)]
            decoded = self._miditok.decode(pair, programs=[(0, False), program])
            if decoded.tracks:
                score.tracks.append(decoded.tracks[0])
                parts.append(k)
        return score, parts

    def _part_of(self, track: symusic.Track) -> int:
        """Find the first part that a track of MidiTok's single stream may be."""
        if self.config.parts == "one":
            return 0
        code = -1 if track.is_drum else track.program
        return [part.code for part in self.parts].index(code)

    def _ids(self, plain: Iterable[str]) -> np.ndarray:
        return np.array([self._miditok.vocab[token] for token in plain], dtype=np.int64)[:, None]

    def _sequence(self, plain: Iterable[str]) -> miditok.TokSequence:
        return miditok.TokSequence(ids=[self._miditok.vocab[token] for token in plain])

    def _plain(self, ids: np.ndarray) -> list[str]:
        return [part for i in ids[:, 0] for part in self._plain_parts[i]]

    def _unquoted(self, ids: np.ndarray) -> list[str]:
        """Return the plain tokens of ids [T, 1], with quotes replaced by what they stand for."""
        plain = self._plain(ids)
        if not self.config.quotes:
            return plain
        unquoter = self._unquoter()
        return [token for told in plain for token in unquoter.take(told)]

    def _unquoter(self) -> Unquoter:
        return Unquoter(self._miditok.config.max_num_pos_per_beat, self._limits.max_notes)

    def _stretches(self, ids: np.ndarray) -> list[tuple[bool, list[int]]]:
        """Cut plain ids [T, 1] where bars and parts begin; say which stretches may be merged.

        Names of parts, positions of tempos and quotes are apart: MidiTok does not merge them.
        """
        clock, n_bars, kind = self.clock(), 0, True
        stretches: list[tuple[bool, list[int]]] = []
        for token in ids:
            i = int(token[0])
            clock.feed(token)
            mergeable = i not in self._unmerged
            if not stretches or clock.bars > n_bars or mergeable != kind:
                stretches.append((mergeable, []))
                n_bars, kind = clock.bars, mergeable
            stretches[-1][1].append(i)
        return stretches

    @cached_property
    def _unmerged(self) -> frozenset[int]:
        kinds = ("Part", "TempoPosition", "Quote", *SPECIAL)
        return frozenset(
            i for token, i in self._miditok.vocab.items() if token.partition("_")[0] in kinds
        )

    def _held(self) -> tuple[tuple[int, ...], ...]:
        """Ids of the marks that stay in force, by group; the first of a group ends the others."""
        groups: dict[str, list[int]] = {}
        for mark in self.config.marks:
            kind, _, told = mark.partition("_")
            if kind == HELD:
                group = groups.setdefault(told.partition(".")[0], [])
                group.append(self._miditok.vocab[mark])
        return tuple(map(tuple, groups.values()))

    @cached_property
    def _apart(self) -> np.ndarray:
        """Ids that are no material: special ones and marks."""
        marks = [i for i, kinds in enumerate(self._types) if kinds[0] in MARKS]
        return np.array([*self.vocabulary.special_ids, *marks])

    def _material(self, ids: np.ndarray) -> np.ndarray:
        return ids[~np.isin(ids[:, 0], self._apart)]


def _count_notes(plain: Iterable[str]) -> int:
    return sum(token.partition("_")[0] in SOUNDING for token in plain)


def _up_to_last_note(plain: list[str]) -> list[str]:
    """Leave out what follows the last token that ends a note or pedal."""
    ends = [i for i, token in enumerate(plain) if token.partition("_")[0] in COMPLETING]
    return plain[: ends[-1] + 1] if ends else []


def _beginning_of(reading: Reading, quarters: float) -> tuple[MidiFile, list[int]]:
    """Return what a file holds before a time, and the part of each track that plays then."""
    midi = join(
        reading.midi, reading.parts, MidiFile(), [], cut=quarters, keep_tempo=True, keep_metre=True
    )
    end = round(quarters * midi.ticks_per_beat)
    for note in (note for track in midi.instruments for note in track.notes):
        note.end = min(note.end, end)
    begin = [min(note.start for note in track.notes) for track in reading.midi.instruments]
    return midi, [part for part, first in zip(reading.parts, begin, strict=True) if first < end]
