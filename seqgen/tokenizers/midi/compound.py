"""Compound words: plain REMI tokens that belong together become one token of several fields.

`cpword` groups them as Hsiao et al. 2021 ("Compound Word Transformer") do: a bar with its time
signature if that is a new one, a position with its tempo, a note with all that it has. With quotes
it tells bars part by part, and a quote is a token. `octuple` has no tokens for bars and positions:
each note carries them too (Zeng et al. 2021, "MusicBERT"). Both hold whatever plain tokens hold, so
nothing is lost between the two.

Legend: T positions, F fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.errors import FileRejected, UserError
from seqgen.midi import MidiFile
from seqgen.tokenizers.base import Edit, Encoded, Original, Shift, ToldNote, digest
from seqgen.tokenizers.midi.clock import MidiClock
from seqgen.tokenizers.midi.parts import DRUMS
from seqgen.tokenizers.midi.quotes import NO_QUOTES, quote_ahead
from seqgen.tokenizers.midi.settings import SPECIAL, settled, told_by_bars
from seqgen.tokenizers.midi.tokenizer import MidiTokenizer, OpenSettings
from seqgen.vocabulary import ANY, FOLLOW, KEEP, Field, Grammar, Vocabulary

COMPOUND = ("cpword", "octuple")
DRUM_PROGRAM = "Program_-1"
BAR = "Bar_None"
# Fields in their usual order, and the types of plain tokens that each holds.
FIELDS = {
    "bar": ("BarNumber",),
    "metre": ("TimeSig",),
    "tempo_position": ("TempoPosition",),
    "part": ("Part",),
    "position": ("Position",),
    "tempo": ("Tempo",),
    "program": ("Program",),
    "pitch": ("Pitch",),
    "drum": ("PitchDrum",),
    "velocity": ("Velocity",),
    "duration": ("Duration",),
    "pedal": ("Pedal", "PedalOff"),
    "bend": ("PitchBend",),
    "quote": ("Quote",),
}
EVENTS = {  # kinds of tokens that sound or control, and the fields of each
    "note": ("program", "pitch", "velocity", "duration"),
    "drum": ("drum", "velocity", "duration"),
    "pedal": ("pedal",),
    "pedal off": ("pedal",),
    "bend": ("program", "bend"),
}
BARS = {"bar": (), "metre": ("metre",)}  # a bar in the metre of the one before, or another one
STREAM = BARS | {"position": ("position",), "tempo": ("position", "tempo")}
BY_BARS = BARS | {  # a bar with its changes of tempo, and then part by part
    "tempo": ("tempo_position", "tempo"),
    "part": ("part",),
    "position": ("position",),
    "quote": ("quote",),
}
OCTUPLE = {"bar": ("bar", "metre"), "tempo": ("bar", "metre", "position", "tempo")}
NEEDED = {  # by kinds that not all tokens have
    "metre": "metre",
    "tempo": "tempo",
    "part": "part",
    "quote": "quote",
    "note": "pitch",
    "drum": "drum",
    "pedal": "pedal",
    "pedal off": "pedal",
    "bend": "bend",
}
ENDING = {"note", "drum", "pedal off", "quote"}  # a piece may end after these
UNITS = {"note", "drum"}
TELLING = {"note": "pitch", "drum": "drum", "quote": "quote"}  # the field that tells which notes
WHEN = (
    "bar",
    "metre",
    "position",
)  # which bar is known before what it holds, and that before where
BEGINNING = {"Bar", "TempoPosition", "Part", "Position", "Quote"}  # types that end what was begun
CONTROLS = {"Pedal": "pedal", "PedalOff": "pedal off", "PitchBend": "bend"}  # types and kinds


class Words:
    """Which plain tokens each compound token stands for.

    Attributes:
        type: cpword or octuple.
        time: kinds that tell the time, or where music is from, and the fields of each.
        fields: the names of the fields, the first of which is `kind`.
        kinds: the values of the first field, special ones included.
        values: for each later field, the plain tokens that its ids after the special ones are for.
    """

    def __init__(
        self, type: str, plain: Sequence[str], *, max_bars: int, order: Sequence[str] = ()
    ):
        """Lay out fields for plain tokens, and numbers for so many bars.

        Those that `order` names come first. UserError: it names others, or tells positions first.
        """
        self.type = type
        known: dict[str, list[str]] = {"BarNumber": [f"BarNumber_{i}" for i in range(max_bars)]}
        for token in plain:
            known.setdefault(token.partition("_")[0], []).append(token)
        self.time = OCTUPLE if type == "octuple" else BY_BARS if "Quote" in known else STREAM
        if type == "cpword":
            del known["BarNumber"]
        names = known.get("Part") or known.get("Program") or []
        are_drums = [name == DRUM_PROGRAM or name.startswith(f"Part_{DRUMS}") for name in names]
        if not any(are_drums):
            known.pop("PitchDrum", None)
        if are_drums and all(are_drums):
            del known["Pitch"]
            known.pop("PitchBend", None)
        self.values = {}
        for name, types in FIELDS.items():
            # A drum's program goes without saying; a pedal goes up where it went down.
            of_field = [token for token in known.get(types[0], ()) if token != DRUM_PROGRAM]
            if of_field:
                self.values[name] = of_field
        self.values = _in_order(self.values, order)
        self.fields = ["kind", *self.values]
        self.kinds = [
            *(name.lower() for name in SPECIAL),
            *(k for k in (*self.time, *EVENTS) if NEEDED.get(k, "kind") in self.fields),
        ]
        self._ids = {
            token: len(SPECIAL) + i
            for of_field in self.values.values()
            for i, token in enumerate(of_field)
        }

    def used(self, kind: str) -> list[str]:
        """Return the later fields that mean something with a kind, in their order."""
        wanted = {*self.time.get(kind, ()), *EVENTS.get(kind, ())}
        if self.type == "octuple" and kind in EVENTS:
            wanted |= {"bar", "metre", "position", "tempo"}
        return [name for name in self.values if name in wanted]

    def id_of(self, token: str) -> int:
        """The id of a plain token in its field."""
        if token.startswith("PedalOff_"):
            token = token.replace("PedalOff_", "Pedal_")
        return self._ids[token]

    def word(self, kind: str, tokens: Mapping[str, str]) -> np.ndarray:
        """Return the token [F] of a kind with these plain tokens by field."""
        word = np.zeros(len(self.fields), dtype=np.int64)  # PAD where a field means nothing
        word[0] = self.kinds.index(kind)
        for name in self.used(kind):
            word[self.fields.index(name)] = self.id_of(tokens[name])
        return word

    def read(self, word: np.ndarray) -> tuple[str, dict[str, str]]:
        """Return the kind of a token [F] that is not special, and its plain tokens by field."""
        kind = self.kinds[int(word[0])]
        return kind, {
            name: self.values[name][int(word[self.fields.index(name)]) - len(SPECIAL)]
            for name in self.used(kind)
        }


def _in_order(values: Mapping[str, list[str]], order: Sequence[str]) -> dict[str, list[str]]:
    """Put the fields that are named first."""
    names = list(dict.fromkeys([*order, *values]))
    when = [name for name in names if name in WHEN]
    if len(names) > len(values):
        raise UserError(
            f"tokenizer.field_order={list(order)}: the fields of these tokens are "
            f"{', '.join(values)}"
        )
    in_time = [name for name in WHEN if name in values]
    if when != in_time:
        raise UserError(
            f"tokenizer.field_order={list(order)}: {', '.join(in_time)} must keep this order"
        )
    return {name: values[name] for name in names}


def group(plain: Iterable[str], words: Words, *, metre: str | None = None) -> Iterator[np.ndarray]:
    """Turn plain tokens into compound ones [F]; before them the time signature is `metre`."""
    steps = _steps(plain)
    is_cpword = words.type == "cpword"
    for kind, tokens in _with_new_metres(steps, metre) if is_cpword else _without_time(steps):
        yield words.word(kind, tokens)


def _steps(plain: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each bar, position, change of tempo and event, and the tokens by field that hold."""
    fields = {kind: name for name, kinds in FIELDS.items() for kind in kinds}
    now: dict[str, str] = {}
    begun = ""  # a bar or position, which may go on
    n_bars = 0
    for token in plain:
        kind = token.partition("_")[0]
        ends_event = kind == "Duration" or kind in CONTROLS
        if begun and (kind in BEGINNING or ends_event):
            yield begun, dict(now)
            begun = ""
        if kind == "Bar":
            now["bar"], begun = f"BarNumber_{n_bars}", "bar"
            n_bars += 1
            continue
        now[fields[kind]] = token
        if kind in ("Position", "Tempo"):
            begun = kind.lower()
        elif kind in ("Part", "Quote"):
            yield kind.lower(), dict(now)
        elif ends_event:
            yield CONTROLS.get(kind) or ("drum" if "drum" in now else "note"), dict(now)
            now.pop("drum", None)
    if begun:
        yield begun, now


def _with_new_metres(
    steps: Iterable[tuple[str, dict[str, str]]], metre: str | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Tell bars in another metre than the one before from those in the same."""
    for kind, tokens in steps:
        is_new = kind == "bar" and tokens.get("metre") != metre
        metre = tokens["metre"] if is_new else metre
        yield "metre" if is_new else kind, tokens


def _without_time(
    steps: Iterable[tuple[str, dict[str, str]]],
) -> Iterator[tuple[str, dict[str, str]]]:
    """Leave out bars and positions that the next event tells too."""
    told: str | None = None  # the metre
    waiting: tuple[str, dict[str, str]] | None = None  # a bar or a tempo without an event so far
    for kind, tokens in [*steps, ("bar", {})]:
        if waiting is not None:
            # A tempo is told by an event at its position, a bar by whatever is in it, and a bar
            # without a new metre by whatever comes later.
            is_tempo, metre = waiting[0] == "tempo", waiting[1].get("metre")
            if (is_tempo and kind not in EVENTS) or (kind == "bar" and metre != told):
                yield waiting
                told, waiting = metre, None
        if kind in EVENTS:
            yield kind, tokens
            told, waiting = tokens.get("metre"), None
        elif kind != "position":
            waiting = kind, tokens


@dataclass
class Unpacker:
    """Turns compound tokens back into plain ones, one by one.

    Attributes:
        words: what they stand for.
        metre: the time signature so far.
        bar, position, tempo: where an octuple has told the time to be.
    """

    words: Words
    positions_per_beat: int
    bar: int = -1
    metre: str | None = None
    position: str | None = None
    tempo: str | None = None

    def take(self, token: np.ndarray) -> list[str]:
        """Return the plain tokens of the next token [F]."""
        if token[0] < len(SPECIAL):
            return []
        kind, tokens = self.words.read(token)
        plain = []
        if self.words.type == "octuple":
            plain = self._time(tokens)
        elif kind in BARS:
            self.metre = tokens.get("metre", self.metre)
            plain = [BAR] if self.metre is None else [BAR, self.metre]
        elif kind in self.words.time:
            plain = [tokens[name] for name in self.words.time[kind]]
        if kind not in EVENTS:
            return plain
        if kind == "drum" and self.words.time is not BY_BARS:
            plain.append(DRUM_PROGRAM)
        for name in EVENTS[kind]:
            if name in tokens:
                plain.append(tokens[name])
        if kind == "pedal off":
            plain[-1] = plain[-1].replace("Pedal_", "PedalOff_")
        return plain

    def _time(self, tokens: Mapping[str, str]) -> list[str]:
        """Return what leads from the present time to that of an octuple, which is never earlier."""
        plain = []
        metre = tokens.get("metre")
        number = int(tokens["bar"].partition("_")[2])
        while self.bar < number:
            self.bar += 1
            self.position = None
            if self.bar == number or self.metre is None:
                self.metre = metre
            plain += [BAR] if self.metre is None else [BAR, self.metre]
        if "position" not in tokens:
            return plain
        position = self._inside(tokens["position"])
        if position != self.position:
            self.position = position
            plain.append(position)
        if tokens.get("tempo") != self.tempo:
            self.tempo = tokens["tempo"]
            plain.append(self.tempo)
        return plain

    def _inside(self, position: str) -> str:
        """Return a position, or the last one of the bar: its metre is that of its first token."""
        metre = "TimeSig_4/4" if self.metre is None else self.metre
        beats = int(metre.partition("_")[2].partition("/")[0])
        last = beats * self.positions_per_beat - 1
        return f"Position_{min(int(position.partition('_')[2]), last)}"


class CompoundClock:
    """Musical time read off compound tokens: that of the plain ones they stand for."""

    def __init__(self, unpacker: Unpacker, clock: MidiClock, ids: Mapping[str, int]):
        self._unpacker, self._clock, self._ids = unpacker, clock, ids

    def __copy__(self) -> CompoundClock:
        return CompoundClock(copy(self._unpacker), copy(self._clock), self._ids)

    @property
    def bars(self) -> int:
        """Bars begun so far."""
        return self._clock.bars

    @property
    def quarters(self) -> float:
        """Quarter notes from the beginning to the latest onset or bar."""
        return self._clock.quarters

    @property
    def bar_start(self) -> float:
        """Quarter notes from the beginning to the latest bar."""
        return self._clock.bar_start

    @property
    def seconds(self) -> float:
        """Seconds from the beginning to the latest onset or bar."""
        return self._clock.seconds

    def feed(self, token: np.ndarray) -> None:
        """Take the next token [F]."""
        for plain in self._unpacker.take(token):
            self._clock.feed(np.array([self._ids[plain]]))


class CompoundTokenizer(OpenSettings):
    """MIDI files as compound words, F > 1."""

    types = COMPOUND

    def __init__(self, config: TokenizerConfig, limits: LimitsConfig):
        """Build from the configuration, over plain tokens of one stream or told bar by bar."""
        layout = "bars" if told_by_bars(settled(config)) else "stream"
        plain = config.model_copy(update={"type": "remi", "layout": layout})
        self._plain = MidiTokenizer(plain, limits)
        self.tells_parts = self._plain.tells_parts
        own = {"type": config.type, "layout": config.layout}
        super().__init__(self._plain.config.model_copy(update=own), limits)
        names = self._plain.names()
        self._ids = {token: i for i, token in enumerate(names)}
        self._max_bars = self.config.max_bars or 0
        self.words = Words(
            config.type, names, max_bars=self._max_bars, order=config.field_order or ()
        )
        self.vocabulary = self._build_vocabulary()
        self.bar = self.words.word("bar", {}) if config.type == "cpword" else None

    def encode(self, path: Path) -> np.ndarray:
        """Read a MIDI file into ids [T, F]."""
        return self._group(self._plain.encode(path), path)

    def examine(self, path: Path, shifts: Sequence[Shift]) -> Encoded:
        """Read a MIDI file once: ids [T, F] per shift that keeps pitches in MIDI's range."""
        plain = self._plain.examine(path, shifts)
        return replace(plain, variants=[self._group(ids, path) for ids in plain.variants])

    def played(
        self,
        ids: np.ndarray,
        *,
        tempo: float | None = None,
        original: Original | Edit | None = None,
    ) -> MidiFile:
        """Return the music of ids [T, F], as `MidiTokenizer.played` does."""
        if isinstance(original, Original):
            n_tokens = len(self._ungroup(ids[: original.n_tokens]))
            original = replace(original, n_tokens=n_tokens)
        return self._plain.played(self._ungroup(ids), tempo=tempo, original=original)

    def describe(self, path: Path, *, until: float = inf) -> tuple[str, list[str]]:
        """Say what a file holds in a few words, and what of it the tokens cannot hold."""
        return self._plain.describe(path, until=until)

    def units(self, ids: np.ndarray) -> int:
        """Count notes, those that quotes stand for as well."""
        return self._plain.units(self._ungroup(ids))

    def told_notes(self, ids: np.ndarray) -> list[ToldNote]:
        """Tell which tokens [T, F] are of which note; the notes of a quote have its one token."""
        unpacker, words = self._unpacker(), self.words
        told = self._plain.told_in([self._ids[x] for x in unpacker.take(token)] for token in ids)
        kinds = [words.kinds[i] for i in ids[:, 0]]
        return [replace(note, field=words.fields.index(TELLING[kinds[note.at]])) for note in told]

    def repeats(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tell which tokens [T, F] are of bars that their part has played before; count notes."""
        unpacker = self._unpacker()
        return self._plain.repeats_in(unpacker.take(token) for token in ids)

    def quote_bars(self, ids: np.ndarray, *, back: int, n_bars: int) -> np.ndarray:
        """Return ids [·, F] that tell the next bars of a piece as quotes of earlier ones."""
        if not self.config.quotes:
            raise UserError(NO_QUOTES)
        unpacker = self._unpacker()
        told = [unpacker.take(token) for token in ids]
        begun = len(told[-1]) if self.words.kinds[ids[-1, 0]] in BARS else 0
        plain = [token for tokens in told for token in tokens]
        quotes = quote_ahead(plain, back=back, n_bars=n_bars, begun=begun)
        words = group(quotes, self.words, metre=unpacker.metre)
        return np.concatenate([ids[:0], *(word[None] for word in words)])

    def write_out(self, ids: np.ndarray) -> np.ndarray:
        """Replace the quotes in ids [T, F] by the music that they stand for."""
        if not self.config.quotes:
            return ids
        names = self._plain.names()
        plain = [names[i] for i in self._plain.write_out(self._ungroup(ids))[:, 0]]
        return np.concatenate([ids[:0], *(word[None] for word in group(plain, self.words))])

    def clock(self, *, tempo: float | None = None) -> CompoundClock:
        """Return a new clock before the first bar."""
        return CompoundClock(self._unpacker(), self._plain.clock(tempo=tempo), self._ids)

    def names(self, field: int = 0) -> list[str]:
        """Name the ids of a field: kinds, or plain tokens."""
        if field == 0:
            return list(self.words.kinds)
        return [*SPECIAL, *self.words.values[self.words.fields[field]]]

    def fingerprint(self) -> str:
        """Hash all settings and the meaning of every id."""
        meaning = [self._plain.fingerprint(), self.words.type, self.words.kinds, self.words.values]
        return digest(meaning)

    def _unpacker(self) -> Unpacker:
        return Unpacker(self.words, self.config.positions_per_beat or 4)

    def _group(self, ids: np.ndarray, path: Path) -> np.ndarray:
        names = self._plain.names()
        plain = [names[i] for i in ids[:, 0]]
        n_bars = plain.count(BAR)
        if self.words.type == "octuple" and n_bars > self._max_bars:
            raise FileRejected(
                "unsupported",
                str(path),
                f"it has {n_bars} bars, and the tokens number {self._max_bars}: raise "
                f"tokenizer.max_bars",
            )
        return np.stack(list(group(plain, self.words)))

    def _ungroup(self, ids: np.ndarray) -> np.ndarray:
        """Return plain ids [T, 1] of ids [T, F]; special ones stay."""
        unpacker = self._unpacker()
        plain: list[int] = []
        for token in ids:
            special = token[:1] < len(SPECIAL)
            plain += token[:1].tolist() if special else [self._ids[x] for x in unpacker.take(token)]
        return np.array(plain, dtype=np.int64)[:, None]

    def _build_vocabulary(self) -> Vocabulary:
        words = self.words
        sizes = [len(words.kinds), *(len(SPECIAL) + len(x) for x in words.values.values())]
        special = {name: i for i, name in enumerate(SPECIAL)}
        return Vocabulary(
            fields=tuple(Field(name, size) for name, size in zip(words.fields, sizes, strict=True)),
            bos_id=special["BOS"],
            eos_id=special["EOS"],
            pad_id=special["PAD"],
            grammar=self._build_grammar(),
            anchors=tuple(i for i, kind in enumerate(words.kinds) if kind in BARS)
            if words.type == "cpword"
            else (),
            used=tuple(
                tuple(name in words.used(kind) for name in words.values) for kind in words.kinds
            ),
        )

    def _build_grammar(self) -> Grammar:
        """Kinds follow as in plain tokens; registers are those of the plain tokens' grammar."""
        words = self.words
        plain = self._plain.vocabulary.grammar
        assert plain is not None  # REMI has one
        nothing = (ANY,) * plain.n_registers, (KEEP,) * plain.n_registers
        rows = dict.fromkeys(words.kinds, nothing)
        if words.type == "cpword":
            for kind in words.time.keys() & rows.keys():
                rows[kind] = self._first_of(kind, plain), nothing[1]
            for kind in BARS.keys() & rows.keys():
                rows[kind] = nothing[0], plain.sets[self._ids[BAR]]
        after = {kind: _following(kind, words) for kind in words.kinds}
        orders = [rows[kind] for kind in words.kinds]
        for name, tokens in words.values.items():
            orders += [nothing] * len(SPECIAL)
            orders += [self._order(name, i, token, plain) for i, token in enumerate(tokens)]
        is_unit = tuple(kind in UNITS for kind in words.kinds)
        return Grammar(
            first=tuple(range(len(words.kinds))),
            last=tuple(range(len(words.kinds))),
            follows=tuple(tuple(b in after[a] for b in words.kinds) for a in words.kinds),
            units=is_unit,
            needs=tuple(needs for needs, _ in orders),
            sets=tuple(sets for _, sets in orders),
        )

    def _first_of(self, kind: str, plain: Grammar) -> tuple[int, ...]:
        """What a kind that tells the time needs: one of the first ids that it has must be left."""
        tokens = self.words.values[self.words.time[kind][0]] if self.words.time[kind] else [BAR]
        needs = [plain.needs[self._ids[token]] for token in tokens]
        return tuple(max(of_register) for of_register in zip(*needs, strict=True))

    def _order(
        self, name: str, i: int, token: str, plain: Grammar
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What an id of a later field needs of the registers (bar or part, position, shortage)."""
        if name == "bar":  # never falls; positions begin anew with a new one
            return (i, ANY, ANY), (i - 1, FOLLOW, KEEP)
        needs, sets = plain.needs[self._ids[token]], plain.sets[self._ids[token]]
        if name == "position" and self.words.type == "octuple":  # several notes at one
            sets = (KEEP, sets[1] - 1, KEEP)
        return needs, sets


def _following(kind: str, words: Words) -> set[str]:
    """Return the kinds that may come after a kind."""
    events, time = {name for name in words.kinds if name in EVENTS}, {*words.time}
    if words.type == "octuple":
        after = {*events, *time} if kind in {*events, *time, "bos"} else set()
    elif kind == "bos":
        after = {"metre"} if "metre" in words.kinds else {"bar"}
    elif kind == "position":
        after = events
    elif words.time is STREAM:
        after = {*events, *time} if kind in {*events, "tempo"} else time if kind in BARS else set()
    elif kind in {*BARS, "tempo"}:
        after = {*BARS, "tempo", *({"part"} if "part" in words.kinds else {"position", "quote"})}
    elif kind in events:
        after = {*events, *BARS, "position", "part"}
    else:
        after = {"part": {"position", "quote"}, "quote": {*BARS, "part"}}.get(kind, set())
    return {*after, "eos"} if kind in ENDING else after
