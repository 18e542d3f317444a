"""Does a piece copy the training set, and which piece of it, measured against real pieces."""

from seqgen.evaluation.copying.corpus import Corpus, Runs
from seqgen.evaluation.copying.likeness import Likeness, find_likeness
from seqgen.evaluation.copying.limits import Limits, find_limits
from seqgen.evaluation.copying.material import Material, note_material, token_material
from seqgen.evaluation.copying.report import CopyReport, PieceCopy, copying

__all__ = [
    "CopyReport",
    "Corpus",
    "Likeness",
    "Limits",
    "Material",
    "PieceCopy",
    "Runs",
    "copying",
    "find_likeness",
    "find_limits",
    "note_material",
    "token_material",
]
