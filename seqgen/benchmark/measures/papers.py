"""Whole jobs of two papers' sizes, on this machine, with the figures that the papers give.

`position` is the number of tokens of a piece, which names the job. Rows are those that the job
names for a device, or the given ones.
"""

from dataclasses import replace

from seqgen.benchmark.measures import job as pieces
from seqgen.benchmark.papers import JOBS, Job, published, subject_of
from seqgen.benchmark.plans import THEIRS
from seqgen.benchmark.records import Record
from seqgen.benchmark.setting import sizes_of
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock

CHECKED_LENGTH = 48  # tokens after which steps are compared before pieces are timed
SKIPPED = "skipped: whole jobs take long, and this is a quick run"


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time the jobs whose pieces have `position` tokens, on the device of `subject`."""
    records = []
    for job in [job for job in JOBS if job.n_tokens == position]:
        rows = job.batches[subject.device.type] if batch == THEIRS else (batch,)
        if clock.patient:
            records += _pieces(job, subject, clock, rows)
        else:
            place = {"measure": "papers", "batch": rows[0], "position": position}
            records.append(clock.untimed(job.name, **place, note=SKIPPED))
    return records


def afterwards(subject: Subject, clock: Clock) -> list[Record]:
    """List what the papers say."""
    return [record for job in JOBS for record in published(job, clock)]


def _pieces(job: Job, subject: Subject, clock: Clock, rows: tuple[int, ...]) -> list[Record]:
    """Check and time a job's own model; `Clock` knows it by the job's name."""
    own, records = subject_of(job, subject.device), []
    for batch in sorted({min(batch, pieces.CHECKED_ROWS) for batch in rows}):
        pieces.check(own, clock, batch=batch, position=min(CHECKED_LENGTH, job.n_tokens - 1))
    for batch in rows:
        records += pieces.write_pieces(own, clock, batch=batch, n_tokens=job.n_tokens, of=job.name)
    sizes = sizes_of(own)
    return [
        replace(
            record,
            measure="papers",
            variant=f"{job.name}/{record.variant}",
            setting=replace(record.setting, sizes=sizes),
        )
        for record in records
    ]
