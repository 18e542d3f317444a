"""One decode step: the decoders against softmax attention, recomputed and cached.

Each call is a complete step, from tokens to tokens: embedding, stack, output head, draw. `position`
tokens came before the first one that is timed. Decoders and the library continue from there, since
their states keep their size; a cache is set back to `position` before each call, or written at one
and the same slot.
"""

from functools import partial

import torch
from torch import Tensor

from seqgen.benchmark import gpt2, softmax
from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import DECODERS, BenchmarkModel, LibrarySteps
from seqgen.benchmark.records import Record
from seqgen.benchmark.timing import LIBRARY, Call, Timer, Variant
from seqgen.model.state import State

# Wide enough for rounding, on any weights; what is laid out wrongly is off by as much as it is.
REDUCED = {"bf16": BFLOAT16_TOLERANCE, "int8": 0.1, "w8a8": 0.1}


@torch.no_grad()
def check(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> None:
    """Compare each step after a real prompt with the parallel form at that position."""
    quick = timer.effort.quick
    tokens = model.random_tokens(batch, position + 1)
    check_decoders(model, tokens, quick=quick)
    softmax.check(model, tokens, quick=quick)
    gpt2.check_all(model, batch=batch, position=position)


@torch.no_grad()
def check_decoders(model: BenchmarkModel, tokens: Tensor, *, quick: bool) -> None:
    """Compare a step of the library and of each decoder, the last of tokens [B, T, F]."""
    batch, position, last = len(tokens), tokens.shape[1] - 1, tokens[:, -1]
    lengths = torch.full((batch,), position, device=model.device)
    _, state = model.recurrent.prefill(tokens[:, :-1], lengths)
    _, after = model.recurrent.prefill(tokens, lengths + 1)
    parallel = tuple(scores[:, -1] for scores in model.model(tokens))
    library = LibrarySteps(model, state)
    check_equal(LIBRARY, library.advance(last), "the parallel form", parallel)
    slots = torch.arange(batch, device=model.device)
    for name in model.decoder_variants(quick=quick):
        if not model.why_not(name):
            tolerance = REDUCED.get(DECODERS[name][1])
            pool = model.decoder(name).open(batch)
            pool.write(slots, state)
            logits = pool.advance(slots, last)
            check_equal(name, logits, "the parallel form", parallel, tolerance=tolerance)
            _check_states(name, pool.read(slots), after, tolerance=tolerance)


def _check_states(name: str, ours: State, wanted: State, *, tolerance: float | None) -> None:
    """Compare what is carried on; each part by itself, for sums have their own scale."""
    for part in ("S", "Z", "recent", "position", "origin"):
        got, expected = (getattr(state, part) for state in (ours, wanted))
        if got.numel():
            what = f"the state of {name} ({part})"
            if not got.is_floating_point():
                tolerance = 0.0
            check_equal(what, [got], "the parallel form's", [expected], tolerance=tolerance)


@torch.no_grad()
def measure(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> list[Record]:
    """Time one step after `position` tokens, and the draw after it."""
    quick = timer.effort.quick
    draws, last = Draws(model, batch), model.random_tokens(batch, 1)[:, 0]
    state = model.state_at(position, batch)

    def open_library() -> Call:
        """The library's own step, on one set of sums throughout."""
        steps = LibrarySteps(model, state)

        def prepare() -> None:
            steps.state = state

        return Call(lambda _: draws.draw(steps.advance(last)), prepare)

    def open_decoder(name: str) -> Call:
        pool = model.decoder(name).open(batch)
        return softmax.call_of_pool(model, pool, draws, last, state)

    variants = [Variant(LIBRARY, open_library, holds=state.nbytes)]
    for name in model.decoder_variants(quick=quick):
        # Its own sums, and copies while they are written.
        sizes = {"holds": state.nbytes, "needs": 3 * state.nbytes}
        note, dtype = model.why_not(name), DECODERS[name][1]
        make = None if note else partial(open_decoder, name)
        variants.append(Variant(name, make, **sizes, note=note, dtype=dtype))
    variants += softmax.variants(model, draws, last, state, position=position, quick=quick)
    variants += gpt2.variants(model, draws, last, position=position)
    return timer.time(variants, measure="decode", batch=batch, position=position, tokens=batch)
