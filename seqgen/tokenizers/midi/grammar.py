"""MidiTok's token-type graph as a grammar over ids, merged (BPE) ids included."""

from collections.abc import Mapping, Sequence

from seqgen.tokenizers.midi.settings import ANSWER, GIVEN, HELD, MARKS, SPECIAL
from seqgen.vocabulary import ANY, KEEP, LESS, RESET, Grammar, join_orders

COMPLETING = frozenset({"Duration", "NoteOff", "DrumOff", "PedalOff"})  # what ends a note or pedal
SOUNDING = frozenset({"Duration", "NoteOn", "DrumOn"})  # each of these is one note
OPENING = ("TimeSig", "Tempo")  # may stand before the first note
TIMED = frozenset({"Pitch", "PitchDrum", "Pedal", "PedalOff", "PitchBend"})  # what a part holds


def build_grammar(
    graph: Mapping[str, set[str]],
    plain: Sequence[Sequence[str]],
    *,
    by_bars: bool,
    positions_per_beat: int,
    part_names: Sequence[str],
) -> Grammar:
    """Turn a graph of token types into rules for ids.

    MidiTok's graph lets a piece end anywhere and begin with anything; here it begins as MidiTok's
    own encodings do and ends after a whole note. Inside a bar, positions rise and stay below its
    length, and parts come once, in their order: time does not go back. A quote takes the place of a
    part's music, and is of a bar of the piece; that the part plays there is not asked for. Marks
    are given and never drawn.

    Args:
        graph: for each type, the types that may follow.
        plain: for each id, the plain tokens it stands for; one unless merged.
        by_bars: whether bars hold their changes of tempo, and then parts.
        positions_per_beat: of the Position tokens.
        part_names: in the order in which a bar tells them; none: there is one part without a name.
    """
    types = [[token.partition("_")[0] for token in tokens] for tokens in plain]
    after = {
        name: {x for x in follow if x in graph} - set(SPECIAL) for name, follow in graph.items()
    }
    if by_bars:
        after = _with_marks(_with_parts(after, named=bool(part_names)))
    groups = [*SPECIAL, *(name for name in after if name not in SPECIAL)]
    index = {name: i for i, name in enumerate(groups)}
    for name in (COMPLETING | {"Quote"}) & set(groups):
        after[name].add("EOS")
    after["BOS"] = {"Bar"} if "Bar" in graph else _openings(after)
    after["PAD"] = after["EOS"] = {"PAD"}
    needs, sets = [], []
    if "Position" in graph:
        order = _Order(plain, positions_per_beat, part_names)
        for tokens in plain:
            joined = join_orders([order.need(x) for x in tokens], [order.set(x) for x in tokens])
            needs.append(joined[0])
            sets.append(joined[1])
    return Grammar(
        first=tuple(index[parts[0]] for parts in types),
        last=tuple(index[parts[-1]] for parts in types),
        follows=tuple(tuple(b in after[a] for b in groups) for a in groups),
        units=tuple(any(part in SOUNDING for part in parts) for parts in types),
        needs=tuple(needs),
        sets=tuple(sets),
    )


class _Order:
    """What plain tokens need of the registers, and set them to.

    They are the latest change of tempo or part in the bar, the position, how much shorter the bar
    is than the longest, and how many bars there are (see `LESS`), if these may be quoted.
    """

    def __init__(
        self, plain: Sequence[Sequence[str]], positions_per_beat: int, part_names: Sequence[str]
    ):
        values = [token.partition("_") for tokens in plain for token in tokens]
        self._longest = 1 + max(int(value) for kind, _, value in values if kind == "Position")
        self._per_beat = positions_per_beat
        self._n_registers = 4 if any(kind == "Quote" for kind, _, _ in values) else 3
        self._ranks = {name: self._longest + rank for rank, name in enumerate(part_names)}

    def need(self, token: str) -> tuple[int, ...]:
        kind, _, value = token.partition("_")
        needs = [ANY] * self._n_registers
        if kind == "Position":
            needs[1], needs[2] = int(value), self._longest - int(value)
        elif kind == "TempoPosition":
            needs[0], needs[2] = int(value), self._longest - int(value)
        elif kind == "Part":
            needs[0] = self._ranks[value]
        elif kind == "Quote":
            needs[3] = RESET - int(value)
        return tuple(needs)

    def set(self, token: str) -> tuple[int, ...]:
        kind, _, value = token.partition("_")
        sets = [KEEP] * self._n_registers
        if kind == "Bar":
            sets[:2] = RESET, RESET
            sets[3:] = [LESS] * (self._n_registers - 3)
        elif kind == "TimeSig":
            length = int(value.partition("/")[0]) * self._per_beat
            sets[2] = max(self._longest - length, 0)
        elif kind == "Position":
            sets[1] = int(value)
        elif kind == "TempoPosition":
            sets[0] = int(value)
        elif kind == "Part":
            sets[0], sets[1] = self._ranks[value], RESET
        elif kind == ANSWER:
            sets[:2] = RESET, RESET
        return tuple(sets)


def _with_parts(after: Mapping[str, set[str]], *, named: bool) -> dict[str, set[str]]:
    """Let a bar begin with its time signature and tempos, and then hold parts."""
    metre = {"TimeSig"} & after.keys()
    tempo = {"TempoPosition"} & after.keys()
    quote = {"Quote"} & after.keys()
    part = {"Part"} if named else set()
    within = {
        name: (follow - {"Part", "TempoPosition", "Tempo", "TimeSig", "Quote"})
        | (part if "Bar" in follow else set())
        for name, follow in after.items()
    }
    music = {"Position"} | quote
    head = {"Bar"} | tempo | (part or music)
    within["Bar"] = metre or head
    if metre:
        within["TimeSig"] = head
    if tempo:
        within["TempoPosition"], within["Tempo"] = {"Tempo"}, head
    if named:
        within["Part"] = music
    if quote:
        within["Quote"] = {"Bar"} | part
    within["Position"] &= TIMED
    return within


def _with_marks(after: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Let nothing be followed by marks; after them it goes on as after what they stand behind."""
    within = {name: follow - set(MARKS) for name, follow in after.items()}
    as_after = {GIVEN: within["Bar"], HELD: within["Bar"], ANSWER: {"Part", "Bar"}}
    return within | {name: as_after[name] for name in MARKS if name in after}


def _openings(after: Mapping[str, set[str]]) -> set[str]:
    """Types that may come first: a setting, or what may come after a whole note but no ending."""
    after_note = set().union(*(after[name] for name in COMPLETING if name in after))
    settings = {name for name in OPENING if name in after}
    return (after_note | settings) - COMPLETING - {"EOS"}


def close_notes(parts: Sequence[str], *, longest: str) -> list[str]:
    """Append what ends the notes that plain MIDI-Like tokens have begun and left on.

    A graph of types cannot see which note a NoteOff is for, so a sample may leave notes on; MidiTok
    would drop them. They end a `longest` time shift after the last token.
    """
    program, on = None, []
    for part in parts:
        kind, _, value = part.partition("_")
        if kind == "Program":
            program = part
        elif kind in ("NoteOn", "DrumOn"):
            on.append((program, f"{kind.removesuffix('On')}Off_{value}"))
        elif kind in ("NoteOff", "DrumOff") and (program, part) in on:
            on.remove((program, part))
    if not on:
        return list(parts)
    ending = [longest]
    for program, off in on:
        ending += [off] if program is None else [program, off]
    return [*parts, *ending]
