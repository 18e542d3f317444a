"""Train a causal-linear Transformer on sequences, then generate with it step by step.

    import seqgen

    model = seqgen.train("data.source=FOLDER")
    model.generate("song.mid", temperature=0.9)[0].save("continued.mid")

Names are imported when they are first used, so that `import seqgen` is instant.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqgen.api.model import Model, Piece, load
    from seqgen.api.training import prepare, train
    from seqgen.decoding import Engine, Session
    from seqgen.errors import UserError
    from seqgen.sampling import Sampling

_HOMES = {
    "Engine": "seqgen.decoding",
    "Model": "seqgen.api.model",
    "Piece": "seqgen.api.model",
    "Sampling": "seqgen.sampling",
    "Session": "seqgen.decoding",
    "UserError": "seqgen.errors",
    "load": "seqgen.api.model",
    "prepare": "seqgen.api.training",
    "train": "seqgen.api.training",
}
__all__ = [
    "Engine",
    "Model",
    "Piece",
    "Sampling",
    "Session",
    "UserError",
    "load",
    "prepare",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
