"""From our settings to MidiTok's: every option is set, so that a new default changes nothing."""

import math
from typing import Any

import miditok

from seqgen.config import TokenizerConfig
from seqgen.errors import UserError
from seqgen.tokenizers.midi.parts import ALL_PARTS, Part

FORMATS = {
    "remi": miditok.REMI,
    "tsd": miditok.TSD,
    "midilike": miditok.MIDILike,
    "structured": miditok.Structured,
}
SPECIAL = ("PAD", "BOS", "EOS")
# Marks: those of one place; those that stay in force until the next of their group, Held_key.Am and
# Held_key.Dm; and where what is asked for begins in a bar.
GIVEN, HELD, ANSWER = MARKS = ("Given", "Held", "Answer")
LACKING = {  # what MidiTok's format has no tokens for
    "structured": (
        "use_tempos",
        "use_time_signatures",
        "use_sustain_pedals",
        "use_pitch_bends",
    )
}
COMPACT = TokenizerConfig(  # what holds where neither the user nor a corpus says otherwise
    parts="one",
    quotes=False,
    quote_bars=64,
    use_velocities=False,
    use_tempos=False,
    use_time_signatures=False,
    use_sustain_pedals=False,
    use_pitch_bends=False,
    positions_per_beat=4,
    max_note_beats=8,
    max_bars=512,
    tempo_range=[40.0, 250.0],
    time_signatures=["4/4", "3/4", "2/4", "1/4", "5/4", "6/4", "3/8", "6/8", "12/8"],
    tempo=120.0,
    velocity=80,
)
FINE_BEATS = 4  # longer notes end on a coarser grid
COARSE = 4
TEMPO_STEP = 1 + 1 / 120  # 120 quarter notes per minute stay within half of one
NEGLIGIBLE_STEP = 0.01  # the ends of a range are rounded numbers
BENDS = (-8176, 8176, 33)  # lowest, highest, and how many: evenly spaced, 0 among them


def settled(config: TokenizerConfig) -> TokenizerConfig:
    """Return a configuration without open choices: those left are the compact ones.

    Raises:
        UserError: it asks for tokens that its format lacks.
    """
    for key in LACKING.get(config.type, ()):
        if getattr(config, key):
            raise UserError(
                f"tokenizer.{key}=true: the format {config.type} has no such tokens; choose "
                f"tokenizer.type=remi, or leave it out"
            )
    if config.quotes and not can_quote(config):
        why = "does not tell a bar part by part"
        if config.type == "octuple":
            why = "has no tokens for bars: each of its tokens is a note with its bar"
        elif config.layout == "stream":
            why = "mixes the parts of a bar with tokenizer.layout=stream"
        raise UserError(
            f"tokenizer.quotes=true: the format {config.type} {why}; set tokenizer.type=remi or "
            f"cpword and tokenizer.layout=bars, or leave quotes out"
        )
    tells_bars = config.type == "remi" and can_quote(config)
    if config.marks and (not tells_bars or config.bpe_vocab_size is not None):
        raise UserError(
            "data.tasks and data.controls need plain tokens that are told bar by bar: set "
            "tokenizer.type=remi and tokenizer.layout=bars, without tokenizer.bpe_vocab_size"
        )
    return config.model_copy(
        update={
            key: value
            for key, value in COMPACT
            if value is not None and getattr(config, key) is None
        }
    )


def can_quote(config: TokenizerConfig) -> bool:
    """Whether a format has bars whose parts are told one after the other."""
    return config.type in ("remi", "cpword") and config.layout == "bars"


def told_by_bars(config: TokenizerConfig) -> bool:
    """Whether pieces are told bar by bar, and bars part by part if there are several parts."""
    always = config.type == "remi" and (config.parts == "tracks" or config.marks)
    return can_quote(config) and bool(always or config.quotes)


def named_parts(config: TokenizerConfig) -> list[Part]:
    """Return the parts that the tokens distinguish, in the order in which a bar tells them.

    Raises:
        UserError: a name names no part, or there is none.
    """
    if config.part_names is None:
        return [Part.named("0")] if config.parts == "one" else ALL_PARTS
    try:
        parts = [Part.named(name) for name in dict.fromkeys(config.part_names)]
    except ValueError as error:
        raise UserError(f"tokenizer.part_names: {error}") from None
    if not parts:
        raise UserError("tokenizer.part_names is empty: name a part, or leave it out")
    if config.parts == "one":
        return parts[:1]
    if not told_by_bars(config):  # MidiTok's single stream knows programs alone
        return list(dict.fromkeys(Part(part.program, part.is_drum) for part in parts))
    return parts


def longest(config: TokenizerConfig) -> str:
    """The longest duration or time shift, as MidiTok spells it: beats.fraction.resolution."""
    end, resolution = list(_resolutions(config).items())[-1]
    return f"{end[1]}.0.{resolution}"


def metre(text: str) -> tuple[int, int]:
    """Return the numerator and the denominator of "9/8"."""
    numerator, denominator = (int(number) for number in text.split("/"))
    return numerator, denominator


def accepted_metres(config: TokenizerConfig) -> list[str]:
    """Return the time signatures that tokens can tell: those that fall on MidiTok's grid.

    It has so many positions for each beat of a time signature, a whole number for a quarter note.
    """
    positions = config.positions_per_beat or 4
    told = (config.time_signatures or []) if config.use_time_signatures else []
    return [text for text in dict.fromkeys(["4/4", *told]) if positions * metre(text)[1] % 4 == 0]


def miditok_config(config: TokenizerConfig) -> miditok.TokenizerConfig:
    """Return MidiTok's options for a settled configuration."""
    by_bars = told_by_bars(config)
    programs = config.parts == "tracks" and not by_bars
    metres: dict[int, list[int]] = {}  # 4/4 is always among them: MidiTok takes it for none
    for numerator, denominator in sorted(map(metre, accepted_metres(config))):
        metres.setdefault(denominator, []).append(numerator)
    denominator = min(metres)
    while denominator < max(metres):  # MidiTok's tables of durations need those between as well
        metres.setdefault(denominator, [1])
        denominator *= 2
    low, high = config.tempo_range or (120.0, 120.0)
    tempo_steps = math.ceil(math.log(high / low) / math.log(TEMPO_STEP) - NEGLIGIBLE_STEP)
    extra: dict[str, Any] = {}
    if config.type == "midilike":  # notes never switched off end after this long
        extra["max_duration"] = longest(config)
    if programs:
        extra["programs"] = sorted({part.code for part in named_parts(config)})
    special = list(SPECIAL)
    if by_bars:
        if config.parts == "tracks":
            special += [f"Part_{part.name}" for part in named_parts(config)]
        if config.use_tempos:
            special += [f"TempoPosition_{i}" for i in range(_positions(config))]
        if config.quotes:
            special += [f"Quote_{n}" for n in range(1, 1 + (config.quote_bars or 0))]
        special += config.marks
    return miditok.TokenizerConfig(
        pitch_range=(0, 127),
        drums_pitch_range=(0, 127),
        beat_res=_resolutions(config),
        num_velocities=config.n_velocities,
        special_tokens=special,
        encode_ids_split="no",  # we split, and need no score for it
        use_velocities=config.use_velocities,
        use_note_duration_programs=list(range(-1, 128)),
        use_chords=False,
        use_rests=False,
        use_tempos=config.use_tempos,
        tempo_range=(low, high),
        num_tempos=1 + max(tempo_steps, 0),
        log_tempos=True,
        use_time_signatures=config.use_time_signatures,
        time_signature_range=metres,
        use_sustain_pedals=config.use_sustain_pedals,
        sustain_pedal_duration=False,
        use_pitch_bends=config.use_pitch_bends,
        pitch_bend_range=BENDS,
        use_programs=programs,
        one_token_stream_for_programs=not by_bars,
        use_pitchdrum_tokens=config.parts == "tracks",
        **extra,
    )


def _resolutions(config: TokenizerConfig) -> dict[tuple[int, int], int]:
    """Positions per beat by the beats of a duration."""
    fine, longest = config.positions_per_beat or 4, config.max_note_beats or 8
    if longest <= FINE_BEATS or fine % COARSE or fine == COARSE:
        return {(0, longest): fine}
    return {(0, FINE_BEATS): fine, (FINE_BEATS, longest): COARSE}


def _positions(config: TokenizerConfig) -> int:
    """How many positions the longest bar has."""
    beats = max(metre(text)[0] for text in accepted_metres(config))
    return beats * (config.positions_per_beat or 4)
