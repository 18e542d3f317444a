"""Measures of single pieces, and how far a set of them lies from another."""

from seqgen.evaluation.music.definitions import DEFINITIONS, SOURCES, Definition
from seqgen.evaluation.music.distances import Comparison, Summary, compare
from seqgen.evaluation.music.measures import Measures, measure
from seqgen.evaluation.music.openings import opening

__all__ = [
    "DEFINITIONS",
    "SOURCES",
    "Comparison",
    "Definition",
    "Measures",
    "Summary",
    "compare",
    "measure",
    "opening",
]
