"""Pieces with a given form: sections that are generated, and sections that quote them.

Legend: T positions, F fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from seqgen.decoding import Decoder, Step, generate
from seqgen.errors import UserError
from seqgen.sampling import Sampling
from seqgen.tokenizers import Tokenizer

DEFAULT_SECTION = 8  # bars
NEVER = -1e6  # added to the logit of a token that must not be drawn


@dataclass(frozen=True)
class Form:
    """Sections of equal length.

    Attributes:
        sections: a letter for each; the first of a letter is new, later ones repeat the last.
        bars: of each.
    """

    sections: str
    bars: int

    def back(self, i: int) -> int | None:
        """How many bars before section i the one begins that it repeats; None for a new one."""
        before = self.sections[:i].rfind(self.sections[i])
        return None if before < 0 else (i - before) * self.bars

    def check(self, tokenizer: Tokenizer) -> None:
        """Raise UserError where it is no form, or the tokens cannot tell it."""
        if not self.sections.isalpha():
            raise UserError(
                f"--form {self.sections!r}: must be letters, one for each section: AABA"
            )
        if not tokenizer.config.quotes:
            raise UserError(
                "--form needs a model whose tokens quote bars: train one with tokenizer.quotes=true"
            )
        reach = tokenizer.config.quote_bars or 0
        for i in range(len(self.sections)):
            back = self.back(i)
            if back is not None and back > reach:
                raise UserError(
                    f"--form {self.sections}: section {i + 1} repeats one that begins {back} bars "
                    f"before, and quotes of this model reach back {reach} bars: lower --section, "
                    f"or train with tokenizer.quote_bars={back}"
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
    form.check(tokenizer)
    vocabulary = tokenizer.vocabulary
    beginning = vocabulary.special_token(vocabulary.bos_id)[None]
    layouts = [_Layout(form, tokenizer, beginning, max_tokens) for _ in range(n_rows)]
    steps = generate(
        decoder,
        [beginning] * n_rows,
        sampling=replace(sampling, logit_bias=(*sampling.logit_bias, (vocabulary.eos_id, NEVER))),
        max_tokens=max_tokens * len(set(form.sections)),
        stop=lambda row, token: layouts[row].take(token),
        force=lambda row, _: layouts[row].repeat(),
        seed=seed,
    )
    for step in steps:
        whole = tuple(row for row in step.finished if layouts[row].is_whole)
        yield replace(step, ended=whole)


class _Layout:
    """One piece, as far as it is known."""

    def __init__(self, form: Form, tokenizer: Tokenizer, beginning: np.ndarray, max_tokens: int):
        clock = tokenizer.clock()
        assert clock is not None  # tokens with quotes have both
        assert tokenizer.bar is not None
        self._form, self._tokenizer, self._bar, self._clock = form, tokenizer, tokenizer.bar, clock
        self._piece, self._max_tokens = list(beginning), max_tokens
        self._n_drawn = self._n_told = 0  # of the section, and still to be taken without a draw
        self._begins = False  # whether the last token begins a section
        self.is_whole = False

    def take(self, token: np.ndarray) -> bool:
        """Note a token [F]; return whether the piece ends with it, or with what it was told."""
        section = self._section
        self._piece.append(token)
        self._clock.feed(token)
        self._begins = self._section > section
        self._n_drawn = 0 if self._begins or self._n_told else self._n_drawn + 1
        self._n_told = max(self._n_told - 1, 0)
        self.is_whole = self.is_whole or self._section == len(self._form.sections)
        return self.is_whole or self._n_drawn >= self._max_tokens

    def repeat(self) -> np.ndarray:
        """Return what follows without a draw [T, F]: quotes, if a section begins that repeats."""
        piece, known, i = list(self._piece), len(self._piece), self._section
        while self._begins and i < len(self._form.sections):
            back = self._form.back(i)
            if back is None:
                break
            ids = np.stack(piece)
            quotes = self._tokenizer.quote_bars(ids, back=back, n_bars=self._form.bars)
            piece += list(quotes)
            i += 1
            self.is_whole = i == len(self._form.sections)
            if not self.is_whole or not len(quotes):
                piece.append(self._bar)
        self._n_told = len(piece) - known
        return np.stack(piece)[known:]

    @property
    def _section(self) -> int:
        """The section of the bar that has begun last, counted from 0."""
        return max(self._clock.bars - 1, 0) // self._form.bars
