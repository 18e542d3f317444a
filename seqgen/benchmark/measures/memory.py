"""What a stream carries from step to step, and what a training step keeps for its backward pass."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from seqgen.benchmark.measures.training import FULL, OURS, WAYS, Trainee
from seqgen.benchmark.peak import kept_bytes
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import LIBRARY, Clock
from seqgen.decoding.session import Session
from seqgen.sampling import SamplerRow, Sampling

TRAINING = {
    "training-library": LIBRARY,
    "training": OURS,
    "training-chunked": "chunked",
    "training-full": FULL,
}
RECOMPUTED = "training-recomputed"
CACHES = {"full-cached": torch.float32, "full-cached-bf16": torch.bfloat16}
VARIANTS = ("recurrent", "session", *CACHES, *TRAINING, RECOMPUTED)
PATIENCE = 2048  # positions of one pass through the model, in a quick run
LONGEST_PASS = 16_384  # positions of any pass: softmax over more takes minutes
MEMORIES_GIB = (8, 24, 80)  # of which one asks how many streams fit


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Count the bytes of streams after `position` tokens, and of a window of so many targets."""
    place = {"measure": "memory", "batch": batch, "position": position}
    with torch.no_grad():
        records = [
            clock.untimed("recurrent", **place, bytes=subject.state_at(position, batch).nbytes),
            clock.untimed("session", **place, bytes=batch * session_bytes(subject, position)),
        ]
        records += _caches(subject, clock, place)
    return [*records, *_training(subject, clock, place)]


def streams_that_fit(memory_bytes: float, *, weight_bytes: int, stream_bytes: int) -> int:
    """Say how many streams have room beside one copy of the weights.

    Args:
        memory_bytes: of the device.
        weight_bytes: of the model.
        stream_bytes: of one stream's state, or of its cache at the length that it is to reach.
    """
    return max(0, int(memory_bytes - weight_bytes) // stream_bytes)


def _caches(subject: Subject, clock: Clock, place: dict) -> list[Record]:
    """Count the bytes of caches, by making them where they fit."""
    batch, position = place["batch"], place["position"]
    reason, sizes = subject.too_large(2 * subject.cache_bytes(position, batch)), {}
    if not reason:
        cache = [x for layer in subject.cache_at(position, batch) for x in layer]
        sizes = {n: sum(x.to(dtype).nbytes for x in cache) for n, dtype in CACHES.items()}
    return [
        clock.untimed(
            name, **place, dtype=str(dtype)[len("torch.") :], bytes=sizes.get(name), note=reason
        )
        for name, dtype in CACHES.items()
    ]


def _training(subject: Subject, clock: Clock, place: dict) -> list[Record]:
    trainee, records = Trainee(subject), []
    tokens = subject.random_tokens(place["batch"], place["position"])
    late = (
        "skipped: a pass takes long, and this is a quick run"
        if len(tokens[0]) > PATIENCE and not clock.patient
        else ""
    )
    if len(tokens[0]) > LONGEST_PASS:
        late = f"skipped: no pass over more than {LONGEST_PASS} positions is made"
    for name in (*TRAINING, RECOMPUTED):
        way = WAYS[TRAINING.get(name, OURS)]
        note = late or _beyond(subject, len(tokens[0]))
        if way.attention == LIBRARY and not subject.has_library_kernel:
            note = "not here: the library's kernel is not built"
        trainee.become(way)
        trainee.model.recompute = name == RECOMPUTED
        size = None if note else _kept(trainee, tokens)
        records.append(clock.untimed(name, **place, bytes=size, note=note))
    return records


def session_bytes(subject: Subject, position: int) -> int:
    """Save the session of one stream after `position` tokens, and return the size of its file."""
    vocabulary = subject.model.vocabulary
    begin = np.full((1, len(vocabulary.sizes)), vocabulary.bos_id)
    session = Session(
        state=subject.state_at(position, 1).to("cpu"),
        pending=begin[0],
        sampler=SamplerRow.first(vocabulary, Sampling(top_k=40), seed=(0, 0), prompt=begin),
        fingerprint=subject.decoder("recurrent").fingerprint,
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stream.session"
        session.save(path)
        return path.stat().st_size


def _kept(trainee: Trainee, tokens: Tensor) -> int:
    return kept_bytes(lambda: trainee.forward(tokens, WAYS[OURS]), trainee.model.parameters())


def _beyond(subject: Subject, length: int) -> str:
    if subject.limit is None or length <= subject.limit:
        return ""
    return f"skipped: the model has {subject.limit} learned positions"
