"""The validity part of an evaluation: whether others can open what was written, and play it whole.

Legend: T positions, F fields.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.errors import FileRejected
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.validity import Validity, check_file, check_read
from seqgen.tokenizers import Tokenizer

CHECKS = ("miditoolkit", "symusic", "has_notes", "bars_complete")


def check_generated(pieces: Sequence[Generated], *, progress: Progress) -> dict:
    """Check each generated file, and count how many pass each check."""
    found = []
    for done, piece in enumerate(pieces, start=1):
        found.append(check_read(piece.path, piece.read))
        progress("checking generated files", done, len(pieces))
    failed = [
        {"file": piece.name, **validity.to_json()}
        for piece, validity in zip(pieces, found, strict=True)
        if not validity.ok
    ]
    return {"generated": _shares(found), "failed": failed}


def check_real(pieces: Sequence[np.ndarray], tokenizer: Tokenizer, *, progress: Progress) -> dict:
    """Check real pieces [T, F], written from their tokens, as the measure of what is usual."""
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mid"
        for done, ids in enumerate(pieces, start=1):
            try:
                tokenizer.decode(ids, path)
                found.append(check_file(path))
            except FileRejected:
                continue  # no whole note is among these tokens
            progress("checking real pieces", done, len(pieces))
    return _shares(found)


def _shares(found: Sequence[Validity]) -> dict:
    counts = {name: sum(getattr(validity, name) for validity in found) for name in CHECKS}
    opened = sum(v.miditoolkit and v.symusic and v.has_notes for v in found)
    return {"files": len(found), "usable": opened, **counts}
