"""Pieces with a given form: sections that are generated, and sections that quote them.

Legend: T positions, F fields.
"""

from collections.abc import Iterator, Sequence
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
    endless = replace(sampling, logit_bias=(*sampling.logit_bias, (vocabulary.eos_id, NEVER)))
    pieces = {row: [vocabulary.special_token(vocabulary.bos_id)] for row in range(n_rows)}
    for i in range(len(form.sections)):
        back, is_last = form.back(i), i == len(form.sections) - 1
        if back is not None:
            steps = _quote(tokenizer, pieces, back=back, n_bars=form.bars, is_last=is_last)
        else:
            steps = _draw(
                decoder,
                tokenizer,
                pieces,
                until=(i + 1) * form.bars,
                is_last=is_last,
                sampling=endless,
                max_tokens=max_tokens,
                seed=seed if i == 0 else int(np.random.default_rng([seed, i]).integers(2**31)),
            )
        for step in steps:
            for row, token in zip(step.rows, step.tokens, strict=True):
                pieces[row].append(token)
            yield step
            for row in step.finished:
                del pieces[row]


def _draw(
    decoder: Decoder,
    tokenizer: Tokenizer,
    pieces: dict[int, list[np.ndarray]],
    *,
    until: int,
    is_last: bool,
    sampling: Sampling,
    max_tokens: int,
    seed: int,
) -> Iterator[Step]:
    """Continue pieces to the beginning of bar `until` + 1; others, cut before it, are finished."""
    rows = list(pieces)
    prompts = [np.stack(pieces[row]) for row in rows]
    clocks = [clock for _ in rows if (clock := tokenizer.clock()) is not None]
    for clock, prompt in zip(clocks, prompts, strict=True):
        for token in prompt:
            clock.feed(token)

    def stop(number: int, token: np.ndarray) -> bool:
        clocks[number].feed(token)
        return clocks[number].bars > until

    if not rows:
        return
    drawn = generate(
        decoder, prompts, sampling=sampling, max_tokens=max_tokens, stop=stop, seed=seed
    )
    for step in drawn:
        cut = [rows[n] for n in step.finished if clocks[n].bars <= until]
        whole = [rows[n] for n in step.finished if is_last and clocks[n].bars > until]
        yield Step(tuple(rows[n] for n in step.rows), step.tokens, (*cut, *whole), tuple(whole))


def _quote(
    tokenizer: Tokenizer,
    pieces: dict[int, list[np.ndarray]],
    *,
    back: int,
    n_bars: int,
    is_last: bool,
) -> Iterator[Step]:
    """Continue pieces with quotes, to the beginning of the next bar unless they end here."""
    told: dict[int, Sequence[np.ndarray]] = {}
    assert tokenizer.bar is not None  # tokens with quotes have one
    for row, piece in pieces.items():
        quotes = list(tokenizer.quote_bars(np.stack(piece), back=back, n_bars=n_bars))
        told[row] = quotes if is_last and quotes else [*quotes, tokenizer.bar]
    for t in range(max(map(len, told.values()), default=0)):
        rows = [row for row, tokens in told.items() if t < len(tokens)]
        ends = [row for row in rows if is_last and t + 1 == len(told[row])]
        ids = np.stack([told[row][t] for row in rows])
        yield Step(tuple(rows), ids, tuple(ends), tuple(ends))
