"""Prompt files as token ids, and limits of what follows them.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import cast

import numpy as np

from seqgen.decoding.generation import RowStop
from seqgen.errors import FileRejected, UserError
from seqgen.tokenizers import Clock, Tokenizer

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
    """

    file: str | None
    ids: np.ndarray
    tempo: float | None
    clock: Clock | None


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
        return [_framed(None, (), None, tokenizer)]
    return [_read(Path(file), tokenizer, bars) for file in files]


def _read(path: Path, tokenizer: Tokenizer, bars: int | None) -> Prompt:
    try:
        ids, tempo = tokenizer.encode(path), tokenizer.tempo(path)
    except FileRejected as rejected:
        raise UserError(f"prompt {rejected.name}: {rejected.reason}") from None
    if bars is not None:
        ids = _first_bars(ids, cast(Clock, tokenizer.clock()), bars)  # `read_prompts` checks
    if len(ids) > MAX_PROMPT_TOKENS:
        raise UserError(
            f"the prompt {path} has {len(ids):,} tokens, more than {MAX_PROMPT_TOKENS:,}: "
            f"shorten it, or use --prompt-bars"
        )
    return _framed(str(path), ids, tempo, tokenizer)


def _first_bars(ids: np.ndarray, clock: Clock, bars: int) -> np.ndarray:
    for i, token in enumerate(ids):
        clock.feed(token)
        if clock.bars > bars:
            return ids[:i]
    return ids


def _framed(
    file: str | None, ids: np.ndarray | tuple[()], tempo: float | None, tokenizer: Tokenizer
) -> Prompt:
    """Put BOS before the tokens of a file, and advance a clock over them."""
    bos = tokenizer.vocabulary.special_token(tokenizer.vocabulary.bos_id)
    clock = tokenizer.clock(tempo=tempo)
    if clock is not None:
        for token in ids:
            clock.feed(token)
    return Prompt(file, np.stack([bos, *ids]), tempo, clock)


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
    last_bars = [clock.bars + (inf if bars is None else bars) for clock in clocks]
    ends = [clock.seconds + (inf if seconds is None else seconds) for clock in clocks]

    def stop(row: int, token: np.ndarray) -> bool:
        clocks[row].feed(token)
        return clocks[row].bars > last_bars[row] or clocks[row].seconds >= ends[row]

    return stop
