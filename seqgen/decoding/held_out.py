"""Held-out tokens of a trained run, on which decoders are compared.

Legend: B rows, T positions, F fields.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqgen.checkpoint import RunFolder, read_run
from seqgen.data.shards import PreparedData
from seqgen.data.splits import VALIDATION
from seqgen.errors import UserError


def held_out(run: Path, tokenizer: str, *, rows: int, length: int) -> Tensor | None:
    """Read the beginnings of held-out pieces, ids [B, T, F].

    Args:
        run: a run folder; the prepared data that it names may be missing.
        tokenizer: fingerprint of the run's; data of another one is not taken.
        rows, length: how many pieces B, and tokens T of each.

    Returns:
        None where the data is missing, or has too few pieces of that length.
    """
    try:
        data = PreparedData(Path(read_run(RunFolder(run))["data"]))
        if data.tokenizer.fingerprint() != tokenizer:
            return None
    except UserError:
        return None
    pieces = [p for p in data.of_split(VALIDATION) if p.variants[0][1] >= length]
    if len(pieces) < rows:
        return None
    return torch.from_numpy(np.stack([data.read(p, stop=length) for p in pieces[:rows]]))
