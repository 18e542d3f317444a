"""Reading a prompt, and the draw of the first token after it: a pass against a step per token.

Legend: B rows, P prompt tokens, F fields.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.measures.decode import check_states
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.timing import Call, Timer, Variant
from seqgen.decoding.decoder import Logits
from seqgen.decoding.pool import Pool
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.state import State

Read = Callable[[Tensor], tuple[Logits, object]]  # a prompt [B, P, F] -> logits, and more
PARALLEL, ROUNDED, SOFTMAX = "parallel", "parallel-bf16", "softmax-parallel"
THROUGH_ALL_LAYERS = 4 * BFLOAT16_TOLERANCE
PART = 8  # a part reads an eighth of the prompt


@torch.no_grad()
def check(model: BenchmarkModel, *, batch: int, position: int) -> None:
    """Compare logits and states of the variants on one prompt."""
    tokens = model.random_tokens(batch, position)
    logits, state = _parallel(model.recurrent, tokens)
    stepped, pool = _by_library(model, tokens)
    check_equal(LIBRARY, stepped, PARALLEL, logits)
    slots = torch.arange(batch, device=model.device)
    check_states(LIBRARY, pool.read(slots), state, tolerance=None)
    softmax, _ = _parallel(model.softmax_twin, tokens)
    check_equal(SOFTMAX, softmax, "softmax-recomputed", model.recompute(tokens))
    if model.has_bfloat16:
        rounded, after = _parallel(model.bf16_prefill, tokens)
        check_equal(ROUNDED, rounded, PARALLEL, logits, tolerance=THROUGH_ALL_LAYERS)
        check_states(ROUNDED, after, state, tolerance=THROUGH_ALL_LAYERS)


@torch.no_grad()
def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Time reading `position` tokens, to the first one drawn."""
    tokens, draws = model.random_tokens(place.batch, place.position), Draws(model, place.batch)
    # One layer's activations at a time: the feed-forward part's are the widest.
    width = model.config.d_ff or 4 * model.config.d_model
    needs = 4 * place.batch * place.position * (8 * model.config.d_model + 2 * width)

    def variant(name: str, read: Read, dtype: str = "float32") -> Variant:
        call = Call(
            lambda length: draws.draw(read(tokens[:, :length])[0]),
            length=place.position,
            part=-(-place.position // PART),
        )
        return Variant(name, lambda: call, needs=needs, dtype=dtype)

    variants = [
        variant(LIBRARY, partial(_by_library, model)),
        variant(PARALLEL, partial(_parallel, model.recurrent)),
        variant(SOFTMAX, partial(_parallel, model.softmax_twin)),
    ]
    if model.has_bfloat16:
        variants.append(variant(ROUNDED, partial(_parallel, model.bf16_prefill), dtype="bf16"))
    return timer.time(variants, place, tokens=place.tokens)


def _parallel(decoder: RecurrentModel, tokens: Tensor) -> tuple[Logits, State]:
    B, P, _ = tokens.shape
    return decoder.prefill(tokens, torch.full((B,), P, device=tokens.device))


def _by_library(model: BenchmarkModel, tokens: Tensor) -> tuple[Logits, Pool]:
    """Step through tokens: the library has no pass that gives the state."""
    pool, slots = model.open(LIBRARY, len(tokens)), torch.arange(len(tokens), device=model.device)
    for token in tokens.unbind(1):
        logits = pool.advance(slots, token)
    return logits, pool
