"""Guidance: what is asked for weighs more, by a second stream of which nothing is asked.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.generation import RowStop, Step
from seqgen.errors import UserError
from seqgen.model.state import State
from seqgen.sampling import Sampler, SamplerState, Sampling

Pair = tuple[np.ndarray, np.ndarray]  # ids [T, F]: with what is asked for, and without
ForcePair = Callable[[int, np.ndarray], Pair]


def generate_guided(
    decoder: Decoder,
    prompts: Sequence[Pair],
    *,
    scale: float,
    sampling: Sequence[Sampling],
    max_tokens: int,
    stop: RowStop,
    force: ForcePair,
    seed: int,
) -> Iterator[Step]:
    """Continue prompts as `generate` does, with the logits of two streams for each row.

    Tokens are drawn from the logits c + (scale - 1) (c - o), c of the stream that is told what is
    asked for and o of the one that is not; both take what was drawn. That is classifier-free
    guidance (Ho and Salimans 2022, equation 6, with w = scale - 1) of each token. With scale 1 the
    draws are those of `generate`.

    Args:
        decoder: of the model.
        prompts: of each row, for both streams.
        scale: 1: no guidance; above: more of what is asked for.
        sampling: settings of each row.
        max_tokens: the most tokens that any row may draw.
        stop: called with each token that the first stream of a row takes.
        force: called with each drawn token of a row that goes on; returns what both then take.
        seed: of the draws.

    Raises:
        UserError: the scale is negative, infinite or NaN.
    """
    if not 0 <= scale < float("inf"):
        raise UserError(f"guidance {scale:g}: must be 0 or more, and finite")
    n, vocabulary, device = len(prompts), decoder.vocabulary, decoder.device
    pool = decoder.open(2 * n)
    sampler = Sampler(vocabulary, n, device=device, chain=decoder.chain)
    pending = np.zeros((2 * n, len(vocabulary.fields)), dtype=np.int64)

    def take(slot: int, tokens: np.ndarray, before: State | None) -> None:
        """Let a stream take all of some tokens but the last, which is pending then."""
        state = decoder.initial_state(1) if before is None else before
        if len(tokens) > 1:
            given = torch.from_numpy(tokens[None, :-1]).to(device)
            lengths = torch.tensor([len(tokens) - 1], device=device)
            _, state = decoder.prefill(given, lengths, before)
        pool.write(torch.tensor([slot], device=device), state)
        pending[slot] = tokens[-1]

    for row, (asked, free) in enumerate(prompts):
        take(row, asked, None)
        take(n + row, free, None)
        first = SamplerState.first(vocabulary, sampling[row], seed=(seed, row), prompt=asked)
        sampler.restore(row, first)
    live, n_drawn = list(range(n)), [0] * n
    while live:
        slots = torch.tensor([*live, *(n + row for row in live)], device=device)
        tokens = torch.from_numpy(pending[slots.cpu().numpy()]).to(device)
        pairs = [field.clone().chunk(2) for field in pool.advance(slots, tokens)]
        logits = [asked + (scale - 1) * (asked - free) for asked, free in pairs]
        sampler.prepare(live)
        drawn = sampler.draw(logits, slots[: len(live)]).cpu().numpy()
        following: dict[int, np.ndarray] = {}
        ends: dict[int, bool] = {}  # rows that end, and whether with EOS
        for row, token in zip(live, drawn, strict=True):
            pending[[row, n + row]] = token
            n_drawn[row] += 1
            if token[0] == vocabulary.eos_id:
                ends[row] = True
            elif stop(row, token) or n_drawn[row] >= max_tokens:
                ends[row] = False
            else:
                asked, free = force(row, token)
                for slot, given in ((row, asked), (n + row, free)):
                    if len(given):
                        place = torch.tensor([slot], device=device)
                        take(slot, np.concatenate([token[None], given]), pool.read(place))
                if len(asked):
                    sampler.restore(row, sampler.state(row).after(vocabulary, asked))
                    following[row] = asked
                    stops = [stop(row, one) for one in asked]  # all: a rule may count
                    if any(stops):
                        ends[row] = False
        yield from _steps(live, drawn, following, ends)
        live = [row for row in live if row not in ends]


def _steps(
    rows: Sequence[int],
    drawn: np.ndarray,
    following: dict[int, np.ndarray],
    ends: dict[int, bool],
) -> Iterator[Step]:
    """Yield what rows have drawn, and what followed without a draw."""
    series = {row: [token, *following.get(row, ())] for row, token in zip(rows, drawn, strict=True)}
    for k in range(max(map(len, series.values()))):
        taking = [row for row in rows if k < len(series[row])]
        last = [row for row in taking if row in ends and k == len(series[row]) - 1]
        yield Step(
            tuple(taking),
            np.stack([series[row][k] for row in taking]),
            finished=tuple(last),
            ended=tuple(row for row in last if ends[row]),
        )
