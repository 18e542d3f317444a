"""Generation: prompts in, and out a `Step` for each decode step or a `Continuation` for each row.

Legend: T positions, U positions of a source, F fields.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.engine import PLAIN, Engine
from seqgen.decoding.guided import Guidance
from seqgen.decoding.rules import Follower, Rule
from seqgen.decoding.stream import Stream
from seqgen.errors import UserError
from seqgen.sampling import Sampling

MAX_STREAMS = 1024  # rows in one decode step
NEVER = -1e6  # added to the logit of a token that must not be drawn
PREFILL_TOKENS = 65_536  # large: unlike in a server, nobody waits for tokens meanwhile

OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Step:
    """The tokens of one decode step: `tokens[i]` [F] continues row `rows[i]`; there may be none.

    `finished` lists the rows that end with this step; `ended` those of them that are whole: their
    token is EOS, or their form is complete.
    """

    rows: tuple[int, ...]
    tokens: np.ndarray
    finished: tuple[int, ...]
    ended: tuple[int, ...]


@dataclass(frozen=True)
class Continuation:
    """What was generated after one prompt.

    Attributes:
        row: which prompt it continues.
        tokens: ids [T, F].
        end: why it ends there: with EOS, at a limit or a stop rule, or because of an interruption.
        seconds: of decoding, from the start of all rows to the end of this one.
        tokens_per_second: over all rows in that time.
    """

    row: int
    tokens: np.ndarray
    end: Literal["eos", "limit", "interrupted"]
    seconds: float
    tokens_per_second: float


def generate(
    decoder: Decoder,
    prompts: Sequence[np.ndarray],
    *,
    sources: Sequence[np.ndarray] | None = None,
    guidance: Sequence[Guidance | None] | None = None,
    sampling: Sampling | Sequence[Sampling] = PLAIN,
    max_tokens: int = 1024,
    rules: Sequence[Rule] | None = None,
    seed: int = 0,
) -> Iterator[Step]:
    """Continue every prompt and yield tokens as they are drawn.

    A row ends with EOS, when its rule says so, or after `max_tokens`; others go on. The tokens of
    row r depend on the prompt, `seed`, r and its rule, not on how many rows there are.

    Args:
        decoder: of the model.
        prompts: one array [T, F] per row, T ≥ 1 (BOS at least); lengths may differ.
        sources: of a model of pairs, what each row is a target of [U, F].
        guidance: what the draws of each row are compared with, or None for nothing.
        sampling: settings of all rows, or of each.
        max_tokens: the most tokens that any row may draw.
        rules: what ends each row, what it is forced to take, which `max_tokens` does not count, and
            what is drawn again. The token that ends a row is still yielded.
        seed: of the draws.

    Raises:
        UserError: a prompt is empty, or does not fit the model's positions.
        ValueError: there are more or fewer settings than rows.
    """
    if not prompts:
        raise UserError("nothing to generate: give at least one prompt (BOS alone is enough)")
    second = [one.prompt for one in guidance or () if one is not None]
    n_tokens = sum(len(tokens) for tokens in (*prompts, *(sources or ()), *second))
    engine = Engine(
        decoder,
        max_streams=min(len(prompts) + len(second), MAX_STREAMS),
        max_waiting=len(prompts),
        max_prompt_tokens=max(n_tokens, 1),
        max_waiting_tokens=max(n_tokens, 1),
        prefill_tokens=PREFILL_TOKENS,
        steps_per_call=None if all(rule.is_passive for rule in rules or ()) else 1,
    )
    settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
    rows: list[_Row] = []
    for number, (prompt, setting) in enumerate(zip(prompts, settings, strict=True)):
        follower = None if rules is None else Follower(engine, rules[number])
        stream = engine.submit(
            prompt,
            source=None if sources is None else sources[number],
            guidance=None if guidance is None else guidance[number],
            sampling=setting,
            max_tokens=max_tokens,
            seed=seed,
            number=number,
            **(follower.options if follower is not None else {}),
        )
        rows.append(_Row(stream, follower))
    while rows:
        before = [row.n_settled for row in rows]
        engine.step()
        yield from _steps(rows, before)
        rows = [row for row in rows if row.stream.finished is None]


def continuations(
    steps: Iterable[Step],
    *,
    on_step: OnStep = lambda n_tokens, n_finished, seconds: None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Continuation]:
    """Yield the continuation of each row as soon as it is finished.

    After an interruption, yield what the unfinished rows have drawn, and end. The seconds leave out
    what the caller does between continuations, such as writing files.

    Args:
        steps: what `generate` yields.
        on_step: called after each step with how many tokens were drawn and how many rows are
            finished so far, and the seconds of decoding.
        is_interrupted: asked after each step.
    """
    drawing: dict[int, list[np.ndarray]] = defaultdict(list)  # tokens, by row
    n_tokens, n_finished, seconds = 0, 0, 0.0

    def take(row: int, end: Literal["eos", "limit", "interrupted"]) -> Continuation:
        rate = n_tokens / max(seconds, 1e-9)
        return Continuation(row, np.stack(drawing.pop(row)), end, seconds, rate)

    begin = time.perf_counter()
    for step in steps:
        seconds += time.perf_counter() - begin
        n_tokens += len(step.rows)
        n_finished += len(step.finished)
        for row, token in zip(step.rows, step.tokens, strict=True):
            drawing[row].append(token)
        for row in step.finished:
            yield take(row, "eos" if row in step.ended else "limit")
        on_step(n_tokens, n_finished, seconds)
        if is_interrupted():
            break
        begin = time.perf_counter()
    for row in list(drawing):
        yield take(row, "interrupted")


@dataclass(frozen=True)
class _Row:
    """A row that is generated, and what lets it follow a rule."""

    stream: Stream
    follower: Follower | None

    @property
    def n_settled(self) -> int:
        """How many tokens it has that stay."""
        return self.stream.n_tokens - (0 if self.follower is None else self.follower.n_held)


def _steps(rows: Sequence[_Row], before: Sequence[int]) -> Iterator[Step]:
    """Yield what rows have taken since they had `before` tokens; an error ends everything."""
    for row in rows:
        if row.stream.error is not None:
            raise row.stream.error
    counts = zip(rows, before, strict=True)
    drawing = [(row.stream, n, row.n_settled) for row, n in counts if row.n_settled > n]
    if not drawing and any(row.n_settled < row.stream.n_tokens for row in rows):
        nothing = rows[0].stream.prompt[:0]  # so that whoever reads can end it meanwhile
        yield Step((), nothing, finished=(), ended=())
    while drawing:
        last = [s for s, n, end in drawing if s.finished is not None and end == n + 1]
        yield Step(
            tuple(stream.number for stream, _, _ in drawing),
            np.stack([stream.tokens[n] for stream, n, _ in drawing]),
            finished=tuple(stream.number for stream in last),
            ended=tuple(stream.number for stream in last if stream.finished == "eos"),
        )
        drawing = [(stream, n + 1, end) for stream, n, end in drawing if end > n + 1]
