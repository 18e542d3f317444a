"""The options of `seqgen generate` that say what is written: forms, controls and edits."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from seqgen.api.prompts import Prompt
from seqgen.api.requests import (
    VARIED,
    Asking,
    Editing,
    check_guidance,
    keeping,
    plan_edit,
    plan_pieces,
)
from seqgen.errors import UserError
from seqgen.tokenizers import Tokenizer

ASKED = ("key", "chords", "density", "polyphony", "register", "loudness", "instruments")


@dataclass(frozen=True)
class Layout:
    """The options that say what is written, beyond prompts and random draws."""

    bars: int | None
    seconds: float | None
    form: str | None
    section: int | None
    metre: str | None
    edit: str | None
    rewrite: str | None
    tracks: str | None
    vary: str | None
    amount: float | None
    add: str | None
    guidance: float | None
    tries: int | None
    asked: dict[str, str | None]

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> "Layout":
        """Take these options out of those of the command."""
        names = [field.name for field in fields(cls) if field.name != "asked"]
        asked = {name: options.pop(name) for name in ASKED}
        return cls(**{name: options.pop(name) for name in names}, asked=asked)

    @property
    def facts(self) -> dict:
        """What the records say of it."""
        known = {name: value for name, value in vars(self).items() if name != "asked"}
        known["max_bars"], known["max_seconds"] = known.pop("bars"), known.pop("seconds")
        return known | self.asked

    @property
    def has_controls(self) -> bool:
        """Whether a control is given, even an empty one."""
        return any(text is not None for text in self.asked.values())

    @property
    def asks(self) -> bool:
        """Whether it is more than limits of a continuation."""
        return bool(self.form or self.edit or self.metre) or self.has_controls

    def keeping(self, tokenizer: Tokenizer) -> "Layout":
        """Return the same, where new bars also keep what they can of their prompt."""
        if self.form is not None or self.seconds is not None:
            return self
        return replace(self, asked=dict(keeping(tokenizer, self.asked)))

    def check(self, *, has_prompt: bool, endless: bool, has_tempo: bool, as_tokens: bool) -> None:
        """Raise UserError where options exclude each other."""
        limited = self.bars is not None or self.seconds is not None
        is_asked = self.metre is not None or self.has_controls
        if self.form is not None and (has_prompt or endless or limited or is_asked or self.edit):
            raise UserError(
                "--form lays out a whole piece: leave out --prompt, --bars, --seconds, --endless, "
                "--edit and what is asked of single bars"
            )
        if self.section is not None and self.form is None:
            raise UserError("--section is the length of the sections of --form: give --form too")
        changes = [self.rewrite, self.vary, self.add]
        n_changes = len(changes) - changes.count(None)
        if self.edit is None and (n_changes or self.tracks is not None):
            raise UserError(
                "--rewrite, --vary, --tracks and --add change a file: give --edit FILE too"
            )
        if self.edit is not None and n_changes != 1:
            raise UserError("--edit needs one of --rewrite BARS, --vary BARS and --add TRACKS")
        if self.add is not None and self.tracks is not None:
            raise UserError("--tracks is for --rewrite and --vary: leave it out beside --add")
        if self.amount is not None and self.vary is None:
            raise UserError("--amount is for --vary BARS: give that, or leave --amount out")
        from_start = has_prompt or as_tokens or has_tempo or self.metre is not None
        if self.edit is not None and (from_start or endless or limited):
            raise UserError(
                "--edit changes bars of a file, which keeps its tempo and metre: leave out "
                "--prompt, --as-tokens, --bars, --seconds, --tempo, --metre and --endless"
            )
        check_guidance(self.asked, self.guidance, self.tries, dash="--")
        if is_asked and self.seconds is not None:
            raise UserError("--seconds and what is asked of bars exclude each other: give --bars")

    def ask(
        self,
        tokenizer: Tokenizer,
        prompts: Sequence[Prompt],
        tempo: float | None,
        seed: int,
        context_length: int,
    ) -> Asking | None:
        """Return what is asked of the model; None where it just goes on."""
        if self.edit is not None:
            amount = (self.amount or VARIED) if self.vary is not None else 1.0
            bars = self.rewrite if self.vary is None else self.vary
            return plan_edit(
                tokenizer,
                Editing(self.edit, bars, self.tracks, self.add, amount),
                self.asked,
                n_rows=len(prompts),
                seed=seed,
                context_length=context_length,
            )
        if self.metre is not None or self.has_controls:
            return plan_pieces(
                tokenizer, prompts, self.asked, metre=self.metre, bars=self.bars, tempo=tempo
            )
        return None
