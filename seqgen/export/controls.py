"""What can be asked of a model as tables of tokens, for programs that have no `seqgen.tasks`."""

from typing import Any

from seqgen.tasks.asking import BY_BAR, read_wishes
from seqgen.tasks.controls import BLOCK, OPEN
from seqgen.tasks.harmony import chord_spellings
from seqgen.tasks.settings import COUNTED, control_settings
from seqgen.tasks.telling import Teller
from seqgen.tokenizers import Tokenizer

ONE, BY_BARS, TOGETHER, COUNTDOWN = "one", "by bar", "together", "countdown"
READS = {"chords": BY_BARS, "density": BY_BARS, "instruments": TOGETHER, COUNTED: COUNTDOWN}
SEPARATORS = {BY_BARS: BY_BAR, TOGETHER: ","}
EVERY = {BY_BARS: 1, COUNTDOWN: 1, TOGETHER: BLOCK}


def asking_record(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what can be asked, and what is given to the model for it.

    Where something is asked, a piece is BOS and then bars. After the beginning of each new bar
    these are given: the marks of each control, in order; the time signature, if one is asked for;
    and the first of the parts that play, if not all do and the first of all does not. Where no time
    signature is asked for, this part comes after the one that the model draws.

    Returns:
        settings: what a page offers, as `Setting`.
        metres: names of time signatures, and their ids.
        controls: each with its `name` and
            `words`: what can be asked, and the id of its mark;
            `reads`: how a text is read: as "one" word, as words "by bar", which repeat, or as words
            that hold "together", in the order of `words`; "countdown": it is not asked for, and its
            word is the number of bars from this one to the last;
            `separator`: of words, as a regular expression;
            `open`: what stands for a bar without a word; the id of the mark that tells so, where
            one was in force before; null: no bar is without;
            `every`: after so many bars from the first one on it is told again; otherwise only
            where it changes. Null: never;
            `parts`: for each of the words the id that begins the part that plays then; all others
            must not be drawn. Empty: it does not say who plays.
    """
    settings = [setting.model_dump() for setting in control_settings(tokenizer)]
    if not tokenizer.config.marks:
        return {"settings": settings, "metres": [], "controls": []}
    teller = Teller(tokenizer)
    return {
        "settings": settings,
        "metres": list(teller.metres.items()),
        "controls": [_control(name, teller) for name in teller.controls.names],
    }


def _control(name: str, teller: Teller) -> dict[str, Any]:
    controls, reads = teller.controls, READS.get(name, ONE)
    values = controls.values(name)
    if name == COUNTED:
        words = {value: [value] for value in values}
    else:
        texts = chord_spellings() if name == "chords" else values
        words = {text: read_wishes(controls, {name: text}, None)(0)[name] for text in texts}
    ends = controls.marks({}, {name: values[:1]})
    return {
        "name": name,
        "words": [[text, *controls.marks({name: found}, {})] for text, found in words.items()],
        "reads": reads,
        "separator": SEPARATORS.get(reads),
        "open": [OPEN, *ends] if ends else None,
        "every": EVERY.get(reads),
        "parts": [teller.id_of[f"Part_{part}"] for part in values * (name == "instruments")],
    }
