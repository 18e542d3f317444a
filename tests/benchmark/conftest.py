"""Subjects and clocks that several tests of the benchmark share."""

import pytest
from subjects import TWO_FIELDS, patient_clock, tiny_subject

from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Clock


@pytest.fixture
def subject() -> Subject:
    return tiny_subject(TWO_FIELDS)


@pytest.fixture
def hurried() -> Clock:
    """A clock of a quick run: a measure begins no further place after a minute."""
    return patient_clock(measure_seconds=60.0)
