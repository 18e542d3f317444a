"""All that can be set in a run: filters of the draws, and what its tokens can be asked for."""

from collections.abc import Mapping
from typing import Any

from seqgen.api.requests import GUIDANCE, KEPT, TRIES
from seqgen.errors import UserError
from seqgen.midi import program_name
from seqgen.sampling import Sampling
from seqgen.serving.schemas import Instrument
from seqgen.tasks.asking import describe_part
from seqgen.tasks.controls import MEASURED_BARS, OPEN
from seqgen.tasks.settings import CONTROLS, Choice, Setting, control_settings
from seqgen.tokenizers import Tokenizer
from seqgen.tokenizers.midi.parts import ALL_PARTS, Part

SAMPLING = [
    Setting(
        name="temperature",
        label="Temperature",
        help="How freely notes are chosen: 0 always takes the most likely one, 1 draws as the "
        "model has learned, more is wilder.",
        group="sampling",
        type="number",
        minimum=0,
        maximum=2,
        default=1,
    ),
    Setting(
        name="top_p",
        label="Most likely choices (top-p)",
        help="Choose among the most likely tokens that together have this probability; 1 keeps "
        "all, 0.9 leaves out what is rare.",
        group="sampling",
        type="number",
        minimum=0.01,
        maximum=1,
        default=1,
    ),
    Setting(
        name="top_k",
        label="Number of choices (top-k)",
        help="Choose among so many of the most likely tokens; empty keeps all.",
        group="sampling",
        type="integer",
        minimum=1,
        maximum=1000,
    ),
    Setting(
        name="min_p",
        label="Smallest share of the best (min-p)",
        help="Leave out tokens less likely than this share of the most likely one; 0 keeps all.",
        group="sampling",
        type="number",
        minimum=0,
        maximum=1,
        default=0,
    ),
    Setting(
        name="typical_p",
        label="Typical choices",
        help="Keep the tokens closest to the surprise that is usual here, up to this probability; "
        "1 keeps all.",
        group="sampling",
        type="number",
        minimum=0.01,
        maximum=1,
        default=1,
    ),
    Setting(
        name="repetition_penalty",
        label="Against repetition",
        help="Above 1, tokens that occurred before become less likely; 1 changes nothing.",
        group="sampling",
        type="number",
        minimum=0.5,
        maximum=2,
        default=1,
    ),
    Setting(
        name="frequency_penalty",
        label="Against frequent tokens",
        help="Taken off a token's score for each time it was drawn; 0 changes nothing.",
        group="sampling",
        type="number",
        minimum=-2,
        maximum=2,
        default=0,
    ),
]
GUIDANCE_SETTING = Setting(
    name="guidance",
    label="Follow closely",
    help="How much what is asked for weighs. 1: as the model has learned it; above, it is followed "
    "more closely, at twice the work.",
    group="controls",
    type="number",
    minimum=1,
    maximum=3,
    default=GUIDANCE,
)
TRIES_SETTING = Setting(
    name="tries",
    label="Tries for each bar",
    help="How often a bar is drawn at most of which a chord or a density is asked, until it is so; "
    "the best is kept.",
    group="controls",
    type="integer",
    minimum=1,
    maximum=16,
    default=TRIES,
)


def settings_of(tokenizer: Tokenizer) -> list[Setting]:
    """Return what can be set in a run with these tokens."""
    asked = [
        setting.model_copy(update={"open": OPEN}) if setting.name in KEPT else setting
        for setting in control_settings(tokenizer)
    ]
    names = {setting.name for setting in asked}
    how = [GUIDANCE_SETTING] * bool(names & {*CONTROLS})
    how += [TRIES_SETTING] * bool(names & {*MEASURED_BARS})
    return [*SAMPLING, *asked, *how]


def parts_of(tokenizer: Tokenizer) -> list[Choice]:
    """Return the parts that the tokens tell apart; none where there is one."""
    if not tokenizer.tells_parts:
        return []
    names = tokenizer.config.part_names or []
    return [Choice(value=name, label=describe_part(name)) for name in names]


def instruments_of(tokenizer: Tokenizer) -> list[Instrument]:
    """Return the tracks that can be added: those that the tokens tell apart, then all others."""
    names = (tokenizer.config.part_names or []) if tokenizer.tells_parts else []
    parts = [Part.named(name) for name in names]
    known = [(part.program, part.is_drum) for part in parts]
    others = [part for part in ALL_PARTS if (part.program, part.is_drum) not in known]
    return [
        Instrument(
            name=_track_name(part),
            program=part.program,
            is_drum=part.is_drum,
            is_known=part in parts,
        )
        for part in (*parts, *others)
    ]


def _track_name(part: Part) -> str:
    """Return what a track is called, so that it is read as this part."""
    name = program_name(part.program, is_drum=part.is_drum)
    if part.label.isdecimal():
        return f"{name} {part.label}"
    return part.label.capitalize() or name


def sampling_of(settings: Mapping[str, float]) -> Sampling:
    """Return the settings of draws; UserError where there is none of a name."""
    known = [setting.name for setting in SAMPLING]
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise UserError(f"sampling has no {unknown[0][:80]!r}: it has {', '.join(known)}")
    values: dict[str, Any] = {
        name: int(value) if name == "top_k" and value == int(value) else value
        for name, value in settings.items()
    }
    return Sampling(**values)
