"""Prompt files as token ids, and limits of what follows them.

Legend: T positions, U positions of a source, F fields.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.decoding import Decoder, Step, generate
from seqgen.decoding.generation import NEVER
from seqgen.decoding.rules import Rule
from seqgen.errors import FileRejected, UserError
from seqgen.midi.repair import MAX_TEMPO, MIN_TEMPO
from seqgen.sampling import Sampling
from seqgen.tasks import Pairs, open_pairs
from seqgen.tokenizers import Clock, Edit, Original, Tokenizer
from seqgen.tokenizers.midi.settings import MARKS

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
        original: the file, where samples begin with its music and not with that of its tokens, or
            are the file with some bars replaced.
        source: tokens of the file [U, F], where it is what a target is written for; `ids` are BOS.
        pairs: what joins the two.
    """

    file: str | None
    ids: np.ndarray
    tempo: float | None
    clock: Clock | None
    bars: int = 0
    about: str = ""
    left_out: tuple[str, ...] = ()
    original: Original | Edit | None = None
    source: np.ndarray | None = None
    pairs: Pairs | None = None

    def whole(self, tokens: np.ndarray) -> np.ndarray:
        """Return what is written when `tokens` [T, F] have been drawn."""
        ids = np.concatenate([self.ids, tokens])
        if self.source is None or self.pairs is None:
            return ids
        return self.pairs.join(self.source, ids)


def read_sources(files: Sequence[str], tokenizer: Tokenizer, pairs: str | None) -> list[Prompt]:
    """Read the files for which a run of pairs is to write targets.

    Args:
        files: their paths.
        tokenizer: of the model.
        pairs: how it was told pairs, as `LoadedModel.pairs`.

    Raises:
        UserError: the run has learned no pairs, or a file cannot be used or is too long.
    """
    if pairs is None:
        raise UserError(
            "--source is for runs that write a target for a source: train one with data.pairs, or "
            "use --prompt to continue a file"
        )
    if not files:
        raise UserError(
            f"this run writes for a source (data.pairs={pairs}): give it one with --source FILE"
        )
    opened, read = open_pairs(pairs, tokenizer), []
    for path in map(Path, files):
        try:
            source, tempo = opened.source_of(path), tokenizer.tempo(path)
            about, _ = tokenizer.describe(path, until=inf)
        except FileRejected as rejected:
            raise UserError(f"source {rejected.name}: {rejected.reason}") from None
        if len(source) > MAX_PROMPT_TOKENS:
            raise UserError(
                f"the source {path} has {len(source):,} tokens, more than {MAX_PROMPT_TOKENS:,}: "
                f"shorten it"
            )
        clock = tokenizer.clock(tempo=tempo)
        prompt = Prompt(str(path), _bos(tokenizer), tempo, clock, about=about)
        read.append(replace(prompt, source=source, pairs=opened))
    return read


def read_prompts(
    files: Sequence[str],
    tokenizer: Tokenizer,
    *,
    bars: int | None,
    rows: int | None = None,
    tempo: float | None = None,
    as_tokens: bool = False,
) -> list[Prompt]:
    """Read prompt files; without files, return one prompt that is BOS alone.

    Args:
        files: their paths.
        tokenizer: of the model.
        bars: cut each after so many bars.
        rows: where pieces have axes, cut each after so many of the first one, the rows of an image;
            None: after half of them.
        tempo: of what is written, in quarter notes per minute; None: that of the file.
        as_tokens: begin samples with the music of the prompt's tokens, not with the file's own.

    Raises:
        UserError: a file cannot be used or is too long, or an option makes no sense here.
    """
    if tempo is not None and tokenizer.clock() is None:
        raise UserError(f"--tempo is for music; this run generates {tokenizer.kind}")
    if tempo is not None and not MIN_TEMPO <= tempo <= MAX_TEMPO:
        raise UserError(f"--tempo {tempo:g}: must be from {MIN_TEMPO:g} to {MAX_TEMPO:g}")
    if bars is not None and not files:
        raise UserError("--prompt-bars needs a prompt file: --prompt FILE")
    if bars is not None and tokenizer.clock() is None:
        raise UserError(f"--prompt-bars is for music; this run generates {tokenizer.kind}")
    axes = tokenizer.vocabulary.axes
    if rows is not None and not (files and axes):
        what = "is for images" if files else "needs a prompt file: --prompt FILE"
        raise UserError(f"--prompt-rows {what}")
    if rows is not None and rows >= axes[0]:
        raise UserError(f"--prompt-rows {rows}: images have {axes[0]} rows; give fewer of them")
    if not files:
        return [Prompt(None, _bos(tokenizer), tempo, tokenizer.clock(tempo=tempo))]
    given = math.prod((rows or axes[0] // 2, *axes[1:])) if axes else None
    prompts = [_read(Path(file), tokenizer, bars, tempo, given) for file in files]
    return [replace(prompt, original=None) for prompt in prompts] if as_tokens else prompts


def prompt_of(
    ids: np.ndarray,
    tokenizer: Tokenizer,
    *,
    path: Path | None = None,
    bars: int | None = None,
    tempo: float | None = None,
) -> Prompt:
    """Return the beginning of a piece that is there in tokens already, as a prompt.

    Args:
        ids: of the whole piece [T, F]; what `music_of` leaves out does not matter.
        tokenizer: of the model.
        path: its file, with whose own music what is written begins; None: with that of the tokens.
        bars: end where so many bars have ended, and the next one begins; bars that the piece lacks
            are silent. None: at its end.
        tempo: quarter notes per minute with which it begins.

    Raises:
        UserError: the tokens have no bars, or are too many.
    """
    ids = music_of(ids, tokenizer)
    if tokenizer.clock() is None:
        raise UserError(f"this run writes {tokenizer.kind}: only music has bars to go on from")
    ids, clock, until = _begin(ids, tokenizer, bars=bars, tempo=tempo)
    assert clock is not None
    while bars is not None and tokenizer.bar is not None and clock.bars <= bars:
        clock.feed(tokenizer.bar)
        ids, until = np.concatenate([ids, tokenizer.bar[None]]), clock.bar_start
    if len(ids) > MAX_PROMPT_TOKENS:
        raise UserError(
            f"the piece has {len(ids):,} tokens, more than {MAX_PROMPT_TOKENS:,}: go on from an "
            f"earlier bar"
        )
    n_bars = clock.bars - (len(ids) > 0 and ends_with_bar(ids, tokenizer))
    ids = np.concatenate([_bos(tokenizer), ids])
    if path is None:
        return Prompt(None, ids, tempo, clock, n_bars)
    original = Original(path, len(ids), until)
    return Prompt(str(path), ids, tempo, clock, n_bars, original=original)


def music_of(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Leave out special tokens, marks, and bars begun at the end, of tokens [T, F] -> [·, F]."""
    kinds = [name.partition("_")[0] for name in tokenizer.names()]
    marks = [i for i, kind in enumerate(kinds) if kind in MARKS]
    ids = ids[~np.isin(ids[:, 0], [*marks, *tokenizer.vocabulary.special_ids])]
    while len(ids) and ends_with_bar(ids, tokenizer):
        ids = ids[:-1]
    return ids


def _bos(tokenizer: Tokenizer) -> np.ndarray:
    return tokenizer.vocabulary.special_token(tokenizer.vocabulary.bos_id)[None]


def _read(
    path: Path, tokenizer: Tokenizer, bars: int | None, tempo: float | None, given: int | None
) -> Prompt:
    """Read a file up to `given` tokens, or `bars`."""
    try:
        ids, tempo = tokenizer.encode(path)[:given], tempo or tokenizer.tempo(path)
    except FileRejected as rejected:
        raise UserError(f"prompt {rejected.name}: {rejected.reason}") from None
    ids, clock, until = _begin(ids, tokenizer, bars=bars, tempo=tempo)
    if len(ids) > MAX_PROMPT_TOKENS:
        raise UserError(
            f"the prompt {path} has {len(ids):,} tokens, more than {MAX_PROMPT_TOKENS:,}: "
            f"shorten it, or use --prompt-bars"
        )
    about, left_out = tokenizer.describe(path, until=until)
    if given is not None:
        about += f", the first {given} values given"
    n_bars = 0 if clock is None else clock.bars - ends_with_bar(ids, tokenizer)
    ids = np.concatenate([_bos(tokenizer), ids])
    original = Original(path, len(ids), until)
    return Prompt(str(path), ids, tempo, clock, n_bars, about, tuple(left_out), original)


def _begin(
    ids: np.ndarray, tokenizer: Tokenizer, *, bars: int | None, tempo: float | None
) -> tuple[np.ndarray, Clock | None, float]:
    """Cut tokens [T, F] after `bars`; also return the clock after them, and the time of their end.

    Where several parts are told bar by bar, or bars are counted, they end with the beginning of
    the next bar: no note is added to the last one. The end is in quarter notes, and infinite where
    the file is not cut.
    """
    clock = tokenizer.clock(tempo=tempo)
    if clock is None:
        return ids, None, inf
    start, closes, until, bar = copy(clock), tokenizer.tells_parts, inf, tokenizer.bar
    for i, token in enumerate(ids):
        clock.feed(token)
        if bars is not None and clock.bars > bars:
            ids, closes, until = ids[:i], True, clock.bar_start
            clock = start
            for kept in ids:
                clock.feed(kept)
            break
    if closes and bar is not None:
        clock.feed(bar)
        ids, until = np.concatenate([ids, bar[None]]), clock.bar_start
    return ids, clock, until


def ends_with_bar(ids: np.ndarray, tokenizer: Tokenizer) -> bool:
    """Whether tokens [T, F] end with the one that begins a bar."""
    return tokenizer.bar is not None and bool((ids[-1] == tokenizer.bar).all())


class Until(Rule):
    """Ends a stream after so many new bars or seconds."""

    def __init__(self, prompt: Prompt, bars: int | None, seconds: float | None = None):
        """Begin to count after a prompt.

        Raises:
            UserError: there is a limit, and tokens have no time.
        """
        self._clock = None
        self.is_whole = bars is None and seconds is None
        if self.is_whole:
            return
        if prompt.clock is None:
            raise UserError("--bars and --seconds are for music, which this run does not generate")
        self._clock = copy(prompt.clock)
        self._last_bar = prompt.bars + (inf if bars is None else bars)
        self._end = self._clock.seconds + (inf if seconds is None else seconds)

    def take(self, token: np.ndarray) -> bool:
        """Note a token [F]; return whether it begins a bar too many, or time is over."""
        if self._clock is None:
            return False
        self._clock.feed(token)
        self.is_whole = self._clock.bars > self._last_bar or self._clock.seconds >= self._end
        return self.is_whole


def draw(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling,
    bars: int | None = None,
    seconds: float | None = None,
    **options: Any,
) -> Iterator[Step]:
    """Continue prompts, or write targets for their sources; further options as for `generate`.

    Raises:
        UserError: as for `Until` and `generate`.
    """
    has_limit = bars is not None or seconds is not None
    rules = [Until(prompt, bars, seconds) for prompt in prompts] if has_limit else None
    pairs = prompts[0].pairs
    if pairs is not None:
        never = tuple((i, NEVER) for i in pairs.forbidden)
        sampling = replace(sampling, logit_bias=(*sampling.logit_bias, *never))
    sources = [prompt.source for prompt in prompts if prompt.source is not None]
    given = [prompt.ids for prompt in prompts]
    options |= {"sources": sources or None, "rules": rules}
    steps = generate(decoder, given, sampling=sampling, **options)
    return end_with_bar(steps, tokenizer) if has_limit else steps


def end_with_bar(steps: Iterable[Step], tokenizer: Tokenizer) -> Iterator[Step]:
    """Yield steps so that a row which ends where a bar begins has no music of that bar.

    A merged token may begin a bar and hold its first notes: the beginning of a bar takes its place.
    """
    for step in steps:
        if not step.finished or tokenizer.bar is None:
            yield step
            continue
        ends = np.isin(step.rows, step.finished)
        ends &= np.isin(step.tokens[:, 0], tokenizer.vocabulary.anchors)
        yield replace(step, tokens=np.where(ends[:, None], tokenizer.bar, step.tokens))
