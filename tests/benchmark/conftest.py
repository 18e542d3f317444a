"""Models and timers that several tests of the benchmark share."""

import pytest
from tiny_models import TWO_FIELDS, patient_timer, tiny_model

from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.timing import Timer


@pytest.fixture
def model() -> BenchmarkModel:
    return tiny_model(TWO_FIELDS)


@pytest.fixture
def hurried() -> Timer:
    """The timer of a quick run."""
    return patient_timer(measure_seconds=60.0, quick=True)
