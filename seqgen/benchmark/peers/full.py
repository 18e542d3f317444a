"""Softmax attention in all its ways: recomputed, with the library's cache, with better ones."""

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
    recomputed, cache = subject.recompute(tokens), subject.cache_after(prompt)
    for name, (matrices, dtype, tolerance) in CACHED.items():
        if not why_not(subject, matrices, patient=patient):
            pool = open_cached(subject.decoder(matrices), preallocate(cache, dtype), state)
            slots = torch.arange(len(tokens), device=subject.device)
            logits = pool.advance(slots, last)
            check_equal(name, logits, "full-recomputed", recomputed, tolerance=tolerance)
    library = subject.step(subject.full_recurrent, last, state, cache)
    check_equal("full-cached", library, "full-recomputed", recomputed)
    hugging_face.check(subject, batch=len(tokens), position=tokens.shape[1] - 1)


def variants(place: Place) -> list[Variant]:
    """Make all of them ready at a place, the hardest opponents first: memory may not suffice."""
    cache_bytes = place.subject.cache_bytes(place.position, len(place.last))
    note = place.subject.too_large(2 * cache_bytes)
    cached = [*CACHED, "full-cached"]
    if note:
        made = {name: Variant(name, None, note=note) for name in cached}
    else:
        made = _with_cache(place, cache_bytes)
    for name, (dtype, _) in GPT2.items():
        made[name] = attempt(name, partial(_gpt2, place, name), dtype=dtype)
    made["full-recomputed"] = _recomputed(place)
    made["onnx-runtime"] = Variant("onnx-runtime", None, note=NO_EXPORT)
    return [made[name] for name in VARIANTS]


def _with_cache(place: Place, cache_bytes: int) -> dict[str, Variant]:
    subject, made = place.subject, {}
    cache = subject.cache_at(place.position, len(place.last))
    ahead: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
    for name, (matrices, dtype, _) in CACHED.items():
        weights = DECODERS[matrices][1]
        note = why_not(subject, matrices, patient=place.patient)
        if not note and dtype not in ahead:
            note = subject.too_large(cache_bytes * dtype.itemsize // 4)
        if note:
            made[name] = Variant(name, None, note=note, dtype=weights)
            continue
        ahead[dtype] = ahead.get(dtype) or preallocate(cache, dtype)
        pool = open_cached(subject.decoder(matrices), ahead[dtype], place.state)
        made[name] = place.pooled(name, pool, dtype=weights)
    step = lambda layers: place.draws.finish(  # noqa: E731
        subject.step(subject.full_recurrent, place.last, place.state, layers)
    )
    note = subject.too_large(cache_bytes)  # for it is copied
    made["full-cached"] = Variant(
        "full-cached", None if note else step, lambda: [list(kv) for kv in cache], note=note
    )
    return made


def _recomputed(place: Place) -> Variant:
    subject = place.subject
    scores = subject.score_bytes(place.position + 1, len(place.last))
    note = subject.too_large(3 * scores)  # products, masked, softmax
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
