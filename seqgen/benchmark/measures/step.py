"""One decode step without the draw after it: tokens in, logits out; else as `decode`."""

from seqgen.benchmark.draws import NoDraws
from seqgen.benchmark.measures import decode
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock

VARIANTS, check = decode.VARIANTS, decode.check


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time one step after `position` tokens."""
    draws = NoDraws(subject, batch)
    return decode.time_steps(subject, clock, draws, measure="step", position=position)
