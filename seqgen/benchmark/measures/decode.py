"""One decode step: the decoders against softmax attention, recomputed and cached.

Each call is a complete step, from tokens to tokens: embedding, stack, output head, draw. `position`
tokens came before the first one that is timed. Decoders and the library continue from there, since
their states keep their size; a cache is set back to `position` before each call, or written at one
and the same slot.
"""

from functools import partial

import torch

from seqgen.benchmark import gpt2, softmax
from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.timing import Call, Timer, Variant
from seqgen.model.state import State

# Wide enough for rounding, on any weights; what is laid out wrongly is off by as much as it is.
REDUCED = {"bf16": BFLOAT16_TOLERANCE, "int8": 0.1, "w8a8": 0.1}


@torch.no_grad()
def check(model: BenchmarkModel, *, batch: int, position: int) -> None:
    """Compare each step after a real prompt with the parallel form at that position."""
    tokens = model.random_tokens(batch, position + 1)
    lengths = torch.full((batch,), position, device=model.device)
    slots = torch.arange(batch, device=model.device)
    _, state = model.recurrent.prefill(tokens[:, :-1], lengths)
    _, after = model.recurrent.prefill(tokens, lengths + 1)
    parallel = tuple(scores[:, -1] for scores in model.model(tokens))
    for name in (LIBRARY, *model.decoder_names):
        if not model.why_not(name):
            tolerance = REDUCED.get(model.dtype(name))
            pool = model.open(name, batch)
            pool.get_ready(slots, tokens[:, -1])
            pool.write(slots, state)
            logits = pool.advance(slots, tokens[:, -1])
            check_equal(name, logits, "the parallel form", parallel, tolerance=tolerance)
            check_states(name, pool.read(slots), after, tolerance=tolerance)
    softmax.check(model, tokens)
    gpt2.check(model, tokens)


def check_states(name: str, ours: State, wanted: State, *, tolerance: float | None) -> None:
    """Compare what is carried on; each part by itself, for sums have their own scale."""
    for part in ("S", "Z", "recent", "position", "origin", "held"):
        got, expected = (getattr(state, part) for state in (ours, wanted))
        if got.numel():
            what = f"the state of {name} ({part})"
            allowed = tolerance if got.is_floating_point() else 0.0
            check_equal(what, [got], "the parallel form's", [expected], tolerance=allowed)


@torch.no_grad()
def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Time one step after `position` tokens, and the draw after it."""
    draws, last = Draws(model, place.batch), model.random_tokens(place.batch, 1)[:, 0]
    state = model.state_at(place.position, place.batch)

    def open_steps(name: str) -> Call:
        return draws.call(model.open(name, place.batch), last, state)

    variants = [
        Variant(
            name,
            partial(open_steps, name),
            holds=state.nbytes,
            needs=3 * state.nbytes,  # copies while it is written
            note=model.why_not(name),
            dtype=model.dtype(name),
        )
        for name in (LIBRARY, *model.decoder_names)
    ]
    for peers in (softmax, gpt2):
        variants += peers.variants(model, draws, last, state, position=place.position)
    return timer.time(variants, place, tokens=place.batch)
