"""Guidance: what is asked for weighs more, by a second stream of which nothing is asked.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from seqgen.errors import UserError
from seqgen.model.state import State


@dataclass(frozen=True, eq=False)
class Guidance:
    """What a stream's draws are compared with: a second stream, which takes what it draws.

    Attributes:
        prompt: what the second stream begins with, ids [T, F]: as the first one's, without what is
            asked for.
        scale: 1: as without guidance; above: more of what is asked for.

    Raises:
        UserError: the scale is negative, infinite or NaN.
    """

    prompt: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise UserError(f"guidance {self.scale:g}: must be 0 or more, and finite")


@dataclass(frozen=True, eq=False)
class Guide:
    """The second stream of a guided one, as a value.

    Attributes:
        state: of one row.
        pending: the token [F] that it takes next; the state does not hold it yet.
        scale: as in `Guidance`.
    """

    state: State
    pending: np.ndarray
    scale: float


def guided_logits(both: Sequence[Tensor], scale: Tensor) -> list[Tensor]:
    """Return the logits that guided tokens are drawn from: c + (scale - 1) (c - o).

    That is classifier-free guidance (Ho and Salimans 2022, equation 6, with w = scale - 1) of each
    token; c are the logits of the stream that is told what is asked for, o those of the second.

    Args:
        both: logits [2 B, N_f] of each field, c first; not changed.
        scale: of each row [B, 1].

    Returns:
        [B, N_f] of each field.
    """
    pairs = [field.chunk(2) for field in both]
    return [asked + (scale - 1) * (asked - free) for asked, free in pairs]
