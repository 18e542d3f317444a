"""Which ids may be drawn, as lookup tables.

Legend: F fields, N ids of all fields side by side, N0 ids of the first field, G groups of ids, R
registers of the grammar.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqgen.vocabulary import Vocabulary


@dataclass(frozen=True)
class Rules:
    """What `Vocabulary.allowed` says, for all that it depends on.

    Attributes:
        allowed: [G + 1, 2, N] bool: what may follow an id of each group, before and after the first
            whole unit. Groups count from 1: entry 0 is for streams without the grammar.
        last_group: group in which each id of the first field ends, 1 to G [N0], int64.
        completes_unit: whether each id of the first field completes a unit [N0], bool.
        bounds, changes: `Grammar.bounds` and `Grammar.changes` [R, N], int32. With registers,
            `allowed` says what may follow apart from them.
        uses, fills: `Vocabulary.uses` [N0, F], bool, and `Vocabulary.fills` [N0], int64.
    """

    allowed: Tensor
    last_group: Tensor
    completes_unit: Tensor
    bounds: Tensor
    changes: Tensor
    uses: Tensor
    fills: Tensor

    @property
    def n_registers(self) -> int:
        """Registers R."""
        return len(self.bounds)

    @classmethod
    def of(cls, vocabulary: Vocabulary, *, device: torch.device | str) -> "Rules":
        """Build the tables of a vocabulary. One without a grammar has one group."""
        grammar, size = vocabulary.grammar, vocabulary.sizes[0]
        ends = np.zeros(size, dtype=np.int64) if grammar is None else grammar.last_group
        completes = np.ones(size, dtype=bool) if grammar is None else grammar.completes_unit
        _, examples, last_group = np.unique(ends, return_index=True, return_inverse=True)
        first = np.ones((len(examples) + 1, 2, size), dtype=bool)
        for has_unit in (0, 1):
            units = np.full(len(examples), bool(has_unit))
            first[1:, has_unit] = vocabulary.allowed(examples[:, None], has_unit=units)
        first[0][:, [vocabulary.bos_id, vocabulary.pad_id]] = False
        nothing = np.zeros((0, size), dtype=np.int32)
        tables = [first, *(_ordinary(vocabulary, n, len(first)) for n in vocabulary.sizes[1:])]
        return cls(
            torch.from_numpy(np.concatenate(tables, axis=-1)).to(device),
            torch.from_numpy(last_group + 1).to(device),
            torch.from_numpy(completes.copy()).to(device),
            torch.tensor(nothing if grammar is None else grammar.bounds, device=device),
            torch.tensor(nothing if grammar is None else grammar.changes, device=device),
            torch.tensor(vocabulary.uses, device=device),
            torch.tensor(vocabulary.fills, device=device),
        )


def _ordinary(vocabulary: Vocabulary, size: int, n_groups: int) -> np.ndarray:
    """All ids of a later field but the special ones, which the first field decides."""
    allowed = np.ones((n_groups, 2, size), dtype=bool)
    allowed[..., list(vocabulary.special_ids)] = False
    return allowed
