"""Whole jobs of two papers: their architectures, and the figures that they give.

Hsiao et al. 2021, "Compound Word Transformer": full songs of compound words.
Katharopoulos et al. 2020, "Transformers are RNNs": images, a pixel's channel at a time.
"""

from dataclasses import dataclass

import torch

from seqgen.benchmark.records import PUBLISHED, Record
from seqgen.benchmark.setting import Setting
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock
from seqgen.config import ModelConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary

HSIAO = "Hsiao et al. 2021"
KATHAROPOULOS = "Katharopoulos et al. 2020"


@dataclass(frozen=True)
class PublishedFigure:
    """What a paper says.

    Attributes:
        way: which of its ways of computing.
        per_second: tokens a second, summed over rows.
        seconds: of one piece; None where only a throughput is given.
        batch: pieces at once; 0 where it is as many as were best.
        hardware: that of its authors.
    """

    way: str
    per_second: float
    hardware: str
    seconds: float | None = None
    batch: int = 1


@dataclass(frozen=True)
class Job:
    """Pieces of one kind.

    Attributes:
        name: begins the names of its variants.
        n_tokens: of a piece.
        sizes: of the model.
        fields: ids of each field, without the special ones.
        batches: pieces at once, by kind of device.
        source: the paper.
        figures: its own.
    """

    name: str
    n_tokens: int
    sizes: ModelConfig
    fields: dict[str, int]
    batches: dict[str, tuple[int, ...]]
    source: str
    figures: tuple[PublishedFigure, ...]


def _images(n_layers: int) -> ModelConfig:
    """8 heads of 32; the paper's learned table of positions costs as much as computed ones."""
    return ModelConfig(
        n_layers=n_layers,
        d_model=256,
        n_heads=8,
        d_ff=1024,
        dropout=0.0,
        positions="sinusoidal",
        input_window=0,
    )


def _throughputs(n_tokens: int, **images_per_second: float) -> tuple[PublishedFigure, ...]:
    return tuple(
        PublishedFigure(way.replace("_", "-"), n_tokens * rate, hardware="a GPU", batch=0)
        for way, rate in images_per_second.items()
    )


def _latencies(n_tokens: int, **seconds: float) -> tuple[PublishedFigure, ...]:
    return tuple(
        PublishedFigure(way.replace("_", "-"), n_tokens / taken, hardware="a CPU", seconds=taken)
        for way, taken in seconds.items()
    )


JOBS = (
    # Theirs draws the type of a token first and the other fields after it, and joins embeddings of
    # different widths by one more matrix; ours draws all fields at once and sums embeddings.
    Job(
        name="compound-word",
        n_tokens=1431,  # 20.92 s at 68.4 steps/s
        sizes=ModelConfig(
            n_layers=12,
            d_model=512,
            n_heads=8,
            d_ff=2048,
            dropout=0.0,
            positions="sinusoidal",
            input_window=0,
        ),
        fields={
            "type": 3,
            "tempo": 56,
            "chord": 135,
            "bar-beat": 18,
            "pitch": 87,
            "duration": 18,
            "velocity": 25,
        },
        batches={"cpu": (1, 16), "cuda": (1, 256)},
        source=HSIAO,
        figures=(PublishedFigure("linear", 68.4, hardware="NVIDIA RTX 2080 Ti", seconds=20.9),),
    ),
    Job(
        name="mnist",
        n_tokens=784,
        sizes=_images(8),
        fields={"intensity": 256},
        batches={"cpu": (1, 16), "cuda": (1, 1024)},
        source=KATHAROPOULOS,
        figures=_throughputs(784, softmax=0.45, softmax_cached=7.56, linear=142.8)
        + _latencies(784, softmax=72.6, softmax_cached=7.4, linear=5.5),
    ),
    # The paper predicts a mixture of ten logistics; we draw from 256 categories, a larger head.
    Job(
        name="cifar10",
        n_tokens=3072,
        sizes=_images(16),
        fields={"intensity": 256},
        batches={"cpu": (1, 16), "cuda": (1, 1024)},
        source=KATHAROPOULOS,
        figures=_throughputs(3072, softmax=0.004, softmax_cached=0.32, linear=17.85),
    ),
)


def subject_of(job: Job, device: torch.device) -> Subject:
    """Make a model of a job's sizes, with random weights."""
    first, *_ = job.fields.values()  # special ids come after the first field's own, in all fields
    special = {"bos_id": first, "eos_id": first + 1, "pad_id": first + 2}
    fields = tuple(Field(name, n + 3) for name, n in job.fields.items())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SequenceModel(job.sizes, Vocabulary(fields, **special))
    return Subject(model.to(device), weights="random weights")


def published(job: Job, clock: Clock) -> list[Record]:
    """Return what the paper says as records without samples, whose notes say where it is from."""
    return [
        clock.untimed(
            f"{job.name}/{PUBLISHED}-{figure.way}",
            measure="papers",
            batch=figure.batch,
            position=job.n_tokens,
            threads=0,
            median_seconds=figure.seconds,
            tokens_per_second=figure.per_second,
            note=f"{PUBLISHED}: {figure.hardware}, {job.source}",
            setting=Setting(device=figure.hardware),
        )
        for figure in job.figures
    ]
