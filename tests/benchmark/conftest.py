"""What several tests of the benchmark share."""

import gc

import pytest
from tiny_models import TWO_FIELDS, tiny_model

from seqgen.benchmark.model import BenchmarkModel


@pytest.fixture(scope="module", autouse=True)
def _quick_collections():
    """Timers collect garbage often: what is imported by now need not be searched each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def model() -> BenchmarkModel:
    return tiny_model(TWO_FIELDS)
