"""Whole jobs: all tokens of a piece, or of several at once, from BOS to the last one.

`position` is the number of tokens; a song takes `position / tokens_per_second` seconds. Pieces do
not end earlier, whatever the weights. Warm jobs find the decoder ready; cold ones start a process
(`seqgen.benchmark.cold`). All draw alike. Decoders run behind the engine, which copies each token
to the host; the tokens of the library and of softmax attention stay on the device, which favours
these. On a GPU, `GrowingPool` is launched operation by operation, not as a CUDA graph.

Legend: B rows, T positions, F fields.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from seqgen.benchmark.cold import cold_starts, endless_sampling
from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import check_equal
from seqgen.benchmark.measures import decode
from seqgen.benchmark.peers.growing import GrowingPool
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject, sums_of
from seqgen.benchmark.timing import LIBRARY, Clock, Variant, attempt
from seqgen.decoding import generate
from seqgen.decoding.choose import choose_decoder
from seqgen.errors import UserError

ROUNDED = ("native-w8a8", "cuda-bf16", "torch-int8", "torch-bf16")  # the first one that is here
FULL, COLD = "full-preallocated", "-cold"
COLD_STARTS = 3
CHECKED_ROWS = 8  # of decoders and the library, at most


@torch.no_grad()
def check(subject: Subject, clock: Clock, *, batch: int, position: int) -> None:
    """Compare softmax attention over a cache that fills up with the whole computed at once.

    Steps of the library and of the decoders are compared as those of `decode` are.
    """
    decode.check(subject, clock, batch=min(batch, CHECKED_ROWS), position=position)
    tokens = subject.random_tokens(batch, position)
    pool = GrowingPool(subject.decoder("torch"), n_rows=batch, n_tokens=position)
    slots = torch.arange(batch, device=subject.device)
    for token in tokens.unbind(1):
        logits = pool.advance(slots, token)
    check_equal(f"{FULL} (whole pieces)", logits, "full-recomputed", subject.recompute(tokens))


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time pieces of `position` tokens: warm, and for one piece cold."""
    records = write_pieces(subject, clock, batch=batch, n_tokens=position)
    if batch > 1 or _beyond(subject, position):
        return records
    return [*records, *(_cold(subject, clock, name, position) for name in decoders(subject))]


def decoders(subject: Subject) -> list[str]:
    """Name the decoder that auto takes, the cuda one on a GPU, and the fastest rounded one."""
    exact = [choose_decoder(subject.model)[0], *(["cuda"] if subject.device.type == "cuda" else [])]
    rounded = [name for name in ROUNDED if not subject.why_not(name)]
    return [*dict.fromkeys(exact), *rounded[:1]]


@torch.no_grad()
def write_pieces(
    subject: Subject, clock: Clock, *, batch: int, n_tokens: int, of: str = "job"
) -> list[Record]:
    """Time `batch` pieces at once, with everything ready, as measure `of`."""
    ways: dict[str, Callable[[], Variant]] = {
        LIBRARY: partial(_by_library, subject, batch, n_tokens),
        **{
            name: partial(_by_decoder, subject, name, batch, n_tokens) for name in decoders(subject)
        },
        FULL: partial(_by_cache, subject, batch, n_tokens),
    }
    note = _beyond(subject, n_tokens)
    variants = [
        Variant(name, None, note=note, dtype=_dtype(name))
        if note
        else attempt(name, make, dtype=_dtype(name))
        for name, make in ways.items()
    ]
    return clock.records(
        variants, measure=of, batch=batch, position=n_tokens, tokens=batch * n_tokens, whole=True
    )


def _by_library(subject: Subject, batch: int, n_tokens: int) -> Variant:
    """The library's stack, stepped as `Subject.step` does; states are values but for the sums."""
    draws = Draws(subject, batch, sampling=endless_sampling(subject.model.vocabulary))

    def run(_: object) -> None:
        state = subject.recurrent.initial_state(batch)
        layers, tokens = sums_of(state), _begin(subject, batch)
        for _ in range(n_tokens):
            x, recent, origins = subject.embed(tokens.unsqueeze(1), state)
            hidden, layers = subject.library_recurrent(x.squeeze(1), layers)
            tokens = draws.finish(subject.model.heads(hidden))
            state = replace(
                state, recent=recent[:, 1:], position=state.position + 1, origin=origins[:, 0]
            )

    return Variant(LIBRARY, run)


def _by_decoder(subject: Subject, name: str, batch: int, n_tokens: int) -> Variant:
    """A decoder behind an engine, as `generate` uses it."""
    decoder, vocabulary = subject.decoder(name), subject.model.vocabulary
    prompts = [vocabulary.special_token(vocabulary.bos_id)[None]] * batch
    sampling = endless_sampling(vocabulary)

    def run(_: object) -> None:
        for _ in generate(decoder, prompts, sampling=sampling, max_tokens=n_tokens):
            pass

    return Variant(name, run, dtype=_dtype(name))


def _by_cache(subject: Subject, batch: int, n_tokens: int) -> Variant:
    """Softmax attention with the torch decoder's matrices, and a cache for the whole piece."""
    note = subject.too_large(subject.cache_bytes(n_tokens, batch))
    if note:
        return Variant(FULL, None, note=note)
    pool = GrowingPool(subject.decoder("torch"), n_rows=batch, n_tokens=n_tokens)
    draws = Draws(subject, batch, sampling=endless_sampling(subject.model.vocabulary))

    def run(_: object) -> None:
        tokens = _begin(subject, batch)
        for _ in range(n_tokens):
            tokens = draws.advance(pool, tokens)[0]

    return Variant(FULL, run, prepare=pool.begin)


def _cold(subject: Subject, clock: Clock, name: str, n_tokens: int) -> Record:
    place = {"measure": "job", "batch": 1, "position": n_tokens, "dtype": _dtype(name)}
    decoder, weights = DECODERS[name]
    order = {"decoder": decoder, "weights": weights, "n_tokens": n_tokens}
    if not clock.patient:  # they would take the time of the ratios at the next position
        return clock.untimed(name + COLD, **place, note="skipped: this is a quick run")
    try:
        seconds = cold_starts(subject.model, **order, times=COLD_STARTS)
    except UserError as error:
        return clock.untimed(name + COLD, **place, note=f"not here: {error}")
    return clock.timed_elsewhere(name + COLD, seconds, **place, tokens=n_tokens)


def _begin(subject: Subject, batch: int) -> Tensor:
    """BOS for each row, [B, F]."""
    vocabulary = subject.model.vocabulary
    shape = (batch, len(vocabulary.sizes))
    return torch.full(shape, vocabulary.bos_id, device=subject.device)


def _beyond(subject: Subject, n_tokens: int) -> str:
    if subject.limit is None or n_tokens <= subject.limit:
        return ""
    return f"skipped: the model has {subject.limit} learned positions"


def _dtype(name: str) -> str:
    return DECODERS.get(name, ("", "float32"))[1]
