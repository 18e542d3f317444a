"""What a stream carries from step to step, and what a training step keeps for its backward pass."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from seqgen.benchmark.measures.training import FULL, OURS, WAYS, Trainee
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
VARIANTS = ("recurrent", "session", "full-cached", *TRAINING, RECOMPUTED)
PATIENCE = 2048  # positions of one pass through the model, in a quick run


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Count the bytes of streams after `position` tokens, and of a window of so many targets."""
    place = {"measure": "memory", "batch": batch, "position": position}
    with torch.no_grad():
        records = [
            clock.untimed("recurrent", **place, bytes=subject.state_at(position, batch).nbytes),
            clock.untimed("session", **place, bytes=batch * session_bytes(subject, position)),
        ]
        reason = subject.too_large(subject.cache_bytes(position, batch))
        size = None
        if not reason:
            size = sum(x.nbytes for kv in subject.cache_at(position, batch) for x in kv)
        records.append(clock.untimed("full-cached", **place, bytes=size, note=reason))
    return [*records, *_training(subject, clock, place)]


def _training(subject: Subject, clock: Clock, place: dict) -> list[Record]:
    trainee, records = Trainee(subject), []
    tokens = subject.random_tokens(place["batch"], place["position"])
    late = (
        "skipped: a pass takes long, and this is a quick run"
        if len(tokens[0]) > PATIENCE and not clock.patient
        else ""
    )
    for name in (*TRAINING, RECOMPUTED):
        way = WAYS[TRAINING.get(name, OURS)]
        note = late or _beyond(subject, len(tokens[0]))
        if way.attention == LIBRARY and not subject.has_library_kernel:
            note = "not here: the library's kernel is not built"
        trainee.become(way)
        trainee.model.recompute = name == RECOMPUTED
        size = None if note else bytes_kept(trainee, tokens)
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


def bytes_kept(trainee: Trainee, tokens: Tensor) -> int:
    """Count what a forward pass keeps for the backward pass, without keeping it.

    Storages are counted once; parameters, which are there anyway, are not.
    """
    seen: dict[int, StorageWeakRef] = {}
    parameters = {x.untyped_storage()._cdata for x in trainee.model.parameters()}
    total = 0

    def count(x: Tensor) -> None:
        nonlocal total
        storage = x.untyped_storage()
        known = seen.get(storage._cdata)
        if storage._cdata not in parameters and (known is None or known.expired()):
            seen[storage._cdata] = StorageWeakRef(storage)
            total += storage.nbytes()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda _: None):
        trainee.forward(tokens, WAYS[OURS])
    return total


def _beyond(subject: Subject, length: int) -> str:
    if subject.limit is None or length <= subject.limit:
        return ""
    return f"skipped: the model has {subject.limit} learned positions"
