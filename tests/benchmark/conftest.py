"""What several tests of the benchmark share."""

import pytest
from tiny_models import TWO_FIELDS, tiny_model

from seqgen.benchmark.model import BenchmarkModel


@pytest.fixture
def model() -> BenchmarkModel:
    return tiny_model(TWO_FIELDS)
