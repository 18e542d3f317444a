"""One decode step: the decoders against full attention, recomputed and cached.

Each call is whole: tokens in, embedding, stack, heads, a draw, tokens out. `position` tokens came
before the first one that is timed. Decoders and the library go on from there, since their states
keep their size; a cache is set back to `position` before each call, or written at one and the same
slot.
"""

import torch

from seqgen.benchmark.draws import Draws, NoDraws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.peers import full
from seqgen.benchmark.place import Place, why_not
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject, sums_of
from seqgen.benchmark.timing import LIBRARY, Clock, Variant, attempt
from seqgen.model.stack import causal_mask
from seqgen.model.state import State

VARIANTS = (LIBRARY, *DECODERS, *full.VARIANTS)
# Wide enough for rounding, on any weights; what is laid out wrongly is off by as much as it is.
REDUCED = {"bf16": BFLOAT16_TOLERANCE, "int8": 0.1, "w8a8": 0.1}


@torch.no_grad()
def check(subject: Subject, clock: Clock, *, batch: int, position: int) -> None:
    """Compare each step after a real prompt with the parallel form at that position."""
    tokens = subject.random_tokens(batch, position + 1)
    last = tokens[:, -1]
    lengths = torch.full((batch,), position, device=subject.device)
    _, state = subject.recurrent.prefill(tokens[:, :-1], lengths)
    _, after = subject.recurrent.prefill(tokens, lengths + 1)
    parallel = tuple(scores[:, -1] for scores in subject.model(tokens))
    slots = torch.arange(batch, device=subject.device)
    library = subject.step(subject.library_recurrent, last, state, sums_of(state))
    check_equal(LIBRARY, library, "the parallel form", parallel)
    for name, (_, weights) in DECODERS.items():
        if not why_not(subject, name, patient=clock.patient):
            tolerance = REDUCED.get(weights)
            pool = subject.decoder(name).open(batch)
            pool.write(slots, state)
            logits = pool.advance(slots, last)
            check_equal(name, logits, "the parallel form", parallel, tolerance=tolerance)
            _check_states(name, pool.read(slots), after, tolerance=tolerance)
    full.check(subject, tokens, state, patient=clock.patient)


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time one step after `position` tokens, and the draw after it."""
    draws = Draws(subject, batch)
    return time_steps(subject, clock, draws, measure="decode", position=position)


@torch.no_grad()
def time_steps(
    subject: Subject, clock: Clock, draws: Draws | NoDraws, *, measure: str, position: int
) -> list[Record]:
    """Time one step after `position` tokens, with what `draws` does to the logits."""
    batch = len(draws.slots)
    tokens, state = subject.random_tokens(batch, position + 1), subject.state_at(position, batch)
    place = Place(subject, tokens, state, draws, patient=clock.patient)
    variants = [_library(place), *(_pooled(place, name) for name in DECODERS)]
    variants += full.variants(place)
    causal_mask.cache_clear()  # of recomputing: hundreds of megabytes for long contexts
    return clock.records(variants, measure=measure, batch=batch, position=position, tokens=batch)


def _library(place: Place) -> Variant:
    """The library's own step, on one set of sums throughout."""
    subject, layers = place.subject, sums_of(place.state)
    step = lambda _: place.draws.finish(  # noqa: E731
        subject.step(subject.library_recurrent, place.last, place.state, layers)
    )
    return Variant(LIBRARY, step, grows=False)


def _pooled(place: Place, name: str) -> Variant:
    """A decoder, in a pool of its own."""
    weights = DECODERS[name][1]
    note = why_not(place.subject, name, patient=place.patient)
    # Its own, a copy while it is written, and what a step makes of it before that is let go.
    note = note or place.subject.too_large(4 * place.state.nbytes)
    if note:
        return Variant(name, None, note=note, dtype=weights)
    make = lambda: place.pooled(  # noqa: E731
        name, place.subject.decoder(name).open(len(place.last)), dtype=weights, grows=False
    )
    return attempt(name, make, dtype=weights)


def _check_states(name: str, ours: State, wanted: State, *, tolerance: float | None) -> None:
    """Compare what is carried on; each part by itself, for sums have their own scale."""
    for part in ("S", "Z", "recent", "position", "origin"):
        got, expected = (getattr(state, part) for state in (ours, wanted))
        if got.numel():
            what = f"the state of {name} ({part})"
            if not got.is_floating_point():
                tolerance = 0.0
            check_equal(what, [got], "the parallel form's", [expected], tolerance=tolerance)
