"""The memory of a stream between steps, and what a training step keeps for its backward pass."""

from functools import partial

import torch

from seqgen.benchmark.measures.training import OURS, SOFTMAX, WAYS, Trainee, why_not
from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.peak import kept_bytes
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.timing import Timer

STATE = "recurrent"
CACHES = {"softmax-cache": torch.float32, "softmax-cache-bf16": torch.bfloat16}
RECOMPUTED = "training-recomputed"
TRAINING = {
    "training-library": WAYS[LIBRARY],
    "training": WAYS[OURS],
    RECOMPUTED: WAYS[OURS],
    "training-softmax": WAYS[SOFTMAX],
}
LONGEST_PASS = {True: 2048, False: 16_384}  # positions, by quick: softmax over more takes minutes


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Count the bytes of streams after `position` tokens, and of a window of so many targets."""
    state = model.recurrent.initial_state(place.batch)  # as large as any other
    records = [timer.untimed(STATE, place, bytes=state.nbytes)]
    for name, dtype in CACHES.items():
        size = model.cache_bytes(place.position, place.batch, itemsize=dtype.itemsize)
        records.append(timer.untimed(name, place, dtype=str(dtype)[6:], bytes=size))
    # What each training variant would keep for its backward pass, without keeping it.
    trainee = Trainee(model)
    tokens = model.random_tokens(place.batch, place.position)
    longest = LONGEST_PASS[model.quick]
    is_long = place.position > longest
    note = f"left out: no pass over more than {longest} positions is made" if is_long else ""
    for name, way in TRAINING.items():
        if not why_not(model, way):
            trainee.model.recompute = name == RECOMPUTED
            forward = partial(trainee.forward, tokens, way)
            kept = None if note else kept_bytes(forward, trainee.model.parameters())
            records.append(timer.untimed(name, place, bytes=kept, note=note))
    return records
