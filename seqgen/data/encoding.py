"""Tokenizing many files in worker processes; a bad file is a value, not an exception."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from seqgen.config import LimitsConfig
from seqgen.data.corpora import Progress
from seqgen.errors import FileRejected
from seqgen.tokenizers import Shift, Tokenizer, load_tokenizer

FEW = 24  # files up to which starting processes costs more than it saves
Job = tuple[Path, Sequence[Shift]]


@dataclass(frozen=True)
class Encoded:
    """One file in tokens: its variants [T, F], the unchanged one first, and its units."""

    variants: list[np.ndarray]
    units: int


def encode_files(
    jobs: Sequence[Job],
    tokenizer_folder: Path,
    limits: LimitsConfig,
    *,
    workers: int,
    progress: Progress | None,
) -> Iterator[tuple[Path, Encoded | FileRejected]]:
    """Yield each file with its tokens, or with why it was turned away, in the order given."""
    n_workers = min(workers or os.cpu_count() or 1, len(jobs))
    if len(jobs) <= FEW or n_workers == 1:
        tokenizer = load_tokenizer(tokenizer_folder, limits)
        yield from _told(jobs, (_encode(tokenizer, job) for job in jobs), progress)
        return
    pool = ProcessPoolExecutor(
        n_workers,
        mp_context=get_context("spawn"),
        initializer=_start_worker,
        initargs=(tokenizer_folder, limits),
    )
    try:
        chunk = max(1, min(8, len(jobs) // (4 * n_workers)))
        yield from _told(jobs, pool.map(_encode_in_worker, jobs, chunksize=chunk), progress)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _told(jobs: Sequence[Job], results: Iterator, progress: Progress | None) -> Iterator:
    for done, (job, result) in enumerate(zip(jobs, results, strict=True), start=1):
        yield job[0], result
        if progress is not None:
            progress("reading files", done, len(jobs))


def _encode(tokenizer: Tokenizer, job: Job) -> Encoded | FileRejected:
    path, shifts = job
    try:
        variants = tokenizer.encode_variants(path, shifts)
    except FileRejected as rejected:
        return rejected
    return Encoded(variants, tokenizer.units(variants[0]))


_worker_tokenizer: Tokenizer | None = None


def _start_worker(folder: Path, limits: LimitsConfig) -> None:
    global _worker_tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    _worker_tokenizer = load_tokenizer(folder, limits)


def _encode_in_worker(job: Job) -> Encoded | FileRejected:
    assert _worker_tokenizer is not None
    return _encode(_worker_tokenizer, job)
