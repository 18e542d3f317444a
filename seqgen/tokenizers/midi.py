"""MIDI tokens by MidiTok 3, used in this file only. Files are read through the gate.

Legend: T positions.
"""

import hashlib
import heapq
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import miditok
import numpy as np
import symusic
from miditok.constants import CHR_ID_START

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected
from seqgen.files import write_bytes, write_json
from seqgen.midi import DEFAULT_LIMITS, midi_bytes, open_midi
from seqgen.tokenizers.base import Shift
from seqgen.tokenizers.midi_clock import MidiClock
from seqgen.tokenizers.midi_grammar import (
    COMPLETING,
    SOUNDING,
    SPECIAL,
    build_grammar,
    close_notes,
)
from seqgen.vocabulary import Field, Vocabulary

FORMATS = {
    "remi": miditok.REMI,
    "tsd": miditok.TSD,
    "midilike": miditok.MIDILike,
    "structured": miditok.Structured,
}
TICKS_PER_QUARTER = 480  # of written files; MidiTok itself decodes to its own coarse grid


class MidiTokenizer:
    """MIDI files as MidiTok ids, F = 1."""

    unit = "note"
    suffix = ".mid"
    suffixes = frozenset({".mid", ".midi"})

    def __init__(
        self, config: TokenizerConfig, limits: LimitsConfig, saved: Path | None = None
    ) -> None:
        """Build from the configuration, or with what a saved MidiTok file adds (merged tokens)."""
        self.config = config
        self._limits = limits
        if saved is None:
            self._miditok = FORMATS[config.type](_miditok_config(config))
        else:
            self._miditok = FORMATS[config.type](params=saved)
        special = self._miditok.vocab
        self.vocabulary = Vocabulary(
            fields=(Field(config.type, len(self._parts)),),
            bos_id=special["BOS_None"],
            eos_id=special["EOS_None"],
            pad_id=special["PAD_None"],
            grammar=build_grammar(self._miditok.tokens_types_graph, self._types),
            anchors=tuple(i for i, kinds in enumerate(self._types) if "Bar" in kinds),
        )

    def encode(self, path: Path) -> np.ndarray:
        """Read a MIDI file into ids [T, 1]."""
        return self.encode_variants(path, [Shift()])[0]

    def encode_variants(self, path: Path, shifts: Sequence[Shift]) -> list[np.ndarray]:
        """Read a MIDI file once, into ids [T, 1] per shift that keeps pitches in MIDI's range."""
        score = self._read(path)
        pitches = [n.pitch for track in score.tracks if not track.is_drum for n in track.notes]
        low, high = min(pitches, default=0), max(pitches, default=0)
        variants = []
        for shift in shifts:
            if low + shift.transpose >= 0 and high + shift.transpose <= 127:
                variants.append(self.merge(self._encode(_shifted(score, shift), path)))
        return variants

    def decode(self, ids: np.ndarray, path: Path, *, tempo: float | None = None) -> None:
        """Write ids [T, 1] as a MIDI file, at `tempo` where tokens carry none."""
        if self.config.type == "midilike":
            plain = close_notes(
                self._plain(self._material(ids)), longest=f"TimeShift_{_longest(self.config)}"
            )
        else:
            plain = self._plain(self._up_to_last_note(ids))
        sequence = miditok.TokSequence(ids=[self._miditok.vocab[token] for token in plain])
        if self._miditok.config.one_token_stream_for_programs:
            score = self._miditok.decode(sequence)
        else:
            score = self._miditok.decode([sequence], programs=[(0, False)])
        score = score.resample(TICKS_PER_QUARTER)
        _thin(score)
        if not self._miditok.config.use_tempos:
            score.tempos = [symusic.Tempo(0, tempo or self.config.tempo)]
        for track in score.tracks:  # a note without its velocity has what MidiTok found instead
            track.notes = [note for note in track.notes if 0 < note.velocity < 128]
        end = max((note.end for track in score.tracks for note in track.notes), default=0)
        score.tempos = _before(end, score.tempos)
        score.time_signatures = _before(end, score.time_signatures)
        write_bytes(path, score.dumps_midi())

    def units(self, ids: np.ndarray) -> int:
        """Count notes."""
        return int(self._notes_per_id[ids[:, 0]].sum())

    def tempo(self, path: Path) -> float:
        """Quarter notes per minute with which a MIDI file begins."""
        return open_midi(path, self._limits).tempo_changes[0].tempo

    def clock(self, *, tempo: float | None = None) -> MidiClock:
        """Return a new clock before the first bar."""
        return MidiClock(
            self._parts,
            tempo=tempo or self.config.tempo,
            positions_per_beat=self.config.positions_per_beat,
        )

    def train(self, pieces: Iterable[np.ndarray], *, vocab_size: int) -> "MidiTokenizer":
        """Return a tokenizer with byte-pair merges learned from plain ids [T, 1] of each piece."""
        # MidiTok learns from strings: a word for each bar, a character for each plain id.
        words = [
            "".join(chr(CHR_ID_START + i) for i in bar)
            for ids in pieces
            for bar in self._bars(self._material(ids))
        ]
        learner = FORMATS[self.config.type](_miditok_config(self.config))
        learner.train(vocab_size=vocab_size, model="BPE", iterator=words)
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "miditok.json"
            learner.save(saved)
            return MidiTokenizer(self.config, self._limits, saved)

    def merge(self, ids: np.ndarray) -> np.ndarray:
        """Turn plain ids [T, 1] into merged ones; none reaches over a bar or has special ids."""
        if not self._miditok.is_trained:
            return ids
        bars = [miditok.TokSequence(ids=bar) for bar in self._bars(ids)]
        self._miditok.encode_token_ids(bars)
        return np.array([i for bar in bars for i in bar.ids], dtype=np.int64)[:, None]

    def names(self) -> list[str]:
        """Name ids by the plain tokens they stand for."""
        return ["+".join(parts) for parts in self._parts]

    def fingerprint(self) -> str:
        """Hash all settings and the meaning of every id."""
        meaning = [self.config.model_dump(exclude={"tempo"}), self._parts]
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write settings and MidiTok's own JSON."""
        write_json(
            folder / "tokenizer.json",
            {
                "type": self.config.type,
                "config": self.config.model_dump(),
                "limits": self._limits.model_dump(),
            },
        )
        self._miditok.save(folder / "miditok.json")

    @cached_property
    def _parts(self) -> list[list[str]]:
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
        return [[part.partition("_")[0] for part in parts] for parts in self._parts]

    @cached_property
    def _notes_per_id(self) -> np.ndarray:
        return np.array([sum(kind in SOUNDING for kind in kinds) for kinds in self._types])

    def _read(self, path: Path) -> symusic.Score:
        """Open a file through the gate; hand over as bytes; keep what the tokens can carry."""
        midi = open_midi(path, self._limits)
        for track in midi.instruments:  # tokens carry none of these, and they may be many
            track.control_changes, track.pitch_bends, track.pedals = [], [], []
        midi.lyrics, midi.markers = [], []
        score = symusic.Score.from_midi(midi_bytes(midi))
        if self.config.use_programs:
            return score
        pitched = [track for track in score.tracks if not track.is_drum]
        if not any(len(track.notes) for track in pitched):
            raise FileRejected(
                "unsupported",
                str(path),
                "it has drums only, which need tokenizer.use_programs=true",
            )
        merged = symusic.Track(name="piano", program=0, is_drum=False)
        merged.notes = [note for track in pitched for note in track.notes]
        merged.sort()
        score.tracks = [merged]
        return score

    def _encode(self, score: symusic.Score, path: Path) -> np.ndarray:
        encoded = self._miditok.encode(score, encode_ids=False)
        if isinstance(encoded, list):
            encoded = encoded[0] if encoded else miditok.TokSequence(ids=[])
        ids = np.asarray(encoded.ids, dtype=np.int64)[:, None]
        if self.units(ids) == 0:
            raise FileRejected("empty", str(path), "no note is left after tokenizing")
        return self._up_to_last_note(ids)

    def _plain(self, ids: np.ndarray) -> list[str]:
        return [part for i in ids[:, 0] for part in self._parts[i]]

    def _bars(self, ids: np.ndarray) -> list[list[int]]:
        """Cut plain ids [T, 1] where bars begin."""
        clock, n_bars = self.clock(), 0
        bars: list[list[int]] = [[]]
        for token in ids:
            clock.feed(token)
            if clock.bars > n_bars:
                n_bars = clock.bars
                bars.append([])
            bars[-1].append(int(token[0]))
        return [bar for bar in bars if bar]

    def _material(self, ids: np.ndarray) -> np.ndarray:
        return ids[~np.isin(ids[:, 0], self.vocabulary.special_ids)]

    def _up_to_last_note(self, ids: np.ndarray) -> np.ndarray:
        """Leave out special tokens, and what follows the last token that ends a note."""
        completes = np.array([kinds[-1] in COMPLETING for kinds in self._types])
        ids = self._material(ids)
        ends = np.flatnonzero(completes[ids[:, 0]])
        return ids[: ends[-1] + 1] if len(ends) else ids[:0]


def _before(end: int, changes: Iterable) -> list:
    """Return changes of tempo or metre in order of time, without those after the last note.

    Where tokens come in any order, so do changes; late ones would make the file longer than its
    music.
    """
    kept = [change for change in changes if change.time == 0 or change.time < end]
    return sorted(kept, key=lambda change: change.time)


def _shifted(score: symusic.Score, shift: Shift) -> symusic.Score:
    score = score.copy()
    for track in score.tracks:
        if shift.transpose and not track.is_drum:
            track.shift_pitch(shift.transpose, inplace=True)
        if shift.velocity:
            for note in track.notes:
                note.velocity = min(max(note.velocity + shift.velocity, 1), 127)
    return score


def _thin(score: symusic.Score) -> None:
    """Leave out notes on a key that already sounds as often as the gate accepts."""
    sounding: dict[int, list[int]] = defaultdict(list)  # by pitch: a heap of the notes' ends
    kept: list[list[symusic.Note]] = [[] for _ in score.tracks]
    notes = [(n.start, i, n) for i, track in enumerate(score.tracks) for n in track.notes]
    for start, i, note in sorted(notes, key=lambda entry: entry[:2]):
        ends = sounding[note.pitch]
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        if len(ends) < DEFAULT_LIMITS.max_notes_on_one_key:
            heapq.heappush(ends, note.end)
            kept[i].append(note)
    for track, notes in zip(score.tracks, kept, strict=True):
        track.notes = notes


def _longest(config: TokenizerConfig) -> str:
    """The longest duration or time shift, as MidiTok spells it: beats.fraction.resolution."""
    return f"{config.max_note_beats}.0.{config.positions_per_beat}"


def _miditok_config(config: TokenizerConfig) -> miditok.TokenizerConfig:
    """Set every option explicitly, so that a new default of MidiTok changes nothing."""
    extra = {}
    if config.type == "midilike":  # notes never switched off end after this long
        extra["max_duration"] = _longest(config)
    resolution = config.positions_per_beat
    return miditok.TokenizerConfig(
        pitch_range=(0, 127),
        beat_res={(0, config.max_note_beats): resolution},
        num_velocities=config.n_velocities,
        special_tokens=list(SPECIAL),
        encode_ids_split="no",  # `_bars` splits, and needs no score for it
        use_velocities=config.use_velocities,
        use_note_duration_programs=list(range(-1, 128)),
        use_chords=False,
        use_rests=False,
        use_tempos=config.use_tempos,
        use_time_signatures=config.use_time_signatures,
        use_sustain_pedals=False,
        use_pitch_bends=False,
        use_programs=config.use_programs,
        one_token_stream_for_programs=True,
        use_pitchdrum_tokens=config.use_programs,
        **extra,
    )
