"""What a stream carries from step to step: our state, and the cache of full attention."""

import torch

from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject, too_large
from seqgen.benchmark.timing import Clock

VARIANTS = ("recurrent", "full-cached")


@torch.no_grad()
def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Count the bytes of both after `position` tokens, over all rows."""
    place = {"measure": "memory", "batch": batch, "position": position}
    state = subject.state_at(position, batch)
    reason = too_large(subject.cache_bytes(position, batch))
    size = None
    if not reason:
        size = sum(x.nbytes for kv in subject.cache_at(position, batch) for x in kv)
    return [
        clock.untimed("recurrent", **place, bytes=state.nbytes),
        clock.untimed("full-cached", **place, bytes=size, note=reason),
    ]
