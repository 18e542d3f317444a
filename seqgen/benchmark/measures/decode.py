"""One decode step: the decoders against full attention, recomputed and cached.

Each call is whole: tokens in, embedding, stack, heads, a draw, tokens out. `position` tokens came
before the first one that is timed. Decoders and the library go on from there, since their states
keep their size; a cache is set back to `position` before each call.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject, sums_of
from seqgen.benchmark.timing import LIBRARY, Clock, Variant
from seqgen.decoding.pool import Pool
from seqgen.model.state import State
from seqgen.sampling import Sampler, Sampling

VARIANTS = (LIBRARY, *DECODERS, "full-cached", "full-preallocated", "full-recomputed")
LEFT_OUT = ("torch-bf16", "torch-int8", "native-bf16", "native-int8")  # of a quick run
SAMPLING = Sampling(temperature=1.0, top_k=40)
# Wide enough for rounding, on any weights; what is laid out wrongly is off by as much as it is.
REDUCED = {"bf16": BFLOAT16_TOLERANCE, "int8": 0.1, "w8a8": 0.1}
PATIENCE = 1024  # positions computed again, in a quick run
WARM_UP = 3  # calls: a graph is recorded in the second one and replayed in the third


class Draws:
    """One sampler and B streams, for all variants of a place."""

    def __init__(self, subject: Subject, batch: int):
        vocabulary = subject.model.vocabulary
        self.slots = torch.arange(batch, device=subject.device)
        self._listed = list(range(batch))
        self._sampler = Sampler(vocabulary, batch, device=subject.device)
        prompt = np.full((1, len(vocabulary.sizes)), vocabulary.bos_id)
        for slot in self._listed:
            self._sampler.enter(slot, SAMPLING, seed=(0, slot), prompt=prompt)

    def draw(self, logits: Sequence[Tensor]) -> Tensor:
        """Draw from logits [B, N_f] by field -> ids [B, F]."""
        self._sampler.prepare(self._listed, 1)
        return self._sampler.draw(logits, self.slots)

    def run(self, pool: Pool, tokens: Tensor) -> Tensor:
        """Make a step of a pool with tokens [B, F] and a draw after it -> ids [1, B, F]."""
        self._sampler.prepare(self._listed, 1)
        return pool.run(self.slots, tokens, self._sampler, 1)


@torch.no_grad()
def check(subject: Subject, clock: Clock, *, batch: int, position: int) -> None:
    """Compare each step after a real prompt with the parallel form at that position."""
    tokens = subject.random_tokens(batch, position + 1)
    prompt, last = tokens[:, :-1], tokens[:, -1]
    lengths = torch.full((batch,), position, device=subject.device)
    _, state = subject.recurrent.prefill(prompt, lengths)
    _, after = subject.recurrent.prefill(tokens, lengths + 1)
    parallel = tuple(scores[:, -1] for scores in subject.model(tokens))
    slots = torch.arange(batch, device=subject.device)
    library = subject.step(subject.library_recurrent, last, state, sums_of(state))
    check_equal(LIBRARY, library, "the parallel form", parallel)
    for name, (_, weights) in DECODERS.items():
        if not _why_not(subject, clock, name):
            tolerance = REDUCED.get(weights)
            pool = subject.decoder(name).open(batch)
            pool.write(slots, state)
            logits = pool.advance(slots, last)
            check_equal(name, logits, "the parallel form", parallel, tolerance=tolerance)
            _check_states(name, pool.read(slots), after, tolerance=tolerance)
    recomputed = subject.recompute(tokens)
    cached = subject.step(subject.full_recurrent, last, state, subject.cache_after(prompt))
    check_equal("full-cached", cached, "full-recomputed", recomputed)
    _, full_state = subject.full_preallocated.prefill(prompt, lengths)
    preallocated, _ = subject.full_preallocated.step(last, full_state)
    check_equal("full-preallocated", preallocated, "full-recomputed", recomputed)


@torch.no_grad()
def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time one step after `position` tokens."""
    tokens = subject.random_tokens(batch, position + 1)
    draws, state = Draws(subject, batch), subject.state_at(position, batch)
    last, layers = tokens[:, -1], sums_of(state)
    variants = [
        Variant(
            LIBRARY,
            lambda _: draws.draw(subject.step(subject.library_recurrent, last, state, layers)),
        ),
        *(_pooled(subject, clock, name, last, state=state, draws=draws) for name in DECODERS),
        *_cached(subject, last, state=state, draws=draws),
    ]
    reason = subject.too_large(
        3 * subject.score_bytes(position + 1, batch)
    )  # products, masked, softmax
    if position > PATIENCE and not clock.patient:
        reason = "skipped: a pass takes long, and this is a quick run"
    run = None if reason else lambda _: draws.draw(subject.recompute(tokens))
    variants.append(Variant("full-recomputed", run, note=reason))
    return clock.records(variants, measure="decode", batch=batch, position=position, tokens=batch)


def _pooled(
    subject: Subject, clock: Clock, name: str, last: Tensor, *, state: State, draws: Draws
) -> Variant:
    """Make the variant of a decoder, warmed up, in a pool of its own."""
    weights, note = DECODERS[name][1], _why_not(subject, clock, name)
    if note:
        return Variant(name, None, note=note, dtype=weights)
    pool = subject.decoder(name).open(len(last))
    begin = partial(pool.write, draws.slots, state)
    begin()
    # Learned positions end, so that such a stream begins anew before each step.
    prepare = begin if subject.limit else lambda: None
    for _ in range(WARM_UP):
        prepare()
        draws.run(pool, last)
    return Variant(name, lambda _: draws.run(pool, last), prepare, dtype=weights)


def _cached(subject: Subject, last: Tensor, *, state: State, draws: Draws) -> list[Variant]:
    """Make the variants with a KV cache: one copied at each step, and one allocated ahead."""
    batch, position = len(last), int(state.position[0])
    reason = subject.too_large(subject.cache_bytes(position, batch))
    if reason:
        return [Variant(name, None, note=reason) for name in ("full-cached", "full-preallocated")]
    cache = subject.cache_at(position, batch)
    full = subject.preallocated(cache)
    *_, n_written = full.attention
    return [
        Variant(
            "full-cached",
            lambda layers: draws.draw(subject.step(subject.full_recurrent, last, state, layers)),
            prepare=lambda: [list(kv) for kv in cache],
        ),
        Variant(
            "full-preallocated",
            lambda _: draws.draw(subject.full_preallocated.step(last, full)[0]),
            prepare=lambda: n_written.fill_(position),  # what the step before wrote is taken back
        ),
    ]


def _check_states(name: str, ours: State, wanted: State, *, tolerance: float | None) -> None:
    """Compare what is carried on; each part by itself, for sums have their own scale."""
    for part in ("S", "Z", "recent", "position", "origin"):
        got, expected = (getattr(state, part) for state in (ours, wanted))
        if got.numel():
            what = f"the state of {name} ({part})"
            check_equal(what, [got], "the parallel form's", [expected], tolerance=tolerance)


def _why_not(subject: Subject, clock: Clock, name: str) -> str:
    """Say why a decoder is not measured, or nothing."""
    if name in LEFT_OUT and not clock.patient:
        return "skipped: making it ready takes long, and this is a quick run"
    return subject.why_not(name)
