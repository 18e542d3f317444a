"""Softmax attention in all its ways: recomputed, with the library's cache, with better ones."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.peers import hugging_face
from seqgen.benchmark.peers.cached import open_cached, preallocate
from seqgen.benchmark.place import Place, why_not
from seqgen.benchmark.subject import DECODERS, Subject
from seqgen.benchmark.timing import Variant, attempt
from seqgen.model.state import State

# By variant: the decoder whose matrices it has, the dtype of its cache, the check's tolerance.
CACHED = {
    "full-preallocated": ("torch", torch.float32, None),
    "full-preallocated-bf16": ("torch-bf16", torch.bfloat16, 2 * BFLOAT16_TOLERANCE),
    "full-preallocated-int8": ("torch-int8", torch.float32, 0.1),
}
# By variant: its dtype, and whether it is compiled.
GPT2 = {
    hugging_face.name_of(dtype, compiled=compiled): (dtype, compiled)
    for dtype in ("float32", "bf16")
    for compiled in (False, True)
}
VARIANTS = (*CACHED, *GPT2, "full-cached", "full-recomputed", "onnx-runtime")
NO_EXPORT = "not here: seqgen exports no ONNX model yet"
PATIENCE = 1024  # positions computed again, in a quick run


def check(subject: Subject, tokens: Tensor, state: State, *, patient: bool) -> None:
    """Compare steps on tokens [B, T + 1, F] with the whole computed again; `state` is after T."""
    prompt, last = tokens[:, :-1], tokens[:, -1]
    batch, position, _ = prompt.shape
    recomputed, cache = subject.recompute(tokens), subject.cache_after(prompt)
    for name, (matrices, dtype, tolerance) in CACHED.items():
        if not why_not(subject, matrices, patient=patient):
            ahead = preallocate(cache, position, dtype)
            pool = open_cached(subject.decoder(matrices), ahead, state)
            slots = torch.arange(batch, device=subject.device)
            logits = pool.advance(slots, last)
            check_equal(name, logits, "full-recomputed", recomputed, tolerance=tolerance)
    library = subject.step(subject.full_recurrent, last, state, cache)
    check_equal("full-cached", library, "full-recomputed", recomputed)
    hugging_face.check(subject, batch=batch, position=position)
    if patient and batch == 1:  # as it is timed
        for dtype, tolerance in (("float32", None), ("bf16", BFLOAT16_TOLERANCE)):
            if not hugging_face.why_not(subject, dtype, compiled=True):
                where = {"batch": batch, "position": position}
                hugging_face.check_in(subject, dtype, **where, tolerance=tolerance, compiled=True)


def variants(place: Place) -> list[Variant]:
    """Make all of them ready at a place, the hardest opponents first: memory may not suffice."""
    short = place.subject.short_cache(len(place.last))
    ahead: dict[torch.dtype, tuple[Tensor, Tensor]] = {}  # caches, which variants share
    made = []
    for name, (matrices, *_) in CACHED.items():
        make = partial(_preallocated, place, name, short, ahead)
        made.append(attempt(name, make, dtype=DECODERS[matrices][1]))
    del short, ahead
    for name, (dtype, _) in GPT2.items():
        made.append(attempt(name, partial(_gpt2, place, name), dtype=dtype))
    made.append(attempt("full-cached", partial(_cached, place)))
    made.append(_recomputed(place))
    made.append(Variant("onnx-runtime", None, note=NO_EXPORT))
    return made


def _preallocated(
    place: Place,
    name: str,
    short: Sequence[Sequence[Tensor]],
    ahead: dict[torch.dtype, tuple[Tensor, Tensor]],
) -> Variant:
    matrices, dtype, _ = CACHED[name]
    subject, weights = place.subject, DECODERS[matrices][1]
    note = why_not(subject, matrices, patient=place.patient)
    if not note and dtype not in ahead:
        size = subject.cache_bytes(place.position, len(place.last))
        note = subject.too_large(size * dtype.itemsize // 4)
    if note:
        return Variant(name, None, note=note, dtype=weights)
    if dtype not in ahead:
        ahead[dtype] = preallocate(short, place.position, dtype)
    pool = open_cached(subject.decoder(matrices), ahead[dtype], place.state)
    return place.pooled(name, pool, dtype=weights, grows=True)


def _cached(place: Place) -> Variant:
    """The library's own cache, which is copied at every step, with the new token behind it."""
    subject, batch = place.subject, len(place.last)
    note = subject.too_large(2 * subject.cache_bytes(place.position, batch))
    if note:
        return Variant("full-cached", None, note=note)
    cache = subject.cache_at(place.position, batch)
    step = lambda layers: place.draws.finish(  # noqa: E731
        subject.step(subject.full_recurrent, place.last, place.state, layers)
    )
    return Variant("full-cached", step, lambda: [list(kv) for kv in cache])


def _recomputed(place: Place) -> Variant:
    subject = place.subject
    scores = subject.score_bytes(place.position + 1, len(place.last))
    # Products, masked, softmax; and the mask, which the library keeps in two forms.
    note = subject.too_large(3 * scores + 5 * (place.position + 1) ** 2)
    if place.position > PATIENCE and not place.patient:
        note = "skipped: a pass takes long, and this is a quick run"
    run = lambda _: place.draws.finish(subject.recompute(place.tokens))  # noqa: E731
    return Variant("full-recomputed", None if note else run, note=note)


def _gpt2(place: Place, name: str) -> Variant:
    dtype, compiled = GPT2[name]
    note = hugging_face.why_not(place.subject, dtype, compiled=compiled)
    if compiled and not note and not (place.patient and len(place.last) == 1):
        note = "skipped: it is compiled anew for each place, which is done for one row only"
    if note:
        return Variant(name, None, note=note, dtype=dtype)
    return hugging_face.variant(
        place.subject,
        place.last,
        position=place.position,
        finish=place.draws.finish,
        dtype=dtype,
        compiled=compiled,
    )
