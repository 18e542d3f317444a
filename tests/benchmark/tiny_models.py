"""Models small enough that nothing takes time."""

import torch

from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.timing import Effort, Timer
from seqgen.config import ModelConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.vocabulary import Field, Vocabulary

ONE_FIELD = Vocabulary((Field("token", 11),), bos_id=1, eos_id=2, pad_id=0, anchors=(5, 7))
TWO_FIELDS = Vocabulary((Field("a", 7), Field("b", 5)), bos_id=1, eos_id=2, pad_id=0)


def tiny_model(vocabulary=ONE_FIELD, *, quick=False, **settings):
    config = ModelConfig(**{"d_model": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.0} | settings)
    return BenchmarkModel(SequenceModel(config, vocabulary), weights="random weights", quick=quick)


def patient_timer(**effort):
    """A timer that waits for what a quick run leaves out."""
    least = {"seconds": 0.01, "max_repeats": 2, "longest_call": 10.0}
    return Timer(Effort(**least | effort), device=torch.device("cpu"))
