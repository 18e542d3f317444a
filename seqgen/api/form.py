"""Pieces with a given form: sections that are generated, and sections that quote them.

Legend: T positions, F fields.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from seqgen.decoding import Decoder, Step, generate
from seqgen.decoding.generation import NEVER
from seqgen.decoding.rules import Rule
from seqgen.errors import UserError
from seqgen.sampling import Sampling
from seqgen.tokenizers import Tokenizer

DEFAULT_SECTION = 8  # bars


@dataclass(frozen=True)
class Section:
    """One section of a form.

    Attributes:
        name: a letter or a number.
        begin: the bar that it begins with, counted from 0.
        bars: how many it has.
        repeats: which section it repeats; None: it is new.
        quoted: how many of its bars are those of that section; the others are new.
    """

    name: str
    begin: int
    bars: int
    repeats: int | None = None
    quoted: int = 0


class Form:
    """Sections, the first of a name new, and later ones repeating it.

    Attributes:
        text: as it was written.
        sections: in their order.
    """

    def __init__(self, text: str, bars: int | None = None):
        """Read a form such as "AABA", "A A' B A" or "8 8' 8 16".

        A letter is a section of `bars` bars (None: 8), a number one of so many. With a prime (')
        it repeats but for an ending that is new: a fourth of its bars, and one at least.

        Raises:
            UserError: it is no form, a prime comes before what it varies, or `bars` are given and
                no section is a letter.
        """
        self.text = text
        found = re.findall(r"([A-Za-z]|[1-9]\d*)('?)", text)
        if not found or "".join(map("".join, found)) != "".join(text.split()):
            raise UserError(
                f"--form {text!r}: must be letters, one for each section, as in AABA, or numbers "
                f"of bars, as in 8 8' 8 16; a prime (') changes the ending"
            )
        if bars is not None and all(name.isdigit() for name, _ in found):
            raise UserError(
                f"--section {bars} is for sections that are letters, and --form {text!r} gives the "
                f"bars of each: leave out --section"
            )
        self.sections: list[Section] = []
        originals: dict[str, int] = {}
        end = 0
        for name, prime in found:
            length = int(name) if name.isdigit() else bars or DEFAULT_SECTION
            section = Section(name, end, length, originals.get(name), length)
            if prime:
                if section.repeats is None:
                    raise UserError(f"--form {text!r}: {name}' varies {name}, which comes first")
                section = replace(section, quoted=length - max(length // 4, 1))
            else:
                originals[name] = len(self.sections)
            self.sections.append(section)
            end += length
        self.bars = end

    @property
    def n_new(self) -> int:
        """How many sections have bars that are new."""
        return sum(s.repeats is None or s.quoted < s.bars for s in self.sections)

    def back(self, section: Section) -> int | None:
        """How many bars before a section the one begins that it repeats; None for a new one."""
        if section.repeats is None:
            return None
        return section.begin - self.sections[section.repeats].begin

    def check(self, tokenizer: Tokenizer) -> None:
        """Raise UserError where the tokens cannot tell it."""
        if not tokenizer.config.quotes:
            raise UserError(
                "--form needs a model whose tokens quote bars: train one with tokenizer.quotes=true"
            )
        reach = tokenizer.config.quote_bars or 0
        for i, section in enumerate(self.sections):
            back = self.back(section)
            if back is not None and back > reach:
                raise UserError(
                    f"--form {self.text}: section {i + 1} repeats one that begins {back} bars "
                    f"before, and quotes of this model reach back {reach} bars: shorten the "
                    f"sections, or train with tokenizer.quote_bars={back}"
                )


def generate_form(
    decoder: Decoder,
    tokenizer: Tokenizer,
    form: Form,
    *,
    n_rows: int,
    sampling: Sampling,
    max_tokens: int,
    seed: int,
) -> Iterator[Step]:
    """Yield the tokens of pieces of a form, as `generate` does: those drawn, and those of quotes.

    A row ends early where a new section takes more than `max_tokens`.

    Raises:
        UserError: the tokens cannot tell the form.
    """
    layouts = [FormWriting(form, tokenizer, max_tokens) for _ in range(n_rows)]
    steps = generate(
        decoder,
        [layouts[0].prompt] * n_rows,
        sampling=form_sampling(tokenizer, sampling),
        max_tokens=max_tokens * form.n_new,
        rules=layouts,
        seed=seed,
    )
    for step in steps:
        whole = tuple(row for row in step.finished if layouts[row].is_whole)
        yield replace(step, ended=whole)


def form_sampling(tokenizer: Tokenizer, sampling: Sampling) -> Sampling:
    """Return settings with which a piece of a form is drawn.

    A section begins with the bar alone: merged tokens would bring notes that it does not repeat.
    """
    vocabulary = tokenizer.vocabulary
    assert tokenizer.bar is not None  # tokens with quotes have one
    never = {vocabulary.eos_id, *vocabulary.anchors} - {int(tokenizer.bar[0])}
    bias = (*sampling.logit_bias, *((i, NEVER) for i in sorted(never)))
    return replace(sampling, logit_bias=bias)


class FormWriting(Rule):
    """One piece of a form while it is drawn, as far as it is known.

    Attributes:
        prompt: what it begins with [1, F].
    """

    is_passive = False

    def __init__(self, form: Form, tokenizer: Tokenizer, max_tokens: int):
        """Begin; UserError where the tokens cannot tell the form."""
        form.check(tokenizer)
        clock = tokenizer.clock()
        assert clock is not None  # tokens with quotes have both
        assert tokenizer.bar is not None
        self.prompt = tokenizer.vocabulary.special_token(tokenizer.vocabulary.bos_id)[None]
        self._form, self._tokenizer, self._bar, self._clock = form, tokenizer, tokenizer.bar, clock
        self._piece, self._max_tokens = list(self.prompt), max_tokens
        self._n_drawn = self._n_told = 0  # of the section, and still to be taken without a draw
        self._begun: list[Section] = []  # the section that begins with the last token
        self.is_whole = False

    def take(self, token: np.ndarray) -> bool:
        """Note a token [F]; return whether the piece ends with it, or with what it was told."""
        before = self._clock.bars
        self._piece.append(token)
        self._clock.feed(token)
        bars = max(self._clock.bars - 1, 0)  # that are finished
        self._begun = [s for s in self._form.sections if bars > before - 1 and s.begin == bars]
        self._n_drawn = 1 if self._begun else 0 if self._n_told else self._n_drawn + 1
        self._n_told = max(self._n_told - 1, 0)
        self.is_whole = self.is_whole or bars == self._form.bars
        return self.is_whole or self._n_drawn >= self._max_tokens

    def given(self) -> np.ndarray:
        """Return what follows without a draw [T, F]: quotes, if a section begins that repeats."""
        piece, known = list(self._piece), len(self._piece)
        following = self._form.sections
        for section in following[following.index(self._begun[0]) :] if self._begun else ():
            back = self._form.back(section)
            if back is None or not section.quoted:
                break
            quotes = self._tokenizer.quote_bars(np.stack(piece), back=back, n_bars=section.quoted)
            piece += list(quotes)
            self.is_whole = section.begin + section.quoted == self._form.bars
            if not self.is_whole or not len(quotes):
                piece.append(self._bar)
            if section.quoted < section.bars:
                break
        self._n_told = len(piece) - known
        return np.stack(piece)[known:]
