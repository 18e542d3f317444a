"""Models and clocks that several tests of the benchmark share."""

import pytest
from tiny_models import TWO_FIELDS, patient_clock, tiny_model

from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.timing import Clock


@pytest.fixture
def model() -> BenchmarkModel:
    return tiny_model(TWO_FIELDS)


@pytest.fixture
def hurried() -> Clock:
    """The clock of a quick run."""
    return patient_clock(measure_seconds=60.0, quick=True)
