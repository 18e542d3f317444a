"""Reading a prompt, and the draw of the first token after it: a pass against a step per token.

Legend: B rows, P prompt tokens, F fields.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import BenchmarkModel, LibrarySteps
from seqgen.benchmark.records import Record
from seqgen.benchmark.timing import LIBRARY, Call, Timer, Variant
from seqgen.decoding.decoder import Decoder, Logits
from seqgen.model.recurrent_model import RecurrentModel

PARALLEL, ROUNDED, SOFTMAX = "parallel", "parallel-bf16", "softmax-parallel"
THROUGH_ALL_LAYERS = 4 * BFLOAT16_TOLERANCE
PART = 8  # a part reads an eighth of the prompt


@torch.no_grad()
def check(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> None:
    """Compare logits and sums of the variants on one prompt."""
    tokens = model.random_tokens(batch, position)
    logits, state = _parallel(model.recurrent, tokens)
    library = _library(model, batch)
    for token in tokens.unbind(1):
        stepped = library.advance(token)
    check_equal(LIBRARY, stepped, PARALLEL, logits)
    S, Z = (torch.stack(part) for part in zip(*library.layers, strict=True))
    check_equal(f"the state of {LIBRARY}", [S, Z], "the parallel one", [state.S, state.Z])
    softmax, _ = _parallel(model.softmax_twin, tokens)
    check_equal(SOFTMAX, softmax, "softmax-recomputed", model.recompute(tokens))
    if model.has_bfloat16:
        rounded, after = _parallel(model.bf16_prefill, tokens)
        check_equal(ROUNDED, rounded, PARALLEL, logits, tolerance=THROUGH_ALL_LAYERS)
        what, parts = f"the state of {ROUNDED}", ([after.S, after.Z], [state.S, state.Z])
        check_equal(what, parts[0], "the parallel one", parts[1], tolerance=THROUGH_ALL_LAYERS)


@torch.no_grad()
def measure(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> list[Record]:
    """Time reading `position` tokens, to the first one drawn."""
    tokens, draws = model.random_tokens(batch, position), Draws(model, batch)

    def by_library(prompt: Tensor) -> Logits:
        steps = _library(model, batch)
        for token in prompt.unbind(1):
            logits = steps.advance(token)
        return logits

    def variant(name: str, read: Callable[[Tensor], Logits], dtype: str = "float32") -> Variant:
        part = tokens[:, : -(-position // PART)]
        call = Call(
            lambda _: draws.draw(read(tokens)),
            part=lambda: draws.draw(read(part)),
            parts=position / part.shape[1],
        )
        # One layer's activations at a time: the feed-forward part's are the widest.
        width = model.config.d_ff or 4 * model.config.d_model
        needs = 4 * batch * position * (8 * model.config.d_model + 2 * width)
        return Variant(name, lambda: call, needs=needs, dtype=dtype)

    variants = [
        variant(LIBRARY, by_library),
        variant(PARALLEL, lambda prompt: _parallel(model.recurrent, prompt)[0]),
        variant(SOFTMAX, lambda prompt: _parallel(model.softmax_twin, prompt)[0]),
    ]
    if model.has_bfloat16:
        read = lambda prompt: _parallel(model.bf16_prefill, prompt)[0]  # noqa: E731
        variants.append(variant(ROUNDED, read, dtype="bf16"))
    return timer.time(
        variants, measure="prefill", batch=batch, position=position, tokens=batch * position
    )


def _parallel(decoder: Decoder | RecurrentModel, tokens: Tensor):
    B, P, _ = tokens.shape
    return decoder.prefill(tokens, torch.full((B,), P, device=tokens.device))


def _library(model: BenchmarkModel, n_rows: int) -> LibrarySteps:
    """Begin before the first token: the library has no pass that gives the state."""
    return LibrarySteps(model, model.recurrent.initial_state(n_rows))
