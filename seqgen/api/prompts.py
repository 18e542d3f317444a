"""Prompt files as token ids, and limits of what follows them.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from seqgen.decoding.generation import RowStop
from seqgen.errors import FileRejected, UserError
from seqgen.tokenizers import Clock, Original, Tokenizer

MAX_PROMPT_TOKENS = 32_768


@dataclass(frozen=True)
class Prompt:
    """The beginning of a sample: BOS, and the tokens of a file if one is given.

    Attributes:
        file: the file, or None.
        ids: tokens [T, F].
        tempo: of the file, in quarter notes per minute.
        clock: musical time at the end of the prompt; None where tokens have no time. Copy it
            before feeding it more tokens.
        bars: how many bars it has, a begun one included.
        about: what it holds, in a few words.
        left_out: what of the file its tokens cannot hold, in a few words each.
    """

    file: str | None
    ids: np.ndarray
    tempo: float | None
    clock: Clock | None
    bars: int = 0
    about: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def original(self) -> Original | None:
        """The file that the tokens were read from."""
        return None if self.file is None else Original(Path(self.file), len(self.ids))


def read_prompts(files: Sequence[str], tokenizer: Tokenizer, *, bars: int | None) -> list[Prompt]:
    """Read prompt files, cut after `bars`; without files, one prompt that is BOS alone.

    Raises:
        UserError: a file cannot be used or is too long, or `bars` makes no sense here.
    """
    if bars is not None and not files:
        raise UserError("--prompt-bars needs a prompt file: --prompt FILE")
    if bars is not None and tokenizer.clock() is None:
        raise UserError("--prompt-bars is for music; this run generates text")
    if not files:
        return [Prompt(None, _bos(tokenizer), None, tokenizer.clock())]
    return [_read(Path(file), tokenizer, bars) for file in files]


def _bos(tokenizer: Tokenizer) -> np.ndarray:
    return tokenizer.vocabulary.special_token(tokenizer.vocabulary.bos_id)[None]


def _read(path: Path, tokenizer: Tokenizer, bars: int | None) -> Prompt:
    try:
        ids, tempo = tokenizer.encode(path), tokenizer.tempo(path)
    except FileRejected as rejected:
        raise UserError(f"prompt {rejected.name}: {rejected.reason}") from None
    ids, clock = _begin(ids, tokenizer, bars=bars, tempo=tempo)
    if len(ids) > MAX_PROMPT_TOKENS:
        raise UserError(
            f"the prompt {path} has {len(ids):,} tokens, more than {MAX_PROMPT_TOKENS:,}: "
            f"shorten it, or use --prompt-bars"
        )
    until = inf if clock is None or bars is None else clock.quarters
    about, left_out = tokenizer.describe(path, until=until)
    n_bars = 0 if clock is None else clock.bars - _ends_with_bar(ids, tokenizer)
    ids = np.concatenate([_bos(tokenizer), ids])
    return Prompt(str(path), ids, tempo, clock, n_bars, about, tuple(left_out))


def _begin(
    ids: np.ndarray, tokenizer: Tokenizer, *, bars: int | None, tempo: float | None
) -> tuple[np.ndarray, Clock | None]:
    """Cut tokens [T, F] after `bars`, and return them with the clock after them.

    Where several parts are told bar by bar, or bars are counted, they end with the beginning of
    the next bar: no note is added to the last one.
    """
    clock = tokenizer.clock(tempo=tempo)
    if clock is None:
        return ids, None
    closes = tokenizer.tells_parts
    for i, token in enumerate(ids):
        before = copy(clock)
        clock.feed(token)
        if bars is not None and clock.bars > bars:
            ids, clock, closes = ids[:i], before, True
            break
    bar = tokenizer.bar
    if closes and bar is not None:
        clock.feed(bar)
        ids = np.concatenate([ids, bar[None]])
    return ids, clock


def _ends_with_bar(ids: np.ndarray, tokenizer: Tokenizer) -> bool:
    return tokenizer.bar is not None and bool((ids[-1] == tokenizer.bar).all())


def stop_after(
    prompts: Sequence[Prompt], *, bars: int | None, seconds: float | None
) -> RowStop | None:
    """Return a function that stops a row at its limit of bars or seconds; None without a limit.

    Raises:
        UserError: there is a limit, and tokens have no time.
    """
    if bars is None and seconds is None:
        return None
    clocks = [copy(prompt.clock) for prompt in prompts if prompt.clock is not None]
    if len(clocks) < len(prompts):
        raise UserError("--bars and --seconds are for music; this run generates text")
    last_bars = [prompt.bars + (inf if bars is None else bars) for prompt in prompts]
    ends = [clock.seconds + (inf if seconds is None else seconds) for clock in clocks]

    def stop(row: int, token: np.ndarray) -> bool:
        clocks[row].feed(token)
        return clocks[row].bars > last_bars[row] or clocks[row].seconds >= ends[row]

    return stop
