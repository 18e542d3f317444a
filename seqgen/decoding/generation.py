"""Generation: every prompt a stream of one engine, and a `Step` for each of its decode steps.

Legend: T positions, F fields.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.engine import PLAIN, Engine
from seqgen.decoding.stream import Stream
from seqgen.errors import UserError
from seqgen.sampling import Sampling

MAX_STREAMS = 1024  # rows in one decode step
PREFILL_TOKENS = 65_536  # large: unlike in a server, nobody waits for tokens meanwhile

RowStop = Callable[[int, np.ndarray], bool]


@dataclass(frozen=True)
class Step:
    """The tokens of one decode step: `tokens[i]` [F] continues row `rows[i]`.

    `finished` lists the rows that end with this step; `ended` those of them whose token is EOS.
    """

    rows: tuple[int, ...]
    tokens: np.ndarray
    finished: tuple[int, ...]
    ended: tuple[int, ...]


def generate(
    decoder: Decoder,
    prompts: Sequence[np.ndarray],
    *,
    sampling: Sampling | Sequence[Sampling] = PLAIN,
    max_tokens: int = 1024,
    stop: RowStop | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Continue every prompt and yield tokens as they are drawn.

    A row ends with EOS, when `stop(row, token)` says so, or after `max_tokens`; others go on. The
    tokens of row r depend on the prompt, `seed` and r, not on how many rows there are.

    Args:
        decoder: of the model.
        prompts: one array [T, F] per row, T ≥ 1 (BOS at least); lengths may differ.
        sampling: settings of all rows, or of each.
        max_tokens: the most tokens that any row may draw.
        stop: called with each drawn token; the token that stops a row is still yielded.
        seed: of the draws.

    Raises:
        UserError: a prompt is empty, or does not fit the model's positions.
        ValueError: there are more or fewer settings than rows.
    """
    if not prompts:
        raise UserError("nothing to generate: give at least one prompt (BOS alone is enough)")
    n_tokens = sum(len(prompt) for prompt in prompts)
    engine = Engine(
        decoder,
        max_streams=min(len(prompts), MAX_STREAMS),
        max_waiting=len(prompts),
        max_prompt_tokens=max(n_tokens, 1),
        max_waiting_tokens=max(n_tokens, 1),
        prefill_tokens=PREFILL_TOKENS,
    )
    settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
    rule = None if stop is None else lambda stream, token: stop(stream.number, token)
    live = [
        engine.submit(
            prompt, sampling=setting, max_tokens=max_tokens, stop=rule, seed=seed, number=row
        )
        for row, (prompt, setting) in enumerate(zip(prompts, settings, strict=True))
    ]
    while live:
        before = [stream.n_tokens for stream in live]
        engine.step()
        yield from _steps(live, before)
        live = [stream for stream in live if stream.finished is None]


def _steps(streams: Sequence[Stream], before: Sequence[int]) -> Iterator[Step]:
    """Yield what streams have drawn since they had `before` tokens; an error ends everything."""
    for stream in streams:
        if stream.error is not None:
            raise stream.error
    drawing = [pair for pair in zip(streams, before, strict=True) if pair[0].n_tokens > pair[1]]
    while drawing:
        rows = [stream.number for stream, _ in drawing]
        tokens = np.stack([stream.tokens[n] for stream, n in drawing])
        last = [s for s, n in drawing if s.finished is not None and s.n_tokens == n + 1]
        yield Step(
            tuple(rows),
            tokens,
            finished=tuple(stream.number for stream in last),
            ended=tuple(stream.number for stream in last if stream.finished == "eos"),
        )
        drawing = [(stream, n + 1) for stream, n in drawing if stream.n_tokens > n + 1]
