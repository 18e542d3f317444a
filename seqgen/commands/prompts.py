"""Prompt files as token ids.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqgen.errors import FileRejected, UserError
from seqgen.tokenizers import Tokenizer

MAX_PROMPT_TOKENS = 32_768


@dataclass(frozen=True)
class Prompt:
    """What a sample begins with: BOS, and the tokens of a file if there is one.

    Attributes:
        file: the file, or None.
        ids: tokens [T, F].
        tempo: of the file, in quarter notes per minute.
    """

    file: str | None
    ids: np.ndarray
    tempo: float | None


def read_prompts(files: Sequence[str], tokenizer: Tokenizer, *, bars: int | None) -> list[Prompt]:
    """Read prompt files, cut after `bars`; without files, one prompt that is BOS alone.

    Raises:
        UserError: a file cannot be used or is too long, or `bars` makes no sense here.
    """
    bos = tokenizer.vocabulary.special_token(tokenizer.vocabulary.bos_id)[None]
    if bars is not None and not files:
        raise UserError("--prompt-bars needs a --prompt FILE")
    if bars is not None and tokenizer.clock() is None:
        raise UserError("--prompt-bars is for music; this run's tokens have no bars")
    prompts = [_read(Path(file), tokenizer, bars) for file in files]
    for prompt in prompts:
        if len(prompt.ids) > MAX_PROMPT_TOKENS:
            raise UserError(
                f"the prompt {prompt.file} has {len(prompt.ids):,} tokens, more than "
                f"{MAX_PROMPT_TOKENS:,}: shorten it, or use --prompt-bars"
            )
    framed = [Prompt(p.file, np.concatenate([bos, p.ids]), p.tempo) for p in prompts]
    return framed or [Prompt(None, bos, None)]


def _read(path: Path, tokenizer: Tokenizer, bars: int | None) -> Prompt:
    try:
        ids, tempo = tokenizer.encode(path), tokenizer.tempo(path)
    except FileRejected as rejected:
        raise UserError(f"prompt {rejected.name}: {rejected.reason}") from None
    if bars is not None:
        ids = _first_bars(ids, tokenizer, bars)
    return Prompt(str(path), ids, tempo)


def _first_bars(ids: np.ndarray, tokenizer: Tokenizer, bars: int) -> np.ndarray:
    clock = tokenizer.clock()
    for i, token in enumerate(ids):
        clock.feed(token)
        if clock.bars > bars:
            return ids[:i]
    return ids
