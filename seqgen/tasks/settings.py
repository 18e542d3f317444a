"""What a person can ask of a run, described so that any page can offer it."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from seqgen.midi.repair import MAX_TEMPO, MIN_TEMPO
from seqgen.tasks.asking import describe_part
from seqgen.tasks.controls import LEVELS, MEASURED_BARS
from seqgen.tasks.telling import Teller
from seqgen.tokenizers import Tokenizer


class Choice(BaseModel):
    """One value of a setting, and what to call it."""

    model_config = ConfigDict(frozen=True)

    value: str
    label: str


class Setting(BaseModel):
    """One thing that can be set. The page shows whatever is here.

    A "list" is several choices in one text, joined by `separator`. Where there is an `open` value,
    a continuation keeps what the bars before it are, unless something is set; this leaves it open.
    What is asked `by_bar` is measured in each bar, which is drawn again where it falls short.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    name: str
    label: str
    help: str
    group: Literal["sampling", "controls"]
    type: Literal["number", "integer", "choice", "text", "list"]
    minimum: float | None = None
    maximum: float | None = None
    default: float | None = None
    choices: list[Choice] = []
    separator: str = ","
    open: str | None = None
    by_bar: bool = False


# Of controls: the label, the help, the type and the separator.
CONTROLS: Mapping[str, tuple[str, str, str, str]] = {
    "key": ("Key", "The key of the new bars.", "choice", ","),
    "chords": (
        "Chords",
        "One chord for each bar, as in Am F C G; they repeat, and - leaves a bar open.",
        "text",
        " ",
    ),
    "density": ("Density", "How many notes; several are for one bar each.", "list", " "),
    "polyphony": ("Polyphony", "How many notes begin together.", "choice", ","),
    "register": ("Register", "How high the notes lie.", "choice", ","),
    "loudness": ("Loudness", "How loud the notes are.", "choice", ","),
    "instruments": ("Instruments", "Who plays.", "list", ","),
}
COUNTED = "bars"  # the control that follows from how many bars are asked for


def control_settings(tokenizer: Tokenizer) -> list[Setting]:
    """Return what can be asked of a run with these tokens; nothing where they tell no music."""
    if tokenizer.clock() is None:
        return []
    settings = [
        Setting(
            name="tempo",
            label="Tempo",
            help="Quarter notes per minute at the beginning; empty: as the model has learned.",
            group="controls",
            type="number",
            minimum=MIN_TEMPO,
            maximum=MAX_TEMPO,
        )
    ]
    if not tokenizer.config.marks:
        return settings
    teller = Teller(tokenizer)
    metres = list(teller.metres)
    if metres:
        settings.append(
            Setting(
                name="metre",
                label="Time signature",
                help="Of all new bars.",
                group="controls",
                type="choice",
                choices=[Choice(value=metre, label=metre) for metre in metres],
            )
        )
    names = [name for name in teller.controls.names if name != COUNTED]
    return settings + [_control(name, teller) for name in names]


def _control(name: str, teller: Teller) -> Setting:
    label, words, kind, separator = CONTROLS.get(name, (name.capitalize(), "", "choice", ","))
    values = list(teller.controls.values(name))
    if name in ("key", "chords"):
        choices = [Choice(value=value, label=value) for value in values]
    elif name == "instruments":
        choices = [Choice(value=value, label=describe_part(value)) for value in values]
    else:
        choices = [Choice(value=level, label=level) for level in LEVELS]
    return Setting(
        name=name,
        label=label,
        help=words,
        group="controls",
        type=kind,
        choices=choices,
        separator=separator,
        by_bar=name in MEASURED_BARS,
    )
