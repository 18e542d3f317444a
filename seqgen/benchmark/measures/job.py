"""Whole jobs: all tokens of a piece, or of several at once, from BOS to the last one.

`position` is the number of tokens; a song takes `position / tokens_per_second` seconds. Pieces do
not end earlier, whatever the weights, and all ways draw alike. Decoders run behind the engine,
which copies each token to the host; the tokens of the library and of softmax attention stay on the
device, which favours these. On a GPU, the growing cache is launched operation by operation, not as
a CUDA graph.

Legend: B rows, T positions, F fields.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqgen.benchmark import softmax
from seqgen.benchmark.draws import Draws, endless_sampling
from seqgen.benchmark.measures.decode import check_decoders
from seqgen.benchmark.model import DECODERS, BenchmarkModel, LibrarySteps
from seqgen.benchmark.records import Record
from seqgen.benchmark.timing import LIBRARY, Call, Timer, Variant
from seqgen.decoding import generate
from seqgen.decoding.choose import choose_decoder

ROUNDED = ("native-w8a8", "cuda-bf16", "torch-int8", "torch-bf16")  # the first one available
STATIC = "softmax-preallocated"  # whose cache fills up here
CHECKED_ROWS = 8
PART = 16  # tokens of a piece that is written first


@torch.no_grad()
def check(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> None:
    """Compare steps of the library, of the decoders and of a cache that fills up, as in decode."""
    tokens = model.random_tokens(min(batch, CHECKED_ROWS), position + 1)
    check_decoders(model, tokens, quick=timer.effort.quick)
    softmax.check(model, tokens, quick=timer.effort.quick)


def decoders(model: BenchmarkModel) -> list[str]:
    """Name the decoder that auto takes, the cuda one on a GPU, and the fastest rounded one."""
    exact = [choose_decoder(model.model)[0], *(["cuda"] if model.device.type == "cuda" else [])]
    rounded = [name for name in ROUNDED if not model.why_not(name)]
    return [*dict.fromkeys(exact), *rounded[:1]]


def measure(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> list[Record]:
    """Time `batch` pieces of `position` tokens at once, with everything ready."""
    sampling = endless_sampling(model.model.vocabulary)
    bos = model.model.vocabulary.special_token(model.model.vocabulary.bos_id)

    def begin() -> Tensor:
        return torch.from_numpy(bos).to(model.device).long().expand(batch, -1)

    def library() -> Callable[[int], None]:
        draws = Draws(model, batch, sampling=sampling)

        def write(n_tokens: int) -> None:
            state, tokens = model.recurrent.initial_state(batch), begin()
            steps = LibrarySteps(model, state)
            for _ in range(n_tokens):
                tokens = draws.draw(steps.advance(tokens))

        return write

    def decoder(name: str) -> Callable[[int], None]:
        """A decoder in an engine, as `generate` uses it."""
        built, prompts = model.decoder(name), [bos[None]] * batch

        def write(n_tokens: int) -> None:
            for _ in generate(built, prompts, sampling=sampling, max_tokens=n_tokens):
                pass

        return write

    def static_cache() -> Callable[[int], None]:
        """Softmax attention with the torch decoder's matrices, and a cache for the whole piece."""
        pool = softmax.StaticCachePool(
            softmax.decoder(model, "torch"), n_rows=batch, capacity=position
        )
        draws = Draws(model, batch, sampling=sampling)

        def write(n_tokens: int) -> None:
            pool.begin()
            tokens = begin()
            for _ in range(n_tokens):
                tokens = draws.advance(pool, tokens)

        return write

    ways: dict[str, Callable[[], Callable[[int], None]]] = {
        LIBRARY: library,
        **{name: partial(decoder, name) for name in decoders(model)},
    }
    state = model.recurrent.initial_state(1).nbytes * batch
    holds = {STATIC: model.cache_bytes(position, batch)}
    variants = [
        Variant(
            name,
            partial(_call, make, position),
            holds=holds.get(name, state),
            dtype=DECODERS.get(name, ("", "float32"))[1],
        )
        for name, make in (ways | {STATIC: static_cache}).items()
    ]
    place: dict[str, Any] = {"measure": "job", "batch": batch, "position": position}
    return timer.time(variants, **place, tokens=batch * position, whole_pieces=True)


def _call(make: Callable[[], Callable[[int], None]], n_tokens: int) -> Call:
    write, part = torch.no_grad()(make()), min(PART, n_tokens)
    return Call(lambda _: write(n_tokens), part=lambda: write(part), parts=n_tokens / part)
