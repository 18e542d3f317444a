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

import torch

from seqgen.benchmark import softmax
from seqgen.benchmark.draws import Draws, endless_sampling
from seqgen.benchmark.measures import decode
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.timing import Call, Timer, Variant
from seqgen.decoding import generate
from seqgen.decoding.choose import choose_decoder
from seqgen.decoding.pool import Pool

ROUNDED = ("native-w8a8", "cuda-bf16", "torch-int8", "torch-bf16")  # the first one available
STATIC = "softmax-preallocated"  # whose cache fills up here
CHECKED_ROWS = 8
PART = 16  # tokens of a piece that is written first
Write = Callable[[int], None]  # so many tokens of all pieces


def check(model: BenchmarkModel, *, batch: int, position: int) -> None:
    """Compare steps of the library, of the decoders and of a cache that fills up, as in decode."""
    decode.check(model, batch=min(batch, CHECKED_ROWS), position=position)


def decoders(model: BenchmarkModel) -> list[str]:
    """Name the decoder that auto takes, the cuda one on a GPU, and the fastest rounded one."""
    exact = [choose_decoder(model.model)[0], *(["cuda"] if model.device.type == "cuda" else [])]
    rounded = [name for name in ROUNDED if not model.why_not(name)]
    return [*dict.fromkeys(exact), *rounded[:1]]


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Time `batch` pieces of `position` tokens at once, with everything ready."""
    state = model.recurrent.initial_state(place.batch).nbytes

    def variant(name: str, make: Callable[[], Write], holds: int = state) -> Variant:
        def open_pieces() -> Call:
            return Call(make(), length=place.position, part=min(PART, place.position))

        return Variant(name, open_pieces, holds=holds, dtype=model.dtype(name))

    def static_cache() -> Pool:
        return softmax.StaticCachePool(
            model, STATIC, n_rows=place.batch, capacity=place.position, grows=True
        )

    variants = [
        variant(LIBRARY, lambda: _in_pool(model, model.open(LIBRARY, place.batch), place.batch)),
        *(variant(name, partial(_in_engine, model, name, place.batch)) for name in decoders(model)),
        variant(
            STATIC,
            lambda: _in_pool(model, static_cache(), place.batch),
            holds=model.cache_bytes(place.position, place.batch),
        ),
    ]
    return timer.time(variants, place, tokens=place.tokens, whole_pieces=True)


def _in_engine(model: BenchmarkModel, name: str, batch: int) -> Write:
    """Pieces of a decoder in an engine, as `generate` uses it."""
    vocabulary = model.model.vocabulary
    prompts = [vocabulary.special_token(vocabulary.bos_id)[None]] * batch
    sampling, decoder = endless_sampling(vocabulary), model.decoder(name)

    def write(n_tokens: int) -> None:
        for _ in generate(decoder, prompts, sampling=sampling, max_tokens=n_tokens):
            pass

    return write


def _in_pool(model: BenchmarkModel, pool: Pool, batch: int) -> Write:
    """Pieces of all rows of a pool, one step after the other."""
    vocabulary = model.model.vocabulary
    draws = Draws(model, batch, sampling=endless_sampling(vocabulary))
    bos = torch.from_numpy(vocabulary.special_token(vocabulary.bos_id)).to(model.device).long()
    empty = model.recurrent.initial_state(batch)

    @torch.no_grad()
    def write(n_tokens: int) -> None:
        pool.write(draws.slots, empty)
        tokens = bos.expand(batch, -1)
        for _ in range(n_tokens):
            tokens = draws.advance(pool, tokens)

    return write
